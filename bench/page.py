"""How long a voter waits from an answer to the next pair, with latency added to the network.

    python bench/page.py                        # 30 trials, 100 ms
    python bench/page.py --latency 300 --think 0.5

A real Chromium votes on demo/gallery by keyboard, after looking at each pair for some time; the network is
slowed down by the browser itself. All times are the page's own performance entries: `answered` is the time
stamp of the key press, `revealed` the frame that shows the next pair. Beside it the peer, in the same
browser: a page for each pair, which posts a form and loads the next page with both pictures, as Gavel and
most survey tools do. Its time runs from the click to the frame after both pictures are decoded.
"""

import argparse
import logging
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from flask import Flask, redirect, request, send_file
from playwright.sync_api import Page, Request, sync_playwright
from werkzeug.serving import make_server

REPOSITORY = Path(__file__).parents[1]
GALLERY = REPOSITORY / "demo" / "gallery"
CLI = ("-c", "from study.cli import cli; cli()")
READY = """number => document.querySelector("#count").textContent.startsWith(`Pair ${number} `)
    && document.querySelector("#stage").getAttribute("aria-busy") === "false\""""
SHIFTS = """
    window.shift = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((it) => (window.shift += it.value)))
        .observe({type: "layout-shift", buffered: true});
"""
PEER = """<!doctype html><form method="post"><button name="side" value="left">Left</button></form>
<img src="/{n}/0.png"><img src="/{n}/1.png"><script src="/time.js"></script>"""
PEER_TIME = """
    addEventListener("submit", (event) => (sessionStorage.at = performance.timeOrigin + event.timeStamp));
    addEventListener("load", async () => {
        await Promise.all([...document.images].map((image) => image.decode()));
        requestAnimationFrame(() => {
            window.waited = performance.timeOrigin + performance.now() - sessionStorage.at;
        });
    });
"""


@contextmanager
def study(trials: int) -> Iterator[str]:
    """`study serve` on a fresh study; gives its address."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, *CLI, "init", folder], check=True, cwd=REPOSITORY, stdout=-3)
        toml = Path(folder, "study.toml")
        toml.write_text(re.sub(r"trials_per_voter = \d+", f"trials_per_voter = {trials}", toml.read_text()))
        ingest = [sys.executable, *CLI, "ingest", GALLERY, "--study", folder]
        subprocess.run(ingest, check=True, cwd=REPOSITORY, stdout=-3)
        serve = [sys.executable, *CLI, "serve", "--study", folder, "--port", "0"]
        with subprocess.Popen(serve, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if found := re.search(r"Voters\s+(http://\S+)", line):
                    break
            Thread(target=process.stdout.read, daemon=True).start()
            yield found[1]
            process.terminate()


@contextmanager
def peer() -> Iterator[str]:
    """The page for each pair; gives its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Flask("peer")
    pictures = sorted(GALLERY.glob("images/*/*.png"))

    @app.route("/pair/<int:n>", methods=["GET", "POST"])
    def pair(n: int) -> Any:
        return redirect(f"/pair/{n + 1}", 303) if request.method == "POST" else PEER.format(n=n)

    @app.get("/<int:n>/<int:side>.png")
    def picture(n: int, side: int) -> Any:
        return send_file(pictures[(2 * n + side) % len(pictures)])

    @app.get("/time.js")
    def script() -> Any:
        return PEER_TIME, {"Content-Type": "text/javascript"}

    server = make_server("127.0.0.1", 0, app, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.port}/pair/0"
    server.shutdown()


def slow(page: Page, latency: float) -> None:
    """Add so many ms to each request of the page."""
    slowed = {"offline": False, "latency": latency, "downloadThroughput": -1, "uploadThroughput": -1}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slowed)


def vote(page: Page, trials: int, think: float) -> dict[str, Any]:
    """Answer so many pairs; the page's own times in ms."""
    displays: list[dict[str, Any]] = []

    def listen(sent: Request) -> None:
        if sent.method == "POST" and sent.url.endswith("/vote"):
            displays.append(sent.post_data_json["display"])

    page.on("request", listen)
    page.add_init_script(SHIFTS)
    page.get_by_role("button", name="Start").click()
    for number in range(1, trials + 1):
        page.wait_for_function(READY, arg=number)
        page.wait_for_timeout(1000 * think)
        page.keyboard.press("ArrowLeft")
    page.wait_for_function(READY, arg=trials + 1)
    times = {
        name: page.evaluate("name => performance.getEntriesByName(name).map((it) => it.startTime)", name)
        for name in ("answered", "revealed")
    }
    return {
        "waits": [shown - said for said, shown in zip(times["answered"], times["revealed"][1:], strict=True)],
        "first": times["revealed"][0],
        "shift": page.evaluate("window.shift"),
        "decode": [display["decode_ms"] for display in displays],
        "paint": [display["paint_ms"] for display in displays],
    }


def vote_at_peer(page: Page, trials: int, think: float) -> list[float]:
    waits = []
    for number in range(1, trials + 1):
        page.wait_for_timeout(1000 * think)
        page.get_by_role("button").click()
        page.wait_for_url(f"**/pair/{number}")
        page.wait_for_function("window.waited !== undefined")
        waits.append(page.evaluate("window.waited"))
    return waits


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {statistics.median(ordered):6.1f} ms, largest {ordered[-1]:6.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--latency", type=float, default=100, help="ms added to each request")
    parser.add_argument("--think", type=float, default=1.0, help="seconds each pair is looked at")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    options = parser.parse_args()
    with sync_playwright() as playwright, study(options.trials + 1) as address, peer() as other:
        browser = playwright.chromium.launch(
            executable_path=options.browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        slow(page, options.latency)
        got = vote(page, options.trials, options.think)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(other)
        slow(page, options.latency)
        waits = vote_at_peer(page, options.trials, options.think)
        setting = f"{options.trials} trials, {options.latency:g} ms added, {options.think:g} s a pair"
        print(f"{setting}, Chromium {browser.version}")
        browser.close()
    ratio = statistics.median(got["waits"]) / statistics.median(waits)
    print(f"answer → next pair       {spread(got['waits'])}")
    print(f"the same, page by page   {spread(waits)}   ratio {ratio:.3f}")
    print(f"first pair               {got['first']:.0f} ms after the page was asked for")
    print(f"decoding ahead           {spread(got['decode'])}")
    print(f"frame → painted          {spread(got['paint'])}")
    print(f"layout shift             {got['shift']:g}")


if __name__ == "__main__":
    main()
