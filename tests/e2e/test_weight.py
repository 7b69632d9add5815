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
OTHERS = {"admin.js", "done.js"}  # of other pages
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
    voter.page.goto(served.address)
    voter.context.add_init_script(SHIFTS)
    voter.page.get_by_role("button", name="Start").click()
    voter.wait_for_pair(1)

    loaded = voter.page.evaluate("performance.getEntriesByType('resource').map((it) => it.name)")
    assert [url for url in loaded if not url.startswith(f"{served.address}/")] == []
    code = {url for url in loaded if url.endswith((".js", ".css"))} | {voter.page.url}
    names = {url.rpartition("/")[2] for url in code}
    assert names == {path.name for path in STATIC.glob("*.js")} - OTHERS | {"style.css", "vote"}
    weights = {url: len(gzip.compress(voter.context.request.get(url).body())) for url in code}
    assert sum(weights.values()) <= BUDGET, weights

    for number in range(1, 6):
        voter.wait_for_pair(number)
        voter.page.mouse.move(10 * number, 10)
        voter.page.wait_for_timeout(600)  # half a second after a key, whatever moves counts as its doing
        voter.page.keyboard.press("ArrowLeft")
    voter.wait_for_pair(6)
    voter.page.wait_for_timeout(600)
    assert voter.page.evaluate("window.shifts") == []
    voter.context.close()
