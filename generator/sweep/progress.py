"""How a run tells where it is: a bar on a terminal, a line a minute elsewhere, and a log of events."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import click
from tqdm import tqdm

EVERY = 60.0  # seconds between lines


class Progress:
    """A context around a run; `image` is called once for each picture that is recorded."""

    def __init__(self, log: Path, total: int, done: int) -> None:
        """`done` of the `total` pictures are there already; `log` is appended to, one JSON object a line."""
        self.log, self.total, self.done, self.new, self.bytes = log, total, done, 0, 0
        self.began = self.told = time.monotonic()
        self.bar = tqdm(total=total, initial=done, unit="image", disable=not sys.stderr.isatty())

    def __enter__(self) -> Self:
        """Nothing more than itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bar."""
        self.bar.close()

    def image(self, method: str, size: int) -> None:
        """One more picture of `method` is on the disk, in a file of `size` bytes."""
        self.done, self.new, self.bytes = self.done + 1, self.new + 1, self.bytes + size
        self.bar.set_description(method, refresh=False)
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and now - self.told >= EVERY:
            self.told = now
            rate = self.new / (now - self.began)
            left = timedelta(seconds=round((self.total - self.done) / rate))
            click.echo(
                f"{method}: {self.done:,} of {self.total:,} images, {rate:.2f} images/s, {left} left",
                err=True,
            )

    def say(self, text: str) -> None:
        """A line for the user, beside the bar."""
        with tqdm.external_write_mode(file=sys.stderr):
            click.echo(text, err=True)

    def event(self, name: str, **facts: Any) -> None:
        """A line of the log."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": when, "event": name, **facts}, ensure_ascii=False) + "\n")
