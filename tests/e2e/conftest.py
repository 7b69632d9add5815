"""A real server and a real browser."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
REPOSITORY = Path(__file__).parents[2]
LONG = 120  # seconds: far more than anything here takes, also on a machine that is busy with something else
UNSENT = """() => new Promise((resolve) => {
    const asked = indexedDB.open("pairstudy");
    asked.onsuccess = () => {
        const items = asked.result.transaction("outbox").objectStore("outbox").getAll();
        items.onsuccess = () => {
            asked.result.close();
            resolve(items.result.length);
        };
    };
})"""  # how many answers the server does not have


def missing(what: str) -> None:
    """Skip on a developer's machine, fail where CI promised to bring everything."""
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, but {what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:  # noqa: F821
    """Debian's Chromium, headless."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    if not CHROMIUM.exists():
        missing(f"{CHROMIUM} (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        with closing(browser):
            yield browser


def command(program: str, *arguments: object) -> str:
    """Run a command of ours as a user would and return what it printed."""
    line = [sys.executable, "-c", f"from {program}.cli import cli; cli()", *map(str, arguments)]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session", name="command")
def command_fixture() -> Callable[..., str]:
    """`command`, for tests."""
    return command


@dataclass(frozen=True)
class Served:
    """A study that is being served; `said` is what the command printed first."""

    folder: Path
    address: str
    password: str
    said: str


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Make a study of a gallery, serve it on a free port, stop it after the module's tests.

    `toml` is what study.toml says beside name and title.
    """
    running: list[tuple[subprocess.Popen[str], Thread]] = []

    def start(gallery: Path, title: str = "Which picture is better?", toml: str = "") -> Served:
        folder = tmp_path_factory.mktemp("served") / "study"
        command("study", "init", folder, "--title", title)
        if toml:
            (folder / "study.toml").write_text(f'name = "study"\ntitle = "{title}"\n{toml}')
        command("study", "ingest", gallery, "--study", folder)
        process = subprocess.Popen(
            [sys.executable, "-m", "study.cli", "serve", "--study", str(folder), "--port", "0"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines: Queue[str] = Queue()
        reader = Thread(target=_read, args=(process, lines))
        reader.start()
        running.append((process, reader))
        said = ""
        while "Ctrl-C" not in said:
            line = lines.get(timeout=LONG)
            assert line, said
            said += line
        address = re.search(r"Voters\s+(http://\S+?)/\s", said)
        password = re.search(r"one-time password: (\S+)", said)
        assert address and password, said
        return Served(folder, address[1], password[1], said)

    yield start
    for process, reader in running:
        process.terminate()
        process.wait(timeout=LONG)
        reader.join()


def _read(process: "subprocess.Popen[str]", lines: "Queue[str]") -> None:
    """Hand on what a process says, line by line, and "" at its end."""
    assert process.stdout
    with process.stdout as said:
        for line in said:
            lines.put(line)
    lines.put("")


def settle(page: Any) -> None:
    """Wait for two frames: what was changed before is laid out, and who watches sizes has been told."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_for_pair(page: Any, number: int) -> None:
    """Wait until a pair can be answered: it is there, and was painted long enough ago."""
    page.wait_for_function(
        "n => document.querySelectorAll('#stage img').length === 2"
        " && document.querySelector('#stage').getAttribute('aria-busy') === 'false'"
        " && document.querySelector('#progress').value === n - 1",
        arg=number,
    )
    settle(page)
    page.wait_for_timeout(250)  # nobody answers quicker


def wait_for_pictures(page: Any, pairs: int) -> None:
    """Wait until the page has loaded the pictures of so many pairs."""
    addresses = "performance.getEntriesByType('resource').map((it) => it.name)"
    loaded = f"new Set({addresses}.filter((it) => it.endsWith('.png'))).size"
    page.wait_for_function(f"pairs => {loaded} >= 2 * pairs", arg=pairs)


def wait_until_sent(page: Any) -> None:
    """Wait until the server has all answers."""
    page.wait_for_function(f"async () => await ({UNSENT})() === 0", polling=100, timeout=1000 * LONG)
