"""Fresh stores on both databases, and voter robots."""

import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, func, select, text

from study.app import create_app
from study.config import Completion, Entrances, Protocol
from study.ingest import ingest
from study.logins import new_password
from study.protocols import open_protocol
from study.schema import Person, Voter
from study.store import Store, migrate, open_store

PID = "5f3c9a0e7b1d2c4e6f8a9b0c"
PROLIFIC = f"/?PROLIFIC_PID={PID}&STUDY_ID=s7&SESSION_ID=t9"

NewBrowser = Callable[[], Any]
SetUp = Callable[..., Protocol]

KEY = "a key for tests, long enough"
ENTRANCES = Entrances(mturk=True, kiosk=True)
CODES = Completion(finished="DONE1", screened_out="OUT2", no_consent="NO3")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the tests."""
    # A short path: the server's socket lies in it, and socket paths may have 100 characters.
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp", ignore_cleanup_errors=True) as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", folder)  # else a warning on machines without a login session
            try:
                import pgserver
                import psycopg  # noqa: F401
                from fasteners import InterProcessLock
            except ImportError as error:
                if os.environ.get("CI"):
                    pytest.fail(f"CI is set, but {error.name} is missing")
                pytest.skip(f"{error.name} is missing")
        start = pgserver.postgres_server.pg_ctl
        with (
            pytest.MonkeyPatch.context() as patch,
            # One process at a time: for root, the first of them makes a user for the servers to run as.
            InterProcessLock(tmp_path_factory.getbasetemp().parent / "postgres.lock"),
        ):
            # pgserver waits 10 seconds, which a busy machine can need.
            patient = lambda *arguments, **named: start(*arguments, **{**named, "timeout": 120})  # noqa: E731
            patch.setattr(pgserver.postgres_server, "pg_ctl", patient)
            server = pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        # Nobody needs these databases after a power cut.
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


numbers = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """DATABASE_URL of an empty database, None for SQLite in the study's folder; each test runs on both."""
    if request.param == "sqlite":
        return None
    server = request.getfixturevalue("postgres")
    name = f"test{next(numbers)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def empty_store(database: str | None, tmp_path: Path) -> Iterator[Store]:
    """A store with tables and nothing in them."""
    folder = tmp_path / "study"
    folder.mkdir()
    store = open_store(folder, database)
    migrate(store)
    yield store
    store.close()


@pytest.fixture
def protocol() -> Protocol:
    return Protocol(name="test", title="Which picture is better?", trials_per_voter=12)


@pytest.fixture
def store(empty_store: Store, gallery: Path, protocol: Protocol) -> Store:
    """A store that shows the synthetic gallery."""
    ingest(gallery, empty_store)
    open_protocol(empty_store, protocol)
    return empty_store


@pytest.fixture
def make_app(empty_store: Store, database: str | None) -> Iterator[Callable[[], Flask]]:
    """Make the application on the test's store, whatever it holds."""
    apps = []

    def make() -> Flask:
        folder = empty_store.served.parent
        app = create_app({"STUDY": folder, "SECRET_KEY": KEY, "DATABASE_URL": database})
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.config["STORE"].close()


@pytest.fixture
def app(store: Store, make_app: Callable[[], Flask]) -> Flask:
    """The application on a store that shows the synthetic gallery."""
    return make_app()


@dataclass
class Robot:
    """A voter without a browser: follows the pages, keeps the CSRF token and every byte received."""

    client: FlaskClient
    received: list[bytes] = field(default_factory=list)
    token: str = ""
    trials: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, response: Any) -> Any:
        self.received += [response.request.url.encode(), str(response.headers).encode(), response.data]
        response.close()  # a static file stays open until then
        found = re.search(rb'name="csrf[-_]token" (?:value|content)="([^"]+)"', response.data)
        self.token = found[1].decode() if found else self.token
        return response

    def get(self, path: str) -> Any:
        return self.keep(self.client.get(path))

    def start(self) -> "Robot":
        self.get("/")
        self.keep(self.client.post("/start", data={"csrf_token": self.token}))
        return self.look()

    def look(self) -> "Robot":
        page = self.get("/vote")
        found = re.search(rb'id="ballot">(.*?)</script>', page.data, re.DOTALL)
        assert found, page.data
        self.trials = json.loads(found[1])["trials"]
        return self

    def post(self, trial_id: str, body: Any, token: str | None = None, what: str = "vote") -> Any:
        headers = {"X-CSRFToken": self.token if token is None else token}
        return self.keep(self.client.post(f"/trials/{trial_id}/{what}", json=body, headers=headers))

    def sign_in(self, password: str) -> Any:
        self.get("/admin/login")
        return self.submit("/admin/login", password=password)

    def submit(self, path: str, **fields: str) -> Any:
        """Send a form of the page seen last."""
        return self.keep(self.client.post(path, data={"csrf_token": self.token, **fields}))

    def answer(self, side: str = "left", vote_id: str | None = None, questions: Any = ("preference",)) -> Any:
        trial = self.trials[0]
        answers = [{"question": question, "answer": side, "rt_ms": 1234} for question in questions]
        body = {"vote_id": vote_id or f"vote-{trial['id']}", "answers": answers}
        response = self.post(trial["id"], body)
        if response.status_code == 200:
            self.trials = response.json["trials"]
        return response


@pytest.fixture
def robot(app: Flask) -> Callable[[], Robot]:
    """Make a voter robot that has started."""
    return lambda: Robot(app.test_client()).start()


@pytest.fixture
def robot_on() -> Callable[[Flask], Robot]:
    """Make a voter robot on an application, started."""
    return lambda app: Robot(app.test_client()).start()


@pytest.fixture
def stranger(app: Flask) -> Robot:
    """A robot that has not started."""
    return Robot(app.test_client())


@pytest.fixture
def set_up(store: Store, protocol: Protocol) -> Callable[..., Protocol]:
    """Open a version of the study with other settings; two trials, so that the end is near."""

    def open_with(**settings: Any) -> Protocol:
        changed = protocol.model_copy(
            update={"trials_per_voter": 2, "entrances": ENTRANCES, "completion": CODES, **settings}
        )
        open_protocol(store, changed)
        return changed

    return open_with


class Browser:
    """A person without a browser: follows links and sends forms, with the token of the page before."""

    def __init__(self, client: FlaskClient) -> None:
        self.client, self.page = client, None

    def go(self, path: str) -> Any:
        self.page = self.client.get(path, follow_redirects=True)
        return self.page

    def send(self, path: str, **form: str) -> Any:
        token = re.search(r'name="csrf[-_]token" (?:value|content)="([^"]+)"', self.page.text)
        assert token, self.page.text
        self.page = self.client.post(path, data={"csrf_token": token[1], **form}, follow_redirects=True)
        return self.page

    def agree(self, path: str = "/", **form: str) -> Any:
        self.go(path)
        hash_ = re.search(r'name="protocol" value="(\w+)"', self.go("/consent").text)
        return self.send("/start", protocol=hash_[1] if hash_ else "", answer="agree", **form)

    def vote(self) -> Any:
        while "ballot" in self.go("/vote").text and self.path == "/vote":
            ballot = re.search(r'id="ballot">(.*?)</script>', self.page.text, re.DOTALL)
            token = re.search(r'name="csrf-token" content="([^"]+)"', self.page.text)
            assert ballot
            assert token
            trial = json.loads(ballot[1])["trials"][0]
            answers = [{"question": "preference", "answer": "left", "rt_ms": 900}]
            body = {"vote_id": secrets.token_hex(16), "answers": answers}
            done = self.client.post(trial["vote"], json=body, headers={"X-CSRFToken": token[1]})
            assert done.status_code == 200, done.text
        return self.page

    @property
    def path(self) -> str:
        return self.page.request.path

    @property
    def heading(self) -> str:
        found = re.search(r"<h1[^>]*>(.*?)</h1>", self.page.text, re.DOTALL)
        return found[1] if found else ""


@pytest.fixture
def browser(app: Flask) -> Callable[[], Browser]:
    return lambda: Browser(app.test_client())


@pytest.fixture
def researcher(store: Store, app: Flask) -> Robot:
    """A robot that is signed in."""
    robot = Robot(app.test_client())
    robot.sign_in(new_password(store))
    return robot


def persons(store: Store) -> list[Person]:
    with store.read() as session:
        return list(session.scalars(select(Person).order_by(Person.created)))


def voters(store: Store) -> int:
    with store.read() as session:
        return session.scalar(select(func.count()).select_from(Voter)) or 0
