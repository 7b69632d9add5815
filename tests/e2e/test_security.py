"""With the strict headers, in a real browser and through the real server, everything still works."""

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import wait_for_pair, wait_until_sent

WATCH = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => {
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
    });
"""


@pytest.mark.browser
def test_voting_and_admin_work_under_the_policy(
    browser: Any, serve: Callable[..., Any], command: Callable[..., str], gallery: Path, tmp_path: Path
) -> None:
    served = serve(gallery)
    context = browser.new_context()
    context.add_init_script(WATCH)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: said.append(str(error)))

    def look() -> None:
        said.extend(page.evaluate("window.violations"))

    page.goto(served.address)
    look()
    page.get_by_role("button", name="Start").click()
    for number in range(1, 6):
        wait_for_pair(page, number)
        page.keyboard.press("ArrowLeft")
    wait_until_sent(page)
    look()

    page.goto(f"{served.address}/admin/")
    page.get_by_label("One-time password").fill(served.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    assert page.locator(".tiles dd").first.inner_text() == "5"
    look()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert len(download.value.path().read_text().splitlines()) == 6
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("One-time password").wait_for()
    look()
    assert said == []

    # The check itself: an inline script does not run, and is told.
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.head.append(script);
    }""")
    assert page.evaluate("[window.ran === true, window.violations.length]") == [False, 1]
    context.close()
    assert len(command("study", "export", "--study", served.folder, "-o", tmp_path / "v.csv")) > 0


def test_a_header_alone_does_not_make_http_https(serve: Callable[..., Any], gallery: Path) -> None:
    served = serve(gallery)
    forged = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", "Forwarded": "proto=https"}
    request = urllib.request.Request(served.address, headers=forged)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        assert answer.status == 200
        assert "Strict-Transport-Security" not in answer.headers
        assert "Content-Security-Policy" in answer.headers
