"""Every entrance, from its link to the first pair and to the end, and the link for another device."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from study.config import Entrances
from study.schema import votes_v1
from study.security import POLICY
from study.store import Store
from study.tokens import sign
from tests.study.conftest import PID, PROLIFIC, NewBrowser, SetUp, persons, voters

KEY = "a key for tests, long enough"
MTURK = "/?workerId=A1B2C3&assignmentId=3XYZ&hitId=H1&turkSubmitTo=https%3A%2F%2Fworkersandbox.mturk.com"
ALL = Entrances(mturk=True, kiosk=True)


# Prolific


def test_prolific_from_link_to_code(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    one = browser()
    assert "Your Prolific ID is kept apart" in one.go(PROLIFIC).text
    assert persons(store) == []  # looking is not taking part
    one.send("/start")
    end = one.vote()
    assert '<output id="code"' in end.text
    assert ">DONE1</output>" in end.text
    assert 'href="https://app.prolific.com/submissions/complete?cc=DONE1"' in end.text
    [person] = persons(store)
    assert (person.source, person.platform_id) == ("prolific", PID)
    assert person.received == {"PROLIFIC_PID": PID, "STUDY_ID": "s7", "SESSION_ID": "t9"}
    with store.read() as session:
        assert set(session.scalars(select(votes_v1.c.source))) == {"prolific"}


def test_a_second_device_resumes_the_same_voter(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    one, other = browser(), browser()
    one.go(PROLIFIC)
    one.send("/start")
    other.go(PROLIFIC.lower().replace(PID.lower(), PID).replace("t9", "t10"))
    assert "Continue with pair 1" in other.page.text
    assert voters(store) == 1
    other.vote()
    assert one.go(PROLIFIC).request.path == "/done"  # also after completion
    assert ">DONE1</output>" in one.page.text
    third = browser()
    assert ">DONE1</output>" in third.go(PROLIFIC).text
    assert len(persons(store)) == voters(store) == 1
    assert persons(store)[0].received["SESSION_ID"] == "t9"  # the latest


def test_a_refresh_and_a_second_post_make_no_second_voter(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up()
    one = browser()
    one.go(PROLIFIC)
    one.send("/start")
    one.go("/")
    one.go(PROLIFIC)
    assert one.heading
    one.client.post("/start", data={"csrf_token": token(one)})
    assert voters(store) == 1


def token(browser: Any) -> str:
    found = re.search(r'name="csrf[-_]token" (?:value|content)="([^"]+)"', browser.go("/vote").text)
    assert found
    return found[1]


def test_another_id_in_the_same_browser_is_another_person(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up()
    one = browser()
    for number in range(2):
        one.go(PROLIFIC.replace(PID, f"{PID}{number}"))
        one.send("/start")
    assert [person.platform_id for person in persons(store)] == [f"{PID}0", f"{PID}1"]
    assert voters(store) == 2


def test_the_same_id_started_ten_times_at_once_is_one_voter(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up()
    browsers = [browser() for _ in range(10)]
    for one in browsers:
        one.go(PROLIFIC)
    with ThreadPoolExecutor(10) as pool:
        pages = list(pool.map(lambda one: one.send("/start"), browsers))
    assert {page.request.path for page in pages} == {"/vote"}
    assert len(persons(store)) == voters(store) == 1


def test_the_same_form_sent_twice_at_once_is_one_person(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up()
    one = browser()
    one.go("/")
    cookie = one.client.get_cookie("study")
    assert cookie
    twins = [browser() for _ in range(4)]
    for twin in twins:
        twin.client.set_cookie("study", cookie.value)
        twin.page = one.page
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda twin: twin.send("/start"), twins))
    assert len(persons(store)) == voters(store) == 1


@pytest.mark.parametrize("link", ["/?PROLIFIC_PID=", "/?STUDY_ID=x", "/?prolific_pid=%7B%7B%25PID%25%7D%7D"])
def test_a_link_that_is_not_whole_gets_a_kind_page(
    store: Store, set_up: SetUp, browser: NewBrowser, link: str
) -> None:
    set_up()
    one = browser()
    assert one.go(link).status_code == 400
    assert one.heading == "This link is incomplete"
    assert persons(store) == []


# MTurk


def test_mturk_from_link_to_its_form(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    one = browser()
    one.go(MTURK)
    one.send("/start")
    end = one.vote().text
    assert 'action="https://workersandbox.mturk.com/mturk/externalSubmit"' in end
    assert '<input type="hidden" name="assignmentId" value="3XYZ">' in end
    assert '<input type="hidden" name="code" value="DONE1">' in end
    # The worker accepts the task again: the same voter, the new assignment.
    end = browser().go(MTURK.replace("3XYZ", "3NEW")).text
    assert 'name="assignmentId" value="3NEW"' in end
    assert voters(store) == 1


def test_a_preview_cannot_vote(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(entrances=Entrances(link=False, mturk=True))
    one = browser()
    page = one.go("/?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&hitId=H1").text
    assert "This is a preview" in page
    assert "Your worker ID is kept apart" in page
    assert "<form" not in page
    assert "/vote" not in page
    assert one.go("/vote").status_code == 403  # back at the start, which asks for a link
    assert one.heading == "Please come by your own link"
    one.client.application.config["WTF_CSRF_ENABLED"] = False
    assert one.client.post("/start").status_code == 403
    assert persons(store) == []
    assert voters(store) == 0


def test_the_form_goes_nowhere_but_to_mturk(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    one = browser()
    one.go(MTURK.replace("workersandbox.mturk.com", "evil.example"))
    one.send("/start")
    end = one.vote().text
    assert "evil" not in end
    assert "<form" not in end
    assert ">DONE1</output>" in end


def test_only_a_study_for_mturk_may_be_framed_by_it(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(entrances=Entrances())
    page = browser().go("/")
    assert page.headers["Content-Security-Policy"] == POLICY
    assert "SameSite=Lax" in page.headers["Set-Cookie"]
    set_up()
    page = browser().go("/")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    frames = "https://worker.mturk.com https://workersandbox.mturk.com"
    assert policy.pop("frame-ancestors") == frames
    assert policy.pop("form-action") == "'self' https://www.mturk.com https://workersandbox.mturk.com"
    assert set(policy.values()) == {"'none'", "'self'"}
    for word in ("SameSite=None", "Secure", "Partitioned", "HttpOnly"):
        assert word in page.headers["Set-Cookie"]
    with browser().client.get("/static/vote.js") as script:
        assert script.headers["Content-Security-Policy"] == POLICY


# Kiosk


def test_a_kiosk_takes_person_after_person(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    device = browser()
    device.go("/kiosk?seat=A3")
    for number in range(3):
        assert voters(store) == number
        assert device.path == "/"
        device.send("/start")
        end = device.vote().text
        again = re.search(r'href="(/kiosk[^"]*)"', end)
        assert again
        device.go(again[1])
    assert [person.received for person in persons(store)] == [{"seat": "A3"}] * 3
    with store.read() as session:
        assert set(session.scalars(select(votes_v1.c.source))) == {"kiosk"}
    # Somebody left in the middle: the next one does not go on for them.
    device.send("/start")
    device.go("/kiosk?seat=A3")
    assert "Start" in device.page.text
    assert device.go("/kiosk?seat=%3Cb%3E").status_code == 400


# Which entrances there are


@pytest.mark.parametrize(
    ("entrance", "link"),
    [("prolific", PROLIFIC), ("mturk", MTURK), ("kiosk", "/kiosk"), ("invitation", "INVITATION")],
)
def test_an_entrance_that_is_not_in_the_protocol_is_closed(
    store: Store, set_up: SetUp, browser: NewBrowser, entrance: str, link: str
) -> None:
    closed = ALL.model_copy(update={entrance: False})
    set_up(entrances=closed)
    one = browser()
    page = one.go(link.replace("INVITATION", "/i/" + sign(KEY, "invitation", 1)))
    assert (page.status_code, one.heading) == (403, "This way is closed")
    assert persons(store) == []


def test_without_the_open_link_a_stranger_needs_one(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(entrances=Entrances(link=False))
    one = browser()
    assert one.go("/").status_code == 403
    assert one.heading == "Please come by your own link"
    assert one.go("/consent").status_code == 403
    one.go(PROLIFIC)
    one.send("/start")
    assert one.path == "/vote"
    assert "Continue with pair 1" in one.go("/").text


def test_an_entrance_closed_by_a_new_version_keeps_who_is_in(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up()
    inside, outside = browser(), browser()
    inside.go("/")
    inside.send("/start")
    outside.go("/")
    before = outside.page
    known = browser()
    known.go(PROLIFIC)
    known.send("/start")
    set_up(entrances=Entrances(link=False, prolific=False))
    assert "Continue with pair 1" in inside.go("/").text
    assert "Continue with pair 1" in known.go(PROLIFIC).text
    assert browser().go(PROLIFIC.replace(PID, "another")).status_code == 403
    outside.page = before
    assert outside.send("/start").status_code == 403
    assert voters(store) == 2


# A link for another device


def test_the_return_link_goes_on_elsewhere(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    one, other = browser(), browser()
    one.go("/")
    one.send("/start")
    [person] = persons(store)
    link = "/r/" + sign(KEY, "return", person.id)
    assert "Continue with pair 1" in other.go(link).text
    for bad in (
        link[:-1],
        "/r/" + sign(KEY, "withdrawal", person.id),
        "/r/" + sign("other key", "return", person.id),
    ):
        stranger = browser()
        assert stranger.go(bad).status_code == 404
        assert stranger.heading == "This link is incomplete"
    assert voters(store) == 1
