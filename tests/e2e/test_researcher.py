"""The researcher's pages in a real browser: they keep up with the votes, and a pause reaches the voters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import wait_for_pair

pytestmark = pytest.mark.browser


@pytest.fixture
def served(serve: Callable[..., Any], build_gallery: Any, tmp_path: Path) -> Any:
    return serve(build_gallery(tmp_path / "gallery", prompts=3))


@pytest.fixture
def researcher(browser: Any, served: Any) -> Any:
    """A page that is signed in, on a phone."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.clock.install()
    page.goto(f"{served.address}/admin/")
    page.get_by_label("One-time password").fill(served.password)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()
    yield page
    context.close()


def begin(browser: Any, served: Any) -> Any:
    """A voter before their first pair."""
    page = browser.new_context().new_page()
    page.goto(served.address)
    page.get_by_role("button", name="Start").click()
    return page


def vote(page: Any, number: int) -> None:
    wait_for_pair(page, number)
    with page.expect_response("**/vote"):
        page.keyboard.press("ArrowLeft")


def votes(page: Any) -> Any:
    return page.locator("#tiles dd").first


def test_the_numbers_keep_up_until_they_are_told_to_stay(browser: Any, served: Any, researcher: Any) -> None:
    voter = begin(browser, served)
    assert votes(researcher).inner_text() == "0"
    vote(voter, 1)
    researcher.clock.fast_forward(16_000)
    votes(researcher).and_(researcher.get_by_text("1", exact=True)).wait_for()
    cell = researcher.locator(".matrix td", has_text="1").first
    assert cell.is_visible()
    researcher.get_by_label("Live").uncheck()
    vote(voter, 2)
    with pytest.raises(Exception, match="Timeout"), researcher.expect_request("**/admin/", timeout=1500):
        researcher.clock.fast_forward(60_000)
    assert votes(researcher).inner_text() == "1"
    voter.context.close()


def test_what_has_the_focus_is_not_replaced(browser: Any, served: Any, researcher: Any) -> None:
    voter = begin(browser, served)
    researcher.locator("#pairs").focus()
    vote(voter, 1)
    researcher.clock.fast_forward(16_000)
    votes(researcher).and_(researcher.get_by_text("1", exact=True)).wait_for()
    assert researcher.evaluate("document.activeElement.id") == "pairs"
    assert "1" not in researcher.locator("#pairs tbody").inner_text().replace("fp16", "")
    voter.context.close()


def test_a_pause_reaches_a_voter_and_ends(browser: Any, served: Any, researcher: Any) -> None:
    voter = begin(browser, served)
    researcher.get_by_role("button", name="Pause").press("Enter")
    researcher.get_by_text("Paused: nobody gets a new pair").wait_for()
    for number in range(1, 5):  # the one on the screen, and those that were loaded ahead
        vote(voter, number)
    voter.get_by_role("heading", name="Back soon").wait_for()
    researcher.get_by_role("button", name="Resume").press("Enter")
    researcher.get_by_role("button", name="Pause").wait_for()
    assert votes(researcher).inner_text() == "4"
    voter.get_by_role("link", name="Look again").click()
    voter.get_by_role("link", name="Continue").click()
    vote(voter, 5)
    voter.context.close()
