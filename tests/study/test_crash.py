"""`kill -9` in the middle of voters at once: what was acknowledged is there, once, and voters go on."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select

from study.config import Protocol, Quota
from study.ingest import ingest
from study.protocols import open_protocol
from study.schema import Vote
from study.store import Store
from study.verify import verify

REPOSITORY = Path(__file__).parents[2]
VOTERS = 50  # all at once
TRIALS = 6  # of each


class Server:
    """`study serve` in a process group of its own, that can be killed as a whole."""

    def __init__(self, folder: Path, database: str | None) -> None:
        environment = {**os.environ, "DATABASE_URL": database} if database else dict(os.environ)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study.cli", "serve", "--study", str(folder), "--port", "0"],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout
        said = ""
        while "Ctrl-C" not in said:
            line = self.process.stdout.readline()
            assert line, said
            said += line
        found = re.search(r"Voters\s+(http://\S+?)/\s", said)
        assert found, said
        self.address = found[1]

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


class Person:
    """A voter over real HTTP, with a cookie."""

    def __init__(self) -> None:
        self.cookie = ""
        self.token = ""

    def ask(
        self, address: str, method: str, path: str, body: Any = None, form: str = ""
    ) -> tuple[int, bytes]:
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        headers = {"Cookie": self.cookie, "X-CSRFToken": self.token}
        data = form.encode() if form else json.dumps(body).encode() if body else None
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        try:
            connection.request(method, path, data, {**headers, "Content-Type": kind})
            response = connection.getresponse()
            page = response.read()
        finally:
            connection.close()
        for cookie in response.headers.get_all("Set-Cookie", []):
            self.cookie = cookie.split(";")[0]
        if found := re.search(rb'name="csrf[-_]token" (?:value|content)="([^"]+)"', page):
            self.token = found[1].decode()
        return response.status, page

    def start(self, address: str) -> None:
        self.ask(address, "GET", "/")
        status, _ = self.ask(address, "POST", "/start", form=f"csrf_token={self.token}")
        assert status == 303

    def trial(self, address: str) -> str | None:
        """The first open trial; None at the end."""
        status, page = self.ask(address, "GET", "/vote")
        if status != 200:
            return None
        found = re.search(rb'id="ballot">(.*?)</script>', page, re.DOTALL)
        assert found, page
        return json.loads(found[1])["trials"][0]["id"]

    def vote(self, address: str, trial: str) -> int:
        answers = [{"question": "preference", "answer": "left", "rt_ms": 900}]
        body = {"vote_id": f"vote-{trial}", "answers": answers}
        return self.ask(address, "POST", f"/trials/{trial}/vote", body)[0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_acknowledged_votes_survive_kill_9(empty_store: Store, gallery: Path, database: str | None) -> None:
    folder = empty_store.served.parent
    ingest(gallery, empty_store)
    protocol = Protocol(name="t", title="t", trials_per_voter=TRIALS, prefetch=1, quota=Quota(votes=50))
    open_protocol(empty_store, protocol)
    study = protocol.model_dump(include={"name", "title", "trials_per_voter", "prefetch"})
    toml = "\n".join(f"{key} = {json.dumps(value)}" for key, value in study.items())
    (folder / "study.toml").write_text(f"{toml}\n[quota]\nvotes = 50\n")
    (folder / "secret.key").write_text("a key for tests, long enough")
    (folder / "secret.key").chmod(0o600)

    server = Server(folder, database)
    people = [Person() for _ in range(VOTERS)]
    acknowledged: set[str] = set()
    lock = Lock()

    def sit(person: Person) -> None:
        try:
            while (trial := person.trial(server.address)) is not None:
                if person.vote(server.address, trial) == 200:
                    with lock:
                        acknowledged.add(f"vote-{trial}")
                        if len(acknowledged) == 2 * VOTERS:
                            server.kill()  # SIGKILL to the master and all workers, in the middle of it
        except (OSError, http.client.HTTPException):
            return  # the server is gone

    try:
        with ThreadPoolExecutor(VOTERS) as pool:
            list(pool.map(lambda person: person.start(server.address), people))
            list(pool.map(sit, people))
        assert 2 * VOTERS <= len(acknowledged) < TRIALS * VOTERS
        server = Server(folder, database)
        with empty_store.read() as session:
            stored = session.scalars(select(Vote.vote_id)).all()
            assert acknowledged <= set(stored)
            assert len(set(stored)) == len(stored) <= len(acknowledged) + VOTERS
        verify(empty_store)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda person: finish(person, server.address), people))
        with empty_store.read() as session:
            assert session.scalar(select(func.count()).select_from(Vote)) == TRIALS * VOTERS
        verify(empty_store)
    finally:
        server.kill()


def finish(person: Person, address: str) -> None:
    while (trial := person.trial(address)) is not None:
        assert person.vote(address, trial) == 200
