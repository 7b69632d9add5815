"""For everybody: axe on every page, large text, narrow windows, no mouse, no JavaScript, right to left."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import missing, settle, wait_for_pictures, wait_until_sent
from tests.e2e.test_voting import Voter

pytestmark = pytest.mark.browser

STUDY = """
trials_per_voter = 4
[[questions]]
id = "preference"
text = "Which picture do you prefer?"
both_bad = true
[page]
skip = true
[breaks]
every = 2
[consent]
text = "We keep your *answers*."
age = 18
[completion]
finished = "W4A8-DONE"
[[demographics]]
id = "screen"
text = "What do you look at the pictures on?"
choices = ["a phone", "a computer"]
[[demographics]]
id = "years"
text = "How many years have you worked with images?"
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any], gallery: Path) -> Any:
    return serve(gallery, toml=STUDY)


@pytest.fixture(params=["light", "dark"])
def voter(request: pytest.FixtureRequest, browser: Any, served: Any) -> Iterator[Voter]:
    voter = Voter(browser, served.address, color_scheme=request.param)
    yield voter
    voter.context.close()


def check(page: Any, where: str) -> None:
    """No violation of any rule of axe, once the page is there."""
    page.wait_for_load_state()
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        missing("axe-playwright-python")
    found = Axe().run(page)
    assert found.violations_count == 0, f"{where}\n{found.generate_report()}"


def enter(voter: Voter) -> None:
    """From the welcome page to the first pair."""
    page = voter.page
    page.goto(voter.address)
    page.get_by_role("link", name="Continue").click()
    page.get_by_label("I am 18 years old or older.").check()
    page.get_by_role("button", name="I agree").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="To the first pair").click()
    voter.wait_for_pair(1)


def test_axe_finds_nothing_on_the_way_of_a_voter(voter: Voter) -> None:
    page = voter.page
    page.goto(voter.address)
    check(page, "welcome")
    page.get_by_role("link", name="Continue").click()
    check(page, "consent")
    page.get_by_label("I am 18 years old or older.").check()
    page.get_by_role("button", name="I agree").click()
    check(page, "about you")
    page.get_by_role("button", name="Continue").click()
    check(page, "instructions")
    page.get_by_role("link", name="To the first pair").click()
    voter.wait_for_pair(1)
    check(page, "a pair")
    page.get_by_role("button", name="Zoom in").click()
    check(page, "a pair, zoomed")
    for name in ("Skip", "Report", "Help"):
        page.get_by_role("button", name=name, exact=True).click()
        check(page, name)
        page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    voter.wait_for_pair(2)
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name="Time for a break").wait_for()
    check(page, "break")
    page.get_by_role("button", name="Continue").click()
    voter.wait_for_pair(3)
    wait_until_sent(page)
    wait_for_pictures(page, 4)
    voter.context.set_offline(True)
    page.keyboard.press("ArrowLeft")
    voter.wait_for_pair(4)
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name="Waiting for the connection").wait_for()
    check(page, "no connection")
    voter.context.set_offline(False)
    page.wait_for_url("**/done")
    check(page, "done")
    page.get_by_role("link", name="Withdraw from the study").click()
    check(page, "withdraw")
    page.get_by_role("button", name="Withdraw").click()
    check(page, "withdrawn")
    page.goto(f"{voter.address}/nowhere")
    check(page, "nowhere")


def test_axe_finds_nothing_for_the_researcher(browser: Any, served: Any) -> None:
    voter = Voter(browser, served.address)
    enter(voter)
    voter.page.keyboard.press("ArrowLeft")
    voter.wait_for_pair(2)
    wait_until_sent(voter.page)
    page = voter.context.new_page()
    page.goto(f"{served.address}/admin/")
    check(page, "login")
    page.get_by_label("One-time password").fill(served.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", level=1).wait_for()
    pages = page.locator("nav a[href^='/admin/']").evaluate_all("links => links.map((it) => it.href)")
    assert len(pages) >= 4
    page.goto(f"{served.address}/admin/voters")
    pages.append(page.locator("th a").first.evaluate("it => it.href"))
    for address in pages:
        page.goto(address)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            check(page, f"{address}, {scheme}")
    voter.context.close()


def test_the_whole_way_by_keyboard_alone_with_the_focus_always_seen(voter: Voter) -> None:
    page = voter.page
    page.goto(voter.address)

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            seen = page.evaluate(
                """() => {
                    const it = document.activeElement, style = getComputedStyle(it);
                    if (it === document.body) return ["", true, true];  // round the end of the page
                    const {width, height} = it.getBoundingClientRect();
                    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                    const name = it.innerText || it.getAttribute("aria-label") || it.labels?.[0].innerText;
                    return [name || "", outlined, width * height > 0];
                }"""
            )
            assert seen[1:] == [True, True], seen
            if name in seen[0]:
                return
        raise AssertionError(f"{name} cannot be reached")

    def follow(name: str) -> None:
        tab_to(name)
        with page.expect_navigation():
            page.keyboard.press("Enter")

    follow("Continue")
    tab_to("I am 18")
    page.keyboard.press("Space")
    follow("I agree")
    follow("Continue")
    follow("To the first pair")
    voter.wait_for_pair(1)
    tab_to("Left")
    page.keyboard.press("Enter")
    voter.wait_for_pair(2)
    page.keyboard.press("4")
    page.get_by_role("heading", name="Time for a break").wait_for()
    page.keyboard.press("Enter")
    voter.wait_for_pair(3)
    tab_to("Report")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    voter.wait_for_pair(4)
    page.keyboard.press("ArrowDown")
    page.wait_for_url("**/done")
    tab_to("Copy the code")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copied").or_(page.get_by_text("Now copy what is selected")).wait_for()


def test_what_changes_is_announced(browser: Any, served: Any) -> None:
    """A screen reader reads live regions: number, words, question and notes are each one."""
    voter = Voter(browser, served.address)
    enter(voter)
    page = voter.page
    for selector in ("#count", "#prompt", "#question", "#note"):
        region = page.locator(selector)
        role, live = region.get_attribute("role"), region.get_attribute("aria-live")
        assert role == "status" or live == "polite", selector
    assert page.locator("#left img").get_attribute("alt") == "Left picture"
    assert page.get_by_role("group", name="Which picture do you prefer?").count() == 1
    assert page.get_by_role("progressbar", name="Progress").count() == 1
    voter.context.close()


@pytest.mark.parametrize("size", [(320, 640), (320, 256), (1280, 800)])
def test_nothing_is_lost_at_twice_the_text_size_and_in_narrow_windows(
    browser: Any, served: Any, size: tuple[int, int]
) -> None:
    voter = Voter(browser, served.address, viewport={"width": size[0], "height": size[1]})
    page = voter.page
    enter(voter)
    for percent in (100, 200):
        page.evaluate("percent => document.documentElement.style.fontSize = `${percent}%`", percent)
        settle(page)
        seen = page.evaluate(
            """() => {
                const cut = [...document.querySelectorAll("#vote button, #vote p")].filter((it) =>
                    it.checkVisibility({checkVisibilityCSS: true}) && it.scrollWidth > it.clientWidth + 1);
                return {
                    width: document.documentElement.scrollWidth,
                    cut: cut.map((it) => it.textContent),
                    picture: document.querySelector("#left img").getBoundingClientRect().width,
                };
            }"""
        )
        assert seen["width"] <= size[0], percent  # no scrolling sideways
        assert seen["cut"] == [], percent
        assert seen["picture"] >= 64, percent
        assert page.get_by_role("button", name="Both bad").is_visible()
        for name in ("Left", "Tie", "Both bad", "Right"):
            box = page.get_by_role("button", name=name, exact=True).bounding_box()
            assert min(box["width"], box["height"]) >= 24, (name, percent)
    page.get_by_role("button", name="Right", exact=True).click()
    voter.wait_for_pair(2)
    voter.context.close()


def test_from_right_to_left_the_left_picture_stays_left(browser: Any, served: Any) -> None:
    voter = Voter(browser, served.address, viewport={"width": 1280, "height": 800})
    enter(voter)
    page = voter.page
    page.evaluate("document.documentElement.dir = 'rtl'")
    settle(page)

    def x(selector: str) -> float:
        return page.locator(selector).bounding_box()["x"]

    assert x("#left img") < x("#right img")
    assert x("[data-answer=left]") < x("[data-answer=tie]") < x("[data-answer=right]")
    assert x("#undo") < x("#count")  # the rest is mirrored
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    check(page, "right to left")
    voter.context.close()


def test_axe_finds_nothing_where_the_window_is_too_small(
    browser: Any, serve: Callable[..., Any], gallery: Path
) -> None:
    served = serve(gallery, toml="[display]\nmin_width = 2000\n")
    voter = Voter(browser, served.address, viewport={"width": 320, "height": 480})
    voter.page.goto(served.address)
    voter.page.get_by_role("button", name="Start").click()
    voter.page.get_by_role("heading", name="This needs a larger window").wait_for()
    check(voter.page, "gate")
    top = voter.page.locator("#gate h2").bounding_box()["y"]
    assert top >= voter.page.locator("#gate").bounding_box()["y"]  # long as the text is, it begins in sight
    voter.context.close()


def test_without_javascript_pages_say_what_is_needed(browser: Any, served: Any) -> None:
    voter = Voter(browser, served.address, java_script_enabled=False)
    page = voter.page
    page.goto(voter.address)
    assert page.locator("noscript .warning").is_visible()
    page.get_by_role("link", name="Continue").click()
    page.get_by_label("I am 18").check()
    page.get_by_role("button", name="I agree").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="To the first pair").click()
    assert page.locator("noscript .warning").is_visible()
    assert "needs JavaScript" in page.locator("noscript").inner_html()
    voter.context.close()


def test_with_reduced_motion_nothing_moves(browser: Any, served: Any) -> None:
    voter = Voter(browser, served.address, reduced_motion="reduce")
    enter(voter)
    moving = "document.getAnimations().length"
    assert voter.page.evaluate(moving) == 0
    voter.page.keyboard.press("ArrowLeft")
    assert voter.page.evaluate(moving) == 0
    voter.context.close()


def test_a_voter_with_a_finger(browser: Any, served: Any) -> None:
    voter = Voter(browser, served.address, **PHONE)
    page = voter.page
    enter(voter)
    page.locator("#left img").tap()
    voter.wait_for_pair(2)
    page.get_by_role("button", name="Undo").tap()
    voter.wait_for_pair(1)
    page.get_by_role("button", name="More").tap()
    page.get_by_role("button", name="Skip").tap()
    page.get_by_label("I cannot judge this").tap()
    page.get_by_role("button", name="Skip the pair").tap()
    voter.wait_for_pair(2)
    page.get_by_role("button", name="Tie").tap()
    page.get_by_role("button", name="Continue").tap()
    voter.wait_for_pair(3)
    page.locator("#right img").tap()
    voter.wait_for_pair(4)
    page.get_by_role("button", name="Both bad").tap()
    page.wait_for_url("**/done")
    page.get_by_role("button", name="Copy the code").tap()
    voter.context.close()
