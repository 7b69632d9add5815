"""A session in German and in Arabic, which is written from the right; each page is kept to be looked at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import wait_for_pair
from tests.e2e.test_accessibility import check

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
SIZES = {
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
SETTINGS = """
instructions = "Look at **hands, faces and letters** first."
trials_per_voter = 4
languages = ["en", "de", "ar"]

[[questions]]
id = "preference"
text = "Which picture do you prefer?"
both_bad = true

[page]
skip = true

[consent]
text = "We ask how people see pictures that a computer made. Taking part is **voluntary**."
age = 18

[breaks]
every = 2
text = "Look out of the window for a moment."

[completion]
finished = "C1A2B3C4"

[texts.de]
title = "Welches Bild ist besser?"
instructions = "Achten Sie zuerst auf **Hände, Gesichter und Buchstaben**."
consent = "Wir fragen, wie Menschen Bilder eines Computers sehen. Die Teilnahme ist **freiwillig**."
breaks = "Schauen Sie einen Moment aus dem Fenster."
questions.preference = "Welches Bild gefällt Ihnen besser?"

[texts.ar]
title = "أي الصورتين أفضل؟"
instructions = "انظر أولًا إلى **الأيدي والوجوه والحروف**."
consent = "نسأل كيف يرى الناس صورًا صنعها حاسوب. المشاركة **طوعية**."
breaks = "انظر من النافذة لحظة."
questions.preference = "أي الصورتين تفضل؟"
"""
SAYS = {
    "de": ("Weiter", "Ich willige ein", "Zum ersten Paar", "Melden", "Abbrechen", "Weiter", "Vielen Dank!"),
    "ar": ("متابعة", "أوافق", "إلى الزوج الأول", "إبلاغ", "إلغاء", "متابعة", "شكرًا لك!"),
}


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any], build_gallery: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return serve(build_gallery(tmp_path_factory.mktemp("spoken") / "gallery", prompts=4), toml=SETTINGS)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("language", SAYS)
def test_a_session_in_another_language(browser: Any, served: Any, language: str, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    onward, agree, first, report, cancel, rested, thanks = SAYS[language]
    context = browser.new_context(**SIZES[name])
    page = context.new_page()

    def shoot(what: str) -> None:
        page.wait_for_load_state()
        if name == "phone":
            check(page, f"{what} {language}")
        page.screenshot(path=SCREENSHOTS / f"{what}-{name}-{language}.png")
        assert page.locator("html").get_attribute("lang") == language
        assert page.evaluate("getComputedStyle(document.body).direction") == (
            "rtl" if language == "ar" else "ltr"
        )
        assert page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), what

    page.goto(served.address)
    page.locator(f"nav a[hreflang={language}]").click()
    shoot("welcome")
    page.get_by_role("link", name=onward, exact=True).click()
    shoot("consent")
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name=agree).click()
    shoot("instructions")
    page.get_by_role("link", name=first).click()
    wait_for_pair(page, 1)
    shoot("vote")
    # Left stays left: the picture, its button, and what the key and the click mean.
    sides = page.locator("#stage figure, #answers [data-answer=left], #answers [data-answer=right]")
    places = {
        box.get_attribute("id") or box.get_attribute("data-answer") + " button": box.bounding_box()
        for box in sides.all()
    }
    if name == "desktop":
        assert places["left"]["x"] < places["right"]["x"]
    assert places["left button"]["x"] < places["right button"]["x"]
    if page.locator("#more").is_visible():
        page.locator("#more").click()
    page.get_by_role("button", name=report, exact=True).click()
    shoot("report")
    page.get_by_role("button", name=cancel).click()
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, 2)
    page.locator("#answers [data-answer=tie]").click()
    page.get_by_role("button", name=rested, exact=True).wait_for()
    shoot("break")
    page.get_by_role("button", name=rested, exact=True).click()
    for number in (3, 4):
        wait_for_pair(page, number)
        page.locator("#answers [data-answer=both_bad]").click()
    page.get_by_role("heading", level=1, name=thanks).wait_for()
    shoot("done")
    context.close()
