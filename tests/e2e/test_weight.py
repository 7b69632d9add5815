"""What the voting page weighs, and that nothing on it moves by itself."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_voting import Voter

pytestmark = pytest.mark.browser

BUDGET = 60_000  # bytes, gzipped: HTML, CSS and JavaScript of the voting page
STATIC = Path(__file__).parents[2] / "static"
SHIFTS = """
    window.shifts = [];
    new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((it) => it.value)))
        .observe({type: "layout-shift", buffered: true});
"""


def test_the_page_is_light_asks_nobody_else_and_never_moves(
    browser: Any, serve: Callable[..., Any], gallery: Path
) -> None:
    served = serve(gallery)
    voter = Voter(browser, served.address)
    weights: dict[str, int] = {}
    others: list[str] = []

    def weigh(response: Any) -> None:
        if not response.url.startswith(served.address):
            others.append(response.url)
        elif response.request.resource_type in ("document", "script", "stylesheet"):
            weights[response.url] = len(gzip.compress(response.body()))

    voter.page.goto(served.address)
    voter.context.add_init_script(SHIFTS)
    voter.page.on("requestfinished", lambda request: weigh(request.response()))
    with voter.page.expect_navigation(url="**/vote", wait_until="networkidle"):
        voter.page.get_by_role("button", name="Start").click()
    voter.wait_for_pair(1)
    scripts = {url.rpartition("/")[2] for url in weights if url.endswith(".js")}
    assert scripts == {path.name for path in STATIC.glob("*.js")} - {"admin.js", "done.js"}
    assert len(weights) == len(scripts) + 2  # the page itself and its style
    assert sum(weights.values()) <= BUDGET
    for number in range(1, 6):
        voter.wait_for_pair(number)
        voter.page.mouse.move(10 * number, 10)
        voter.page.wait_for_timeout(600)  # half a second after a key, whatever moves counts as its doing
        voter.page.keyboard.press("ArrowLeft")
    voter.wait_for_pair(6)
    voter.page.wait_for_timeout(600)
    assert voter.page.evaluate("window.shifts") == []
    assert others == []
    voter.context.close()
