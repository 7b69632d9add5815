"""`study blind-check`: voters who try to tell the methods from everything they receive but the pixels.

They vote in a copy of the study, so that no vote of theirs is in the real one: the same protocol, pictures
and program in a folder of its own on SQLite, served by the same server on this machine. What a proxy adds is
not seen. docs/blinding.md goes through the channels.
"""

import json
import multiprocessing
import random
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import aliased

from study.app import create_app
from study.config import Protocol
from study.leaks import NUMBER, Channel, Facts, Received, Truth, judge
from study.protocols import open_protocol
from study.received import Headers, of_address, of_container, of_headers, of_size, of_values, words
from study.schema import Assignment, GalleryRow, ImageRow, MethodRow, PromptRow
from study.server import Server, listen
from study.store import Store, StoreError, migrate, open_store

CHANNELS = {
    "page": "the voting page, and what a pair's JSON says",
    "addresses": "the addresses of the pictures, and the name of the trial",
    "order": "which method is on the left, which pair comes when",
    "headers": "of the pictures",
    "sizes": "of the pictures and their headers",
    "container": "the PNG around the pixels, and metadata",
    "again": "a picture asked for a second time, with conditions",
    "answers": "what comes back for a vote",
    "timings": "of pictures and votes, in milliseconds",
}
# What comes before and after all pairs.
DOORS = ("entrances", "bot_check", "consent", "demographics", "completion")
SIDES = ("left", "right")
# What a browser or an adversary may send with a second request, to learn whether the picture is the same.
CONDITIONS = {
    "If-None-Match": "*",
    "If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT",
    "Range": "bytes=0-9",
}
LONGEST = 200  # trials of one voter, who would meet the limit of requests a minute (study.security) with more
TIMEOUT = 60  # seconds


@dataclass
class Seen:
    """What came about one trial, by channel."""

    left: dict[str, Facts] = field(default_factory=dict)
    right: dict[str, Facts] = field(default_factory=dict)
    both: dict[str, Facts] = field(default_factory=dict)

    def of(self, channel: str) -> Received:
        """What one channel brought."""
        return Received(*(side.get(channel, {}) for side in (self.left, self.right, self.both)))


@dataclass(frozen=True)
class Verdict:
    """What was found, in how many trials on how many prompts."""

    channels: list[Channel]
    trials: int
    prompts: int
    seed: int

    @property
    def telling(self) -> list[str]:
        """The channels that tell which side is which method."""
        return [channel.name for channel in self.channels if channel.tells]


def blind_check(
    store: Store, protocol: Protocol, trials: int, seed: int, tell: Callable[[int], None]
) -> Verdict:
    """Let voters go through so many trials of a copy of the study, and judge what they received.

    `tell` hears of each trial.

    Raises
    ------
    TooFewError
        If fewer than 10 prompts were shown.
    ConfigError, StoreError
        If the protocol cannot be opened with the gallery.
    """
    with copy_of(store, protocol) as copy:
        with served({"STUDY": copy.served.parent, "SECRET_KEY": secrets.token_hex(32)}) as port:
            seen = vote(port, trials, seed, tell)
        return verdict(copy, seen, seed)


@contextmanager
def copy_of(store: Store, protocol: Protocol) -> Iterator[Store]:
    """A study of the same pictures, opened afresh to everybody, in a folder that goes away."""
    open_to_all = {name: type(protocol).model_fields[name].default for name in DOORS}
    with tempfile.TemporaryDirectory(prefix="blind-check-") as place:
        copy = open_store(place)
        try:
            migrate(copy)
            copy.served.mkdir()
            for file in store.served.glob("*.png"):
                (copy.served / file.name).symlink_to(file)
            with store.read() as source, copy.write() as target:
                for kind in (GalleryRow, MethodRow, PromptRow, ImageRow):
                    rows = source.execute(select(*kind.__table__.columns)).mappings().all()
                    if not rows:
                        raise StoreError("nothing to show yet; `study ingest GALLERY` first")
                    target.execute(insert(kind), [dict(row) for row in rows])
            open_protocol(copy, protocol.model_copy(update=open_to_all))
            yield copy
        finally:
            copy.close()


@contextmanager
def served(config: dict[str, Any]) -> Iterator[int]:
    """The port on this machine at which an application is served, by a process of its own."""
    with listen("127.0.0.1", 0) as bound:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(config, bound))
        process.start()
        try:
            yield bound.getsockname()[1]
        finally:
            process.terminate()
            process.join()


def _serve(config: dict[str, Any], bound: socket.socket) -> None:
    Server(lambda: create_app(config), bound, 1, lambda: None).run()


# ---------------------------------------------------------------- voters


@dataclass(frozen=True)
class Answer:
    """What came back for one request; milliseconds until its headers were here, and until all of it was."""

    status: int
    headers: Headers
    body: bytes
    first_ms: float
    whole_ms: float


class Visitor:
    """A voter's browser, as far as bytes go: one kept connection and its cookies."""

    def __init__(self, port: int) -> None:
        """Nothing is asked yet."""
        self.connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self.cookies: SimpleCookie = SimpleCookie()
        self.token = ""

    def ask(self, method: str, address: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and wait for all of the answer."""
        headers["Cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        if body is not None:
            headers.update({"Content-Type": "application/json", "X-CSRFToken": self.token})
            body = json.dumps(body)
        start = time.perf_counter()
        self.connection.request(method, address, body, headers)
        response = self.connection.getresponse()
        first = time.perf_counter()
        content = response.read()
        whole = time.perf_counter()
        for value in response.headers.get_all("Set-Cookie", []):
            self.cookies.load(value)
        return Answer(
            status=response.status,
            headers=response.getheaders(),
            body=content,
            first_ms=1000 * (first - start),
            whole_ms=1000 * (whole - start),
        )

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def vote(port: int, trials: int, seed: int, tell: Callable[[int], None]) -> dict[str, Seen]:
    """Let voters go through so many trials, or as many as there are; what each trial, by its id, received."""
    chance = random.Random(f"{seed}/blind-check")
    seen: dict[str, Seen] = {}
    while len(seen) < trials:
        visitor = Visitor(port)
        try:
            if not _start(visitor):  # no pair wants a vote any more
                break
            _session(visitor, seen, trials, chance, tell)
        finally:
            visitor.close()
    return seen


def _start(visitor: Visitor) -> bool:
    """Become a voter; False if the study has nothing to show."""
    welcome = visitor.ask("GET", "/")
    token = re.search(r'name="csrf_token" value="([^"]+)"', welcome.body.decode())
    if welcome.status in (410, 503):  # all votes are there, or all places taken
        return False
    if token is None:
        raise RuntimeError(f"/ answered {welcome.status} with nothing to start by")
    visitor.token = token[1]
    return visitor.ask("POST", "/start", {}).status == 303


def _session(
    visitor: Visitor, seen: dict[str, Seen], trials: int, chance: random.Random, tell: Callable[[int], None]
) -> None:
    page = visitor.ask("GET", "/vote")
    text = page.body.decode()
    found = {name: re.search(rf'id="{name}">(.*?)</script>', text, re.DOTALL) for name in ("ballot", "asked")}
    token = re.search(r'name="csrf-token" content="([^"]+)"', text)
    if page.status != 200 or token is None or None in found.values():
        raise RuntimeError(f"/vote answered {page.status} with no pairs to vote on")
    visitor.token = token[1]
    ballot, asked = (json.loads(match[1]) for match in found.values() if match)
    around = words(re.sub(r'id="ballot">.*?</script>', "", text, flags=re.DOTALL))
    while ballot["trials"]:
        for trial in ballot["trials"]:
            if trial["id"] not in seen:
                seen[trial["id"]] = _look(visitor, trial, around, chance)
                tell(1)
        if len(seen) >= trials or ballot["done"] >= LONGEST:
            return
        first = ballot["trials"][0]
        answers = [
            {"question": question["id"], "answer": chance.choice(question["answers"]), "rt_ms": 1234}
            for question in asked
        ]
        answer = visitor.ask("POST", first["vote"], {"vote_id": secrets.token_hex(16), "answers": answers})
        if answer.status != 200:
            raise RuntimeError(f"a vote was answered with {answer.status}: {answer.body[:200]!r}")
        ballot = json.loads(answer.body)
        around = of_values({name: value for name, value in ballot.items() if name != "trials"})
        both = seen[first["id"]].both
        both["answers"] = {**of_headers(answer.status, answer.headers), **around}
        both["timings"] = {f"{NUMBER}vote": answer.whole_ms}


def _look(visitor: Visitor, trial: dict[str, Any], around: Facts, chance: random.Random) -> Seen:
    """Load both pictures of a trial, in an order left to chance, and take down what came."""
    seen = Seen()
    elsewhere = dict.fromkeys(("id", *SIDES))  # their names are the page's, their values are addresses
    place = trial["position"]
    seen.both["page"] = {**of_values({**trial, **elsewhere}), **around}
    seen.both["addresses"] = of_address(trial["id"])
    seen.both["order"] = {"always": 1.0, f"odd {place % 2}": 1.0, f"{NUMBER}position": place}
    for side in chance.sample(SIDES, 2):
        facts, address = getattr(seen, side), trial[side]
        got = visitor.ask("GET", address)
        again = visitor.ask("GET", address, **CONDITIONS)
        facts["addresses"] = of_address(address)
        facts["headers"] = of_headers(got.status, got.headers)
        facts["sizes"] = of_size(got.headers, got.body)
        facts["container"] = of_container(got.body)
        facts["again"] = {**of_headers(again.status, again.headers), **of_size(again.headers, again.body)}
        facts["timings"] = {
            f"{NUMBER}first": got.first_ms,
            f"{NUMBER}whole": got.whole_ms,
            f"{NUMBER}again": again.whole_ms,
        }
    return seen


# ---------------------------------------------------------------- the verdict


def verdict(copy: Store, seen: dict[str, Seen], seed: int) -> Verdict:
    """Hold what was received against what was shown; trials with one method on both sides do not count.

    Raises
    ------
    TooFewError
        If fewer than 10 prompts were shown.
    """
    truths = _truths(copy)
    judged = [trial for trial in seen if trial in truths]
    told = {name: [seen[trial].of(name) for trial in judged] for name in CHANNELS}
    known = [truths[trial] for trial in judged]
    return Verdict(judge(told, known, seed), len(judged), len({truth.prompt for truth in known}), seed)


def _truths(copy: Store) -> dict[str, Truth]:
    left, right = aliased(ImageRow), aliased(ImageRow)
    statement = (
        select(Assignment.trial_id, left.method_id, right.method_id, left.prompt_id)
        .join(left, left.id == Assignment.left_image)
        .join(right, right.id == Assignment.right_image)
        .where(left.method_id != right.method_id)
    )
    with copy.read() as session:
        return {trial: Truth(*rest) for trial, *rest in session.execute(statement)}


def to_terminal(found: Verdict) -> str:
    """The verdict as a table."""
    lines = ["channel        AUC  95 % interval   p (Holm)"]
    for channel in found.channels:
        interval = f"{channel.low:.3f} to {channel.high:.3f}"
        lines.append(f"{channel.name:11}{channel.auc:7.3f}  {interval:16}{channel.p_holm:9.2g}")
        lines += [f"{'':13}by {clue}" for clue in channel.clues]
    lines.append(f"{found.trials} pairs on {found.prompts} prompts, seed {found.seed}")
    return "\n".join(lines)
