"""A bot check in a browser, whose service is there for the page and away for the server."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_security import WATCH

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
SERVICE = "https://challenges.cloudflare.com"
SETTINGS = """
trials_per_voter = 1

[bot_check]
service = "turnstile"
site_key = "a-site-key"

[consent]
text = "We keep your answers under a random number."
"""
# As the real one does: a frame of its own, and a token in the form.
WIDGET = """
    for (const box of document.querySelectorAll(".cf-turnstile[data-sitekey=a-site-key]")) {
        const frame = document.createElement("iframe");
        frame.src = new URL("/widget", document.currentScript.src);
        frame.width = 300, frame.height = 65, frame.title = "Widget";
        const token = document.createElement("input");
        Object.assign(token, {type: "hidden", name: "cf-turnstile-response", value: "a token"});
        box.append(frame, token);
    }
"""


@pytest.mark.parametrize("script", ["there", "blocked"])
def test_the_service_is_let_in_and_nobody_waits_for_it(
    browser: Any, serve: Callable[..., Any], gallery: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    with socket.socket() as closed:  # no request leaves this machine
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("BOT_CHECK_SECRET", "a secret")
    served = serve(gallery, toml=SETTINGS)
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.add_init_script(WATCH)
    page = context.new_page()

    def answer(route: Any) -> None:
        if script == "blocked":
            route.abort()
        elif route.request.url == f"{SERVICE}/turnstile/v0/api.js":
            route.fulfill(content_type="text/javascript", body=WIDGET)
        else:
            route.fulfill(content_type="text/html", body="<p>I am a widget.</p>")

    context.route(f"{SERVICE}/**", answer)
    page.goto(f"{served.address}/consent")
    if script == "there":
        page.frame_locator("iframe").get_by_text("I am a widget.").wait_for()
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "bot-check-phone.png")
    page.get_by_text("Cloudflare Turnstile checks here").wait_for()
    assert page.evaluate("window.violations") == []
    page.get_by_role("button", name="I agree").click()
    page.get_by_role("link", name="To the first pair").click()
    page.wait_for_function("() => document.querySelector('#stage').getAttribute('aria-busy') === 'false'")
    assert page.locator("iframe").count() == 0
    page.goto(f"{served.address}/admin/")
    page.get_by_label("One-time password").fill(served.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("0 failed, 1 unverified").wait_for()
    context.close()
