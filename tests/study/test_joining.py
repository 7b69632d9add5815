"""Between an entrance and the first pair: consent, questions, instructions; and what is at the end."""

from typing import Any

from sqlalchemy import select, update

from study.config import Completion, Consent, Demographic, Pairs, Prompts, Quota
from study.schema import Assignment, DemographicAnswer, Voter
from study.store import Store
from tests.study.conftest import PID, PROLIFIC, NewBrowser, SetUp, persons, voters

CONSENT = Consent(text="# What we do\n\nWe **show** pictures.", age=18)
SCREEN = Demographic(id="screen", text="On what?", choices=("a phone", "a computer"), screen_out=("a phone",))
AGE = Demographic(id="years", text="How old are you?")


# Consent


def test_consent_and_age(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    protocol = set_up(consent=CONSENT)
    one = browser()
    assert 'href="/consent"' in one.go("/").text
    page = one.go("/consent").text
    assert "<strong>show</strong>" in page
    assert "I am 18 years old or older." in page
    assert "I do not take part" in page
    refused = one.send("/start", protocol=protocol.hash, answer="agree")
    assert refused.status_code == 400
    assert "tick the box about your age" in refused.text
    refused = one.send("/start", protocol=protocol.hash, age="yes")
    assert refused.status_code == 400
    assert persons(store) == []
    one.send("/start", protocol=protocol.hash, answer="agree", age="yes")
    assert one.path == "/instructions"
    [person] = persons(store)
    assert person.protocol == protocol.hash
    assert person.consented
    with store.read() as session:
        voter = session.get(Voter, person.voter_id)
    assert voter
    assert person.consented <= voter.created < person.consented + 60


def test_there_is_no_way_round_consent(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(consent=CONSENT)
    one = browser()
    one.go("/consent")
    assert one.send("/start").status_code == 400
    for path in ("/vote", "/instructions", "/about-you", "/done"):
        one.go(path)
        assert one.path == "/"
    assert persons(store) == []


def test_who_does_not_agree_gets_that_code_and_is_not_stored(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    protocol = set_up(consent=CONSENT)
    one = browser()
    one.go(PROLIFIC)
    one.go("/consent")
    end = one.send("/start", protocol=protocol.hash, answer="decline").text
    assert one.path == "/done"
    assert ">NO3</output>" in end
    assert "complete?cc=NO3" in end
    assert "DONE1" not in end
    assert persons(store) == []
    assert voters(store) == 0
    one.agree(age="yes")  # they may think again
    assert one.path == "/instructions"
    assert [person.platform_id for person in persons(store)] == [PID]
    assert "NO3" not in one.go("/done").text


def test_consent_to_a_text_that_changed_meanwhile_is_asked_again(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    old = set_up(consent=CONSENT)
    one = browser()
    one.go("/consent")
    new = set_up(consent=Consent(text="Other words.", age=18))
    again = one.send("/start", protocol=old.hash, answer="agree", age="yes")
    assert again.status_code == 400
    assert "Other words." in again.text
    one.send("/start", protocol=new.hash, answer="agree", age="yes")
    assert [person.protocol for person in persons(store)] == [new.hash]


# Questions about the person


def test_questions_are_asked_once_and_each_can_be_skipped(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up(demographics=(SCREEN, AGE))
    one = browser()
    one.go("/")
    page = one.send("/start").text
    assert one.path == "/about-you"
    assert "On what?" in page
    assert voters(store) == 0
    assert one.go("/vote").request.path == "/about-you"  # a reload, or another tab
    one.send("/about-you", **{"about-screen": "", "about-years": " 41 "})
    assert one.path == "/instructions"
    assert one.go("/about-you").request.path == "/"
    assert b"Continue with pair 1" in one.page.data
    with store.read() as session:
        assert [(a.question, a.answer) for a in session.scalars(select(DemographicAnswer))] == [
            ("years", "41")
        ]


def test_bad_answers_are_refused(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(demographics=(SCREEN, AGE))
    one = browser()
    one.go("/")
    one.send("/start")
    for form in ({"about-screen": "a toaster"}, {"about-years": "x" * 201}):
        one.go("/about-you")
        assert one.send("/about-you", **form).status_code == 400
    assert not persons(store)[0].asked


def test_who_is_screened_out_gets_that_code_and_cannot_try_again(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up(demographics=(SCREEN, AGE))
    one = browser()
    one.go(PROLIFIC)
    one.send("/start")
    end = one.send("/about-you", **{"about-screen": "a phone"}).text
    assert one.path == "/done"
    assert ">OUT2</output>" in end
    assert "DONE1" not in end
    one.client.application.config["WTF_CSRF_ENABLED"] = False
    for other in (one, browser()):
        for path in (PROLIFIC, "/", "/about-you", "/vote", "/instructions"):
            assert other.go(path).request.path == "/done"
        other.client.post("/about-you", data={"about-screen": "a computer"})
        other.client.post("/start")
        assert ">OUT2</output>" in other.go("/vote").text
    assert voters(store) == 0


# Instructions and endings


def test_instructions_come_right_before_the_first_pair(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up(instructions="Look at the *hands*.")
    one = browser()
    assert "<em>hands</em>" in one.go("/").text
    one.send("/start")
    assert one.path == "/vote"
    set_up(instructions="Look at the *hands*.", consent=CONSENT)
    two = browser()
    assert "<em>hands</em>" not in two.go("/").text
    assert "<em>hands</em>" in two.agree(age="yes").text
    assert two.path == "/instructions"


def test_an_address_as_the_ending(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(completion=Completion(finished="https://panel.example/back?id=7"))
    one = browser()
    one.go("/")
    one.send("/start")
    end = one.vote().text
    assert 'href="https://panel.example/back?id=7"' in end
    assert "Go on to panel.example" in end
    assert 'id="code"' not in end


def test_no_code_before_the_end(set_up: SetUp, browser: NewBrowser) -> None:
    set_up(consent=CONSENT, demographics=(SCREEN,))
    one = browser()
    seen = [one.go(path).text for path in ("/", "/consent", "/done", "/vote", "/instructions")]
    seen.append(one.agree(age="yes").text)
    seen.append(one.send("/about-you").text)
    seen += [one.go(path).text for path in ("/", "/vote", "/done")]
    for code in ("DONE1", "OUT2", "NO3"):
        assert not any(code in page for page in seen)


ONE_PAIR: dict[str, Any] = {
    "quota": Quota(votes=1, per="category"),
    "pairs": Pairs(listed=(("fp16", "naive-w4a4"),)),
    "prompts": Prompts(per_category=1),
    "trials_per_voter": 1,
}


def test_nothing_left_to_vote_on(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(**ONE_PAIR, consent=CONSENT)
    first, late = browser(), browser()
    late.go("/consent")
    first.agree(age="yes")
    first.vote()
    assert late.go("/").status_code == 410
    assert late.heading == "This study has ended"
    assert late.agree(age="yes").status_code == 410
    assert len(persons(store)) == 1
    assert ">DONE1</output>" in first.go("/").text


def test_a_place_that_somebody_left_is_free_once_its_lease_is_over(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up(**ONE_PAIR)
    gone, late = browser(), browser()
    gone.agree()
    assert gone.path == "/vote"
    assert late.go("/").status_code == 503
    assert late.heading == "All places are taken"
    with store.write() as session:
        session.execute(update(Assignment).values(expires=1.0))
    assert late.agree().status_code == 200
    assert ">DONE1</output>" in late.vote().text
    assert voters(store) == 2
