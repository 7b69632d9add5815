"""From an invitation to the code at the end, in a browser; each page is kept to be looked at."""

import json
import shutil
import socket
import socketserver
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.e2e.conftest import wait_for_pair

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
SIZES = {
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
SETTINGS = '''
instructions = """
Look at **hands, faces and letters** first: that is where pictures differ.

Please do not use a magnifying glass.
"""
trials_per_voter = 2

[checks]
practice = 1

[consent]
text = """
We ask how people see pictures that a computer made. You will compare pairs, for about a minute.

- Taking part is **voluntary**; you may stop at any time, without a reason.
- We keep your answers under a random number, and what you say about yourself apart from them.
- The answers will be published, without anything that leads to you.

Questions go to [the study team](https://example.org/study).
"""
age = 18

[completion]
finished = "C1A2B3C4"

[[demographics]]
id = "screen"
text = "What do you look at the pictures on?"
choices = ["a phone", "a tablet", "a computer"]

[[demographics]]
id = "years"
text = "How old are you?"
'''


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any], build_gallery: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return serve(build_gallery(tmp_path_factory.mktemp("people") / "gallery", prompts=4), toml=SETTINGS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SIZES)
def test_from_an_invitation_to_the_code(
    browser: Any, served: Any, command: Callable[..., str], name: str, scheme: str
) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    [link] = command("study", "invite", "--study", served.folder, "--address", served.address).split()
    context = browser.new_context(color_scheme=scheme, **SIZES[name])
    page = context.new_page()

    def shoot(what: str) -> None:
        page.screenshot(path=SCREENSHOTS / f"{what}-{name}-{scheme}.png", full_page=name == "desktop")
        too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not page.evaluate(too_wide), what

    page.goto(link)
    shoot("invited")
    page.get_by_role("link", name="Continue").click()
    shoot("consent")
    page.get_by_role("button", name="I agree").click()
    assert page.url.endswith("/consent")  # the browser asks for the age first
    page.get_by_label("I am 18 years old or older.").check()
    page.get_by_role("button", name="I agree").click()
    page.wait_for_url("**/about-you")
    page.get_by_label("a tablet").check()
    page.get_by_label("How old are you?").fill("41")
    shoot("about-you")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/instructions")
    shoot("instructions")
    page.get_by_role("link", name="To the first pair").click()
    for number in range(3):
        wait_for_pair(page, number + 1)
        assert ("practice" in page.locator("#count").inner_text()) == (number == 0)
        page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/done")
    assert page.locator("output#code").inner_text() == "C1A2B3C4"
    shoot("end")

    elsewhere = browser.new_context().new_page()
    assert elsewhere.goto(link).status == 410
    page.get_by_role("link", name="Withdraw from the study").click()
    shoot("withdraw")
    page.get_by_role("button", name="Withdraw").click()
    page.get_by_role("heading", name="You have withdrawn").wait_for()
    shoot("withdrawn")
    elsewhere.context.close()
    context.close()
    made = json.loads(command("study", "invite", "--study", served.folder, "--list", "--json"))
    assert made[-1]["used"] == 1


@pytest.fixture
def https_in_front(tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Let https come in before a port of this machine; returns the address."""
    certificate = tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    subprocess.run([*made, "-keyout", certificate, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    servers: list[socketserver.ThreadingTCPServer] = []

    def front(port: int) -> str:
        class Front(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with (
                    suppress(OSError),
                    context.wrap_socket(self.request, server_side=True) as outer,
                    socket.create_connection(("127.0.0.1", port)) as inner,
                ):
                    back = Thread(target=pass_on, args=(inner, outer))
                    back.start()
                    pass_on(outer, inner)
                    back.join()

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Front)
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"https://127.0.0.1:{server.server_address[1]}"

    yield front
    for server in servers:
        server.shutdown()
        server.server_close()


def pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def test_mturk_shows_it_in_its_frame_and_gets_its_form(
    browser: Any,
    serve: Callable[..., Any],
    https_in_front: Callable[[int], str],
    build_gallery: Any,
    tmp_path: Path,
) -> None:
    toml = """
trials_per_voter = 1
[entrances]
link = false
mturk = true
[completion]
finished = "C1A2B3C4"
"""
    served = serve(build_gallery(tmp_path / "gallery", prompts=2), toml=toml)
    assert "mturk = true needs https" in served.said
    address = https_in_front(int(served.address.rpartition(":")[2]))
    mturk, submitted = "https://workersandbox.mturk.com", []
    link = f"{address}/?hitId=H1&turkSubmitTo={mturk}&assignmentId="
    pages = {
        f"{mturk}/preview": link + "ASSIGNMENT_ID_NOT_AVAILABLE",
        f"{mturk}/accepted": link + "3XYZ&workerId=A1B2",
        "https://evil.example/": link + "3XYZ&workerId=A1B2",
    }

    def act_as_mturk(route: Any) -> None:
        if route.request.url in pages:
            frame = f'<iframe src="{pages[route.request.url].replace("&", "&amp;")}" width=900 height=700>'
            route.fulfill(content_type="text/html", body=f"<!doctype html>{frame}</iframe>")
        else:
            submitted.append((route.request.url, route.request.method, route.request.post_data))
            route.fulfill(content_type="text/html", body="Thank you")

    context = browser.new_context(permissions=["local-network-access"], ignore_https_errors=True)
    context.route(f"{mturk}/**", act_as_mturk)
    context.route("https://evil.example/**", act_as_mturk)
    page = context.new_page()
    page.goto(f"{mturk}/preview")
    page.frame_locator("iframe").get_by_text("This is a preview").wait_for()

    page.goto(f"{mturk}/accepted")
    frame = page.frame_locator("iframe")
    frame.get_by_role("button", name="Start").click()  # its cookie comes through
    frame.locator("#right img").wait_for()
    wait_for_pair(page.frames[1], 1)
    frame.get_by_role("button", name="Left").click()
    frame.get_by_role("button", name="Submit to Mechanical Turk").click()
    frame.get_by_text("Thank you").wait_for()
    [(url, method, form)] = submitted
    assert (url, method) == (f"{mturk}/mturk/externalSubmit", "POST")
    assert form == "assignmentId=3XYZ&outcome=finished&code=C1A2B3C4"

    page.goto("https://evil.example/")
    page.frames[1].wait_for_url("chrome-error://chromewebdata/")
    context.close()
