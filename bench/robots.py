"""Voters without a browser, many in one process. Their HTTP is by hand: cheap, as they share the machine."""

import asyncio
import json
import random
import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

DISPLAY = {"dpr": 2, "scale": 1.5, "viewport": [1440, 900], "layout": "row", "input": "key", "hidden_ms": 0}
JSON = {"Content-Type": "application/json"}
LENGTH = re.compile(rb"(?i)\ncontent-length: (\d+)")
COOKIE = re.compile(rb"(?i)\nset-cookie: ([^;]+)")
TOKEN = re.compile(rb'name="csrf[-_]token" (?:value|content)="([^"]+)"')
BALLOT = re.compile(rb'id="ballot">(.*?)</script>', re.DOTALL)


@dataclass
class Tally:
    """What the robots saw since the warm-up: milliseconds of each vote, and what went wrong."""

    counting: bool = False
    times: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


class UnexpectedError(Exception):
    """An answer with a status that no browser would get."""


@dataclass
class Robot:
    """A voter with one kept connection."""

    host: str
    port: int
    tally: Tally
    think: float
    pictures: bool
    streams: Any = None
    cookie: str = ""
    token: str = ""

    async def ask(self, method: str, path: str, body: str = "", **headers: str) -> bytes:
        """A page; once again on a fresh connection where the server has closed the idle one."""
        fresh = self.streams is None
        try:
            if fresh:
                self.streams = await asyncio.open_connection(self.host, self.port)
            return await self._ask(method, path, body, headers)
        except (OSError, asyncio.IncompleteReadError):
            self.streams = None
            if fresh:
                raise
            return await self.ask(method, path, body, **headers)

    async def _ask(self, method: str, path: str, body: str, headers: dict[str, str]) -> bytes:
        reader, writer = self.streams
        headers = {"Host": self.host, "Cookie": self.cookie, "Content-Length": str(len(body)), **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
        writer.write("\r\n".join([*lines, "", body]).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        page = await reader.readexactly(int(length[1]) if length else 0)
        if cookie := COOKIE.search(head):
            self.cookie = cookie[1].decode()
        if head[9:12] not in (b"200", b"303"):
            raise UnexpectedError(f"{head[9:12].decode()} at {re.sub('[0-9a-f]{32}', '*', path)}")
        return bytes(page)

    async def timed(self, path: str, **headers: str) -> bytes:
        answers = [{"question": "preference", "answer": random.choice(("left", "right")), "rt_ms": 1234}]
        body = json.dumps({"vote_id": secrets.token_hex(16), "answers": answers, "display": DISPLAY})
        start = time.perf_counter()
        page = await self.ask("POST", path, body, **JSON, **headers)
        if self.tally.counting:
            self.tally.times.append(1000 * (time.perf_counter() - start))
        return page

    async def session(self) -> None:
        """One voter from the welcome page to the last trial."""
        self.cookie = ""
        await self._read_token("/")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        await self.ask("POST", "/start", f"csrf_token={self.token}", **form)
        ballot = json.loads(BALLOT.findall(await self._read_token("/vote"))[0])
        loaded: set[str] = set()
        while not ballot["finished"]:
            new = [trial for trial in ballot["trials"] if trial["id"] not in loaded]
            for picture in [trial[side] for trial in new for side in ("left", "right")]:
                if self.pictures:
                    await self.ask("GET", picture)
            loaded.update(trial["id"] for trial in new)
            # Not all alike: robots that once queued together would come back together for ever.
            await asyncio.sleep(self.think * random.uniform(0.5, 1.5))
            path = ballot["trials"][0]["vote"]
            ballot = json.loads(await self.timed(path, **{"X-CSRFToken": self.token}))
        await self.ask("GET", "/done")

    async def _read_token(self, path: str) -> bytes:
        page = await self.ask("GET", path)
        self.token = TOKEN.findall(page)[0].decode()
        return page

    async def live(self, act: Callable[["Robot"], Awaitable[None]]) -> None:
        await asyncio.sleep(random.random() * self.think)  # not all in step
        while True:
            try:
                await act(self)
            except (OSError, asyncio.IncompleteReadError, UnexpectedError) as error:
                self.tally.errors[str(error)] += 1
                await asyncio.sleep(0.1)
