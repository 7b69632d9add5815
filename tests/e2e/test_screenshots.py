"""Every page at phone and desktop size, light and dark, for people to look at: screenshots/*.png."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import wait_for_pair

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
SIZES = {
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "narrow": {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_there_to_be_looked_at(
    browser: Any, serve: Callable[..., Any], build_gallery: Any, tmp_path: Path, scheme: str
) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    served = serve(build_gallery(tmp_path / "gallery", prompts=2))
    for name, size in SIZES.items():
        context = browser.new_context(color_scheme=scheme, **size)
        page = context.new_page()

        def shoot(what: str, page: Any = page, name: str = name, whole: bool = False) -> None:
            page.screenshot(path=SCREENSHOTS / f"{what}-{name}-{scheme}.png", full_page=whole)

        page.goto(served.address)
        shoot("welcome", whole=name == "desktop")  # a whole-page shot forgets that a phone cannot hover
        page.get_by_role("button", name="Start").click()
        wait_for_pair(page, 1)
        shoot("vote")
        for number in range(6):
            wait_for_pair(page, number + 1)
            page.locator("#answers button").nth(number % 3).click()
        page.wait_for_url("**/done")
        shoot("done")
        context.close()

    context = browser.new_context(color_scheme=scheme, **SIZES["desktop"])
    page = context.new_page()
    page.goto(f"{served.address}/admin/")
    page.screenshot(path=SCREENSHOTS / f"login-desktop-{scheme}.png")
    page.get_by_label("One-time password").fill(served.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    for place in ("Overview", "Ratings", "Answers", "Voters", "Reports"):
        page.get_by_role("link", name=place, exact=True).click()
        page.get_by_role("heading", level=1).wait_for()
        for name, size in SIZES.items():
            page.set_viewport_size(size["viewport"])
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (place, name)
            page.screenshot(path=SCREENSHOTS / f"admin-{place.lower()}-{name}-{scheme}.png", full_page=True)
    context.close()
