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

import pytest

CHROMIUM = Path("/usr/bin/chromium")
REPOSITORY = Path(__file__).parents[2]


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
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
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
    processes: list[subprocess.Popen[str]] = []

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
        processes.append(process)
        said = _read_until(process, "Ctrl-C")
        address = re.search(r"Voters\s+(http://\S+?)/\s", said)
        password = re.search(r"one-time password: (\S+)", said)
        assert address and password, said
        return Served(folder, address[1], password[1], said)

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=30)
        assert process.stdout
        process.stdout.close()


def _read_until(process: "subprocess.Popen[str]", word: str) -> str:
    lines: Queue[str] = Queue()
    assert process.stdout
    stream = process.stdout
    Thread(target=lambda: [lines.put(line) for line in iter(stream.readline, "")], daemon=True).start()
    said = ""
    while word not in said:
        said += lines.get(timeout=30)
    return said
