import io
import json
import random
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask, Response, request
from PIL import Image
from sqlalchemy import func, select
from werkzeug.serving import WSGIRequestHandler, make_server

from study import blindcheck, trials, voting
from study.app import create_app
from study.blindcheck import CHANNELS, Verdict, copy_of, verdict, vote
from study.cli import cli
from study.config import Consent, Entrances, Protocol, Quota
from study.ingest import ingest
from study.protocols import newest
from study.received import of_container, of_headers
from study.schema import Assignment, ImageRow, Voter
from study.served import encode, pad
from study.store import Store, migrate, open_store

KEY = "a key for tests, long enough"
PROTOCOL = Protocol(name="test", title="Which picture is better?", trials_per_voter=20)
Plant = Callable[[Flask, pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, build_gallery: Callable[..., Path]) -> Iterator[Store]:
    """A study of three methods on 14 prompts; nobody votes in it."""
    folder = tmp_path_factory.mktemp("study")
    store = open_store(folder)
    migrate(store)
    ingest(build_gallery(tmp_path_factory.mktemp("wide"), prompts=14), store)
    yield store
    store.close()


@pytest.fixture
def check(wide: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plant], Verdict]:
    """Plant leaks into an application and let the adversary judge 100 pairs of it."""
    chance = random.Random(0)
    monkeypatch.setattr(secrets, "token_hex", lambda size: chance.randbytes(size).hex())
    monkeypatch.setattr(blindcheck, "time", Clock())

    def act(plant: Plant) -> Verdict:
        with copy_of(wide, PROTOCOL) as copy:
            app = create_app({"STUDY": copy.served.parent, "SECRET_KEY": KEY})
            plant(app, monkeypatch)
            with serving(app) as port:
                seen = vote(port, 100, 0, lambda _: None)
            return verdict(copy, seen, 0)

    return act


class Clock:
    """The time that the adversary measures: up to 2 ms later each time, whatever else this machine does."""

    def __init__(self) -> None:
        self.now, self.chance = 0.0, random.Random(1)

    def perf_counter(self) -> float:
        self.now += self.chance.uniform(0, 0.002)
        return self.now


@contextmanager
def serving(app: Flask) -> Iterator[int]:
    """The port at which an application is served by a thread."""
    server = make_server("127.0.0.1", 0, app, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.config["STORE"].close()


class Silent(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections, as the study's own server does

    def log_request(self, *_: object) -> None:
        pass


def method(app: Flask, trial_id: str, side: str) -> int:
    """Which method stands there: 0, 1 or 2."""
    image = Assignment.left_image if side == "left" else Assignment.right_image
    with app.config["STORE"].read() as session:
        name = session.scalar(
            select(ImageRow.method_id)
            .join(Assignment, image == ImageRow.id)
            .where(Assignment.trial_id == trial_id)
        )
    return ("fp16", "naive-w4a4", "qsched-w4a8").index(name)


def on_pictures(change: Callable[[Response, int], None]) -> Plant:
    """A leak in the answer that brings a picture, which is told the method."""

    def plant(app: Flask, _: pytest.MonkeyPatch) -> None:
        @app.after_request
        def leak(response: Response) -> Response:
            if request.endpoint == "voting.picture" and response.status_code == 200:
                change(response, method(app, **request.view_args))
            return response

    return plant


def nothing(app: Flask, patch: pytest.MonkeyPatch) -> None:
    pass


def longer(response: Response, who: int) -> None:
    data = response.data
    with Image.open(io.BytesIO(data)) as image:
        response.data = pad(encode(image), len(data) + 5 * who)


def named(response: Response, who: int) -> None:
    if who == 2:  # a text, of the same length as the padding was
        response.data = response.data.replace(b"paDd", b"tEXt")


def conditional(response: Response, who: int) -> None:
    if who == 1 and "If-Modified-Since" in request.headers:
        response.status_code = 304


def dated(response: Response, who: int) -> None:
    # Every file has a date of its own, as if the methods were ingested one after the other.
    response.last_modified = 1_700_000_000 + 1000 * who + random.Random(request.path).randrange(999)


def slow(response: Response, who: int) -> None:
    blindcheck.time.now += 0.03 * (who == 2)


def in_addresses(app: Flask, patch: pytest.MonkeyPatch) -> None:
    as_json = voting._as_json

    def leak(ballot: Any) -> Any:
        values = as_json(ballot)
        for trial in values["trials"]:
            for side in ("left", "right"):
                trial[side] += f"?v={method(app, trial['id'], side) + 7}"
        return values

    patch.setattr(voting, "_as_json", leak)


def in_json(app: Flask, patch: pytest.MonkeyPatch) -> None:
    as_json = voting._as_json

    def leak(ballot: Any) -> Any:
        values = as_json(ballot)
        for trial in values["trials"]:
            trial["hint"] = method(app, trial["id"], "left")
        return values

    patch.setattr(voting, "_as_json", leak)


def in_answers(app: Flask, _: pytest.MonkeyPatch) -> None:
    @app.after_request
    def leak(response: Response) -> Response:
        if request.endpoint == "voting.cast":
            response.headers["X-Cell"] = str(10 * method(app, request.view_args["trial_id"], "left"))
        return response


def in_order(app: Flask, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trials, "choose_side", lambda *_: True)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (on_pictures(lambda response, who: response.set_etag(f"{who}")), {"headers", "again"}),
        (on_pictures(dated), {"headers", "again"}),
        (on_pictures(longer), {"sizes", "again"}),
        (on_pictures(named), {"container"}),
        (on_pictures(conditional), {"again"}),
        (on_pictures(slow), {"timings"}),
        (in_addresses, {"addresses"}),
        (in_json, {"page"}),
        (in_answers, {"answers"}),
    ],
    ids=["etag", "date", "size", "text", "condition", "slow", "address", "json", "answer"],
)
def test_a_planted_leak_is_found_where_it_is(
    check: Callable[[Plant], Verdict], plant: Plant, found: set[str]
) -> None:
    assert set(check(plant).telling) == found


def test_a_fixed_side_is_found(check: Callable[[Plant], Verdict]) -> None:
    found = check(in_order)
    assert "order" in found.telling
    assert not {"headers", "sizes", "container", "again"} & set(found.telling)


def test_a_clean_study_tells_nothing(check: Callable[[Plant], Verdict]) -> None:
    found = check(nothing)
    assert found.telling == []
    assert (found.trials, found.prompts) == (100, 14)
    alike = {channel.name for channel in found.channels if (channel.low, channel.high) == (0.5, 0.5)}
    assert alike == {"headers", "sizes", "container", "again"}  # these never differ at all


def test_the_clock_and_the_length_of_the_pixels_are_not_facts() -> None:
    one = of_headers(200, [("Date", "Sat, 21 Nov 2026 17:00:00 GMT"), ("Content-Length", "1")])
    other = of_headers(200, [("Date", "Sat, 21 Nov 2026 17:00:09 GMT"), ("Content-Length", "2")])
    assert one == other
    flat, rough = Image.new("RGB", (64, 64)), Image.effect_noise((64, 64), 60).convert("RGB")
    assert len(encode(flat)) < len(encode(rough))
    assert of_container(pad(encode(flat), 20_000)) == of_container(pad(encode(rough), 20_000))
    assert of_container(encode(flat)) != of_container(pad(encode(flat), 20_000))
    assert of_container(pad(encode(flat), 20_000)) != of_container(pad(encode(flat), 20_000) + b"\0")


def test_the_copy_shows_the_same_and_knows_nobody(store: Store, protocol: Protocol) -> None:
    pictures = select(*ImageRow.__table__.columns).order_by(ImageRow.id)
    with store.read() as session:
        shown = session.execute(pictures).all()
    closed = protocol.model_copy(update={"entrances": Entrances(link=False), "consent": Consent(age=18)})
    with copy_of(store, closed) as copy, copy.read() as session:
        assert session.execute(pictures).all() == shown
        assert session.scalar(select(func.count()).select_from(Voter)) == 0
        for image in shown:
            file = f"{image.served_key}.png"
            assert (copy.served / file).read_bytes() == (store.served / file).read_bytes()
        opened = newest(session)
        assert opened
        assert (opened.protocol.entrances, opened.protocol.consent.asked) == (Entrances(), False)
    assert not copy.served.exists()


def test_voters_stop_when_all_votes_are_there(wide: Store) -> None:
    three = PROTOCOL.model_copy(update={"quota": Quota(votes=1, per="category")})
    with copy_of(wide, three) as copy:
        app = create_app({"STUDY": copy.served.parent, "SECRET_KEY": KEY})
        with serving(app) as port:
            assert len(vote(port, 100, 0, lambda _: None)) == 3


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_the_command_leaves_the_study_as_it_was(
    tmp_path: Path, build_gallery: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = tmp_path / "s"
    assert run("init", folder).exit_code == 0
    assert "nothing to show yet" in run("blind-check", "--study", folder).stderr
    assert run("ingest", build_gallery(tmp_path / "g", prompts=12), "--study", folder).exit_code == 0
    before = sorted((file.name, file.stat().st_mtime) for file in (folder / "served").iterdir())
    done = run("blind-check", "--study", folder, "--trials", 100, "--json")
    found = json.loads(done.stdout)
    telling = [channel["name"] for channel in found["channels"] if channel["p_holm"] <= 0.025]
    assert [channel["name"] for channel in found["channels"]] == list(CHANNELS)
    assert done.exit_code == (1 if telling else 0)
    assert found["trials"] == 100
    assert sorted((file.name, file.stat().st_mtime) for file in (folder / "served").iterdir()) == before
    store = open_store(folder)
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(Voter)) == 0
    store.close()
