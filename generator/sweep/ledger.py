"""What is done of a run and how it began, kept in the gallery folder so that the same command goes on.

Beside the gallery's own files there is a folder `.run`: `lock`, `run.json` (model, hardware, software and
the methods as described so far), `log.jsonl`, and encoded texts while the run lasts.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from generator.errors import InputError
from generator.files import write_whole
from generator.prompts import read_prompts
from study import gallery
from study.gallery import ImageRecord, Prompt

RUN = ".run"


class SweepError(InputError):
    """A gallery folder that this run cannot go on with."""


@dataclass
class Ledger:
    """A gallery folder in the making: its images by method and prompt id, and its methods as described."""

    folder: Path
    done: dict[tuple[str, str], ImageRecord]
    methods: dict[str, gallery.Method] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    surroundings: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    """What is not as it was when the first pictures were drawn: software, hardware, batch size."""

    @property
    def begun(self) -> Path:
        """The file that tells how the run began."""
        return self.folder / RUN / "run.json"

    @property
    def finished(self) -> bool:
        """Whether gallery.json, which is written last, is there."""
        return (self.folder / gallery.GALLERY_FILE).exists()

    def describe(self, method: gallery.Method) -> None:
        """Note what a method is; SweepError if it was another thing when its first pictures were drawn."""
        before, now = self.methods.get(method.id), json.loads(method.model_dump_json())
        was = json.loads(before.model_dump_json()) if before else now
        if was != now:
            names = [name for name in now if was[name] != now[name]]
            raise SweepError(
                f"{self.folder}: {method.id} is not what it was when its first pictures were drawn "
                f"({', '.join(names)}); take a new folder"
            )
        if before is None:
            self.methods[method.id] = method
            self.save()

    def save(self) -> None:
        """Write run.json, whole or not at all."""
        value = {
            "identity": self.identity,
            "surroundings": self.surroundings,
            "methods": [method.model_dump(exclude_none=True) for method in self.methods.values()],
        }
        write_whole(self.begun, (json.dumps(value, indent=1) + "\n").encode())


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """SweepError in place of what the system says when the disk is full, or a quota used up."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SweepError(
            f"{folder}: the disk is full; what is recorded is kept: make room, and give the same command "
            "again"
        ) from error


@contextmanager
def opened(
    folder: Path,
    methods: Sequence[str],
    prompts: Sequence[Prompt],
    identity: dict[str, Any],
    surroundings: dict[str, Any],
) -> Iterator[Ledger]:
    """The ledger of a gallery folder, new or begun, for this process alone.

    `identity` must be what it was (the model and how it samples); `surroundings` may differ, which is told.

    Raises SweepError if another run draws into the folder, or it holds other prompts, another model, images
    of other methods, or an image that has changed.
    """
    _must_be_a_gallery(folder)
    (folder / RUN).mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / RUN / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SweepError(f"{folder}: another run is drawing into it") from None
    try:
        for unfinished in folder.glob(".*.json*.*"):  # what a killed run was writing
            unfinished.unlink()
        if not (folder / gallery.PROMPTS_FILE).exists():
            gallery.write_prompts(folder, prompts)
        yield looked_over(folder, methods, prompts, identity, surroundings)
    finally:
        lock.release()


def _must_be_a_gallery(folder: Path) -> None:
    """SweepError if the folder holds something else; one that is empty, or is not there, may become one."""
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if gallery.PROMPTS_FILE not in there and not all(name.startswith(".") for name in there):
        raise SweepError(f"{folder}: not empty, and not a gallery (no {gallery.PROMPTS_FILE})")


def looked_over(
    folder: Path,
    methods: Sequence[str],
    prompts: Sequence[Prompt],
    identity: dict[str, Any],
    surroundings: dict[str, Any],
) -> Ledger:
    """As `opened`, for whoever only looks: nothing is written, and another run may be drawing."""
    _must_be_a_gallery(folder)
    its_prompts = folder / gallery.PROMPTS_FILE
    if its_prompts.exists() and read_prompts(its_prompts) != list(prompts):
        raise SweepError(f"{its_prompts}: holds other prompts than this run's; take a new folder")
    ledger = Ledger(folder, {}, identity=identity, surroundings=surroundings)
    rows = gallery.read_images(folder)
    if ledger.begun.exists():
        _compare(ledger)
    elif rows:
        raise SweepError(
            f"{folder}: holds images, but no {RUN}/run.json on how they were drawn; take a new folder"
        )
    for row in rows:
        if row.method not in methods:
            raise SweepError(f"{folder}: holds images of {row.method!r}, which this run does not make")
        file = folder / row.file
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != row.sha256:
            raise SweepError(f"{file}: missing or changed since it was made; take a new folder")
        ledger.done[row.method, row.prompt_id] = row
    return ledger


def _compare(ledger: Ledger) -> None:
    """Take over how the run began; SweepError if that was another run than this one."""
    try:
        begun = json.loads(ledger.begun.read_text(encoding="utf-8"))
        identity, surroundings = dict(begun["identity"]), dict(begun["surroundings"])
        described = [gallery.Method.model_validate(method) for method in begun["methods"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SweepError(f"{ledger.begun}: not what a run writes ({error}); take a new folder") from error
    for name, value in ledger.identity.items():
        if identity.get(name) != value:
            raise SweepError(
                f"{ledger.folder}: begun with {name} {identity.get(name)!r}, not {value!r}; take a new folder"
            )
    ledger.changed = [
        f"{name} was {surroundings.get(name)!r}, is {value!r}"
        for name, value in ledger.surroundings.items()
        if surroundings.get(name) != value
    ]
    ledger.methods = {method.id: method for method in described}
