"""Pages in the languages of the protocol."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from study.config import (
    Breaks,
    Consent,
    Demographic,
    DemographicTexts,
    Page,
    Protocol,
    Question,
    Texts,
)
from study.gate import turn
from study.schema import DemographicAnswer
from study.store import Store

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

GERMAN = Texts(
    title="Welches Bild ist besser?",
    instructions="Schauen Sie *genau* hin.",
    consent="Ich habe alles verstanden.",
    breaks="Augen zu.",
    questions={"preference": "Welches gefällt Ihnen?"},
    demographics={"screen": DemographicTexts(text="Worauf?", choices=("Handy", "Rechner"))},
)
ARABIC = Texts(
    title="أي الصورتين أفضل؟",
    instructions="انظر جيدًا.",
    consent="فهمت كل شيء.",
    breaks="أغمض عينيك.",
    questions={"preference": "أيهما تفضل؟"},
    demographics={"screen": DemographicTexts(text="على ماذا؟", choices=("هاتف", "حاسوب"))},
)
SETTINGS = {
    "instructions": "Look *closely*.",
    "consent": Consent(text="I understood it all.", age=18),
    "breaks": Breaks(every=1, text="Close your eyes."),
    "questions": (Question(id="preference", text="Which do you like?", both_bad=True),),
    "demographics": (Demographic(id="screen", text="On what?", choices=("a phone", "a computer")),),
    "languages": ("en", "de", "ar"),
    "texts": {"de": GERMAN, "ar": ARABIC},
    "page": Page(skip=True),
}
SetUp = Callable[..., Protocol]
NewBrowser = Callable[[], Any]


def language(page: Any) -> tuple[str, str]:
    found = re.search(r'<html lang="([^"]*)" dir="([^"]*)">', page.text)
    assert found
    return found[1], found[2]


def seen(page: Any) -> str:
    """The text of a page as people read or hear it, without what the scripts get."""
    text = re.sub(r'<script.*?</script>|<p [^>]*lang="en".*?</p>', " ", page.text, flags=re.DOTALL)
    spoken = " ".join(re.findall(r'(?:aria-label|title|placeholder)="([^"]*)"', text))
    return html.unescape(re.sub(r"<(?:code|nav|kbd|output).*?</(?:code|nav|kbd|output)>|<[^>]*>", " ", text,
                                flags=re.DOTALL) + spoken)  # fmt: skip


@pytest.fixture
def spoken(set_up: SetUp) -> Protocol:
    return set_up(**SETTINGS)


def test_the_link_then_the_choice_then_the_browser(spoken: Protocol, browser: NewBrowser) -> None:
    one = browser()
    french, arabic = {"Accept-Language": "fr"}, {"Accept-Language": "ar-EG,en;q=0.5"}
    assert language(one.client.get("/", headers=french)) == ("en", "ltr")  # the study's first
    assert language(one.client.get("/", headers=arabic)) == ("ar", "rtl")
    assert language(one.client.get("/?lang=de", headers=arabic)) == ("de", "ltr")
    assert language(one.client.get("/consent", headers=arabic)) == ("de", "ltr")
    assert language(one.client.get("/?lang=tlh", headers=arabic)) == ("de", "ltr")
    assert language(browser().client.get("/?lang=tlh")) == ("en", "ltr")


def test_only_languages_of_the_protocol(set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    page = browser().client.get("/?lang=de", headers={"Accept-Language": "de"})
    assert language(page) == ("en", "ltr")
    assert "<nav" not in page.text  # there is nothing to choose
    set_up(languages=("de",), title="Was ist besser?")
    assert language(browser().go("/")) == ("de", "ltr")


def test_every_page_up_to_the_end_in_german(spoken: Protocol, browser: NewBrowser, store: Store) -> None:
    one = browser()
    welcome = one.go("/?lang=de").text
    assert "Welches Bild ist besser?" in welcome
    assert "2 Paare" in welcome
    assert "Ich habe alles verstanden." in one.go("/consent").text
    protocol = re.search(r'name="protocol" value="(\w+)"', one.page.text)
    assert protocol
    about = one.send("/start", protocol=protocol[1], answer="agree", age="yes").text
    assert "Worauf?" in about
    assert '<input type="radio" name="about-screen" value="a phone"><span>Handy</span>' in about
    assert "<em>genau</em>" in one.send("/about-you", **{"about-screen": "a phone"}).text
    with store.read() as session:
        assert session.scalars(select(DemographicAnswer.answer)).all() == ["a phone"]  # as the study calls it
    vote = one.go("/vote").text
    assert '"text": "Welches gef\\u00e4llt Ihnen?"' in vote
    assert "Augen zu." in vote
    assert "Beide schlecht" in vote
    assert "Das war das letzte Paar." in one.vote().text


def test_no_english_is_left_over_in_arabic(spoken: Protocol, browser: NewBrowser, store: Store) -> None:
    one = browser()
    pages = [one.go("/?lang=ar"), one.go("/consent"), one.go("/nothing"), one.go("/r/x")]
    one.agree(age="yes")
    pages += [one.page, one.send("/about-you"), one.go("/vote"), one.vote()]
    withdraw = re.search(r'href="(/withdraw/[^"]+)"', one.page.text)
    assert withdraw
    pages += [one.go(withdraw[1]), one.send(withdraw[1])]
    for decision in ("paused", "closed"):
        turn(store, decision)
        pages.append(browser().go("/?lang=ar"))
    statuses = [page.status_code for page in pages]
    assert statuses == [200, 200, 404, 404, 200, 200, 200, 200, 200, 410, 503, 410]
    for page in pages:
        assert language(page) == ("ar", "rtl")
        left = [
            word for word in re.findall(r"[A-Za-z]{2,}", seen(page)) if word not in ("JavaScript", "Shift")
        ]
        assert left == [], page.request.path


def test_the_words_for_the_scripts_are_translated(spoken: Protocol, browser: NewBrowser) -> None:
    one = browser()
    one.go("/?lang=ar")
    one.agree(age="yes")
    one.send("/about-you")
    words = re.search(r'id="words">(.*?)</script>', one.go("/vote").text, re.DOTALL)
    assert words
    assert re.findall(r': "[^"\\]*[A-Za-z]{3,}[^"\\{}]*"', words[1]) == []


def test_a_link_that_only_leads_on_keeps_the_language(spoken: Protocol, browser: NewBrowser) -> None:
    one = browser()
    pid = "5f3c9a0e7b1d2c4e6f8a9b0c"
    assert language(one.go(f"/?PROLIFIC_PID={pid}&STUDY_ID=s&SESSION_ID=t&lang=ar")) == ("ar", "rtl")
    assert language(one.go("/")) == ("ar", "rtl")
    assert language(browser().go("/kiosk?lang=de")) == ("de", "ltr")


def test_at_a_kiosk_the_next_person_chooses_again(spoken: Protocol, browser: NewBrowser) -> None:
    one = browser()
    one.go("/kiosk")
    assert language(one.go("/?lang=ar")) == ("ar", "rtl")
    assert language(one.go("/kiosk")) == ("en", "ltr")


def test_the_menu_leads_to_the_same_page(spoken: Protocol, browser: NewBrowser) -> None:
    one = browser()
    menu = re.search(r"<nav.*?</nav>", one.go("/?seat=%22%3E4&endpoint=x&lang=de").text, re.DOTALL)
    assert menu
    assert re.findall(r">(\w+)</a>", menu[0]) == ["English", "Deutsch", "العربية"]
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', menu[0])]
    assert links == [f"/?seat=%22%3E4&endpoint=x&lang={code}" for code in ("en", "de", "ar")]
    assert re.search(r'lang="de"[^>]* aria-current="true"', menu[0])


def test_the_researchers_pages_speak_english(spoken: Protocol, browser: NewBrowser) -> None:
    assert language(browser().go("/admin/login?lang=ar")) == ("en", "ltr")


def test_before_anything_is_open_the_source_speaks(make_app: Any) -> None:
    page = make_app().test_client().get("/?lang=de", headers={"Accept-Language": "de"})
    assert page.status_code == 503
    assert language(page) == ("en", "ltr")
