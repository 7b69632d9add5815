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
        path = self.folder / RUN / "run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


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
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if gallery.PROMPTS_FILE not in there and not all(name.startswith(".") for name in there):
        raise SweepError(f"{folder}: not empty, and not a gallery (no {gallery.PROMPTS_FILE})")
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
        yield _read(folder, methods, prompts, identity, surroundings)
    finally:
        lock.release()


def _read(
    folder: Path,
    methods: Sequence[str],
    prompts: Sequence[Prompt],
    identity: dict[str, Any],
    surroundings: dict[str, Any],
) -> Ledger:
    if read_prompts(folder / gallery.PROMPTS_FILE) != list(prompts):
        raise SweepError(f"{folder}: its {gallery.PROMPTS_FILE} holds other prompts; take a new folder")
    ledger = Ledger(folder, {}, identity=identity, surroundings=surroundings)
    path = folder / RUN / "run.json"
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        for name, value in identity.items():
            if begun["identity"].get(name) != value:
                was = begun["identity"].get(name)
                raise SweepError(f"{folder}: begun with {name} {was!r}, not {value!r}; take a new folder")
        before = begun["surroundings"]
        ledger.changed = [
            f"{name} was {before.get(name)!r}, is {value!r}"
            for name, value in surroundings.items()
            if before.get(name) != value
        ]
        described = [gallery.Method.model_validate(method) for method in begun["methods"]]
        ledger.methods = {method.id: method for method in described}
    for row in gallery.read_images(folder):
        if row.method not in methods:
            raise SweepError(f"{folder}: holds images of {row.method!r}, which this run does not make")
        file = folder / row.file
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != row.sha256:
            raise SweepError(f"{file}: missing or changed since it was made; take a new folder")
        ledger.done[row.method, row.prompt_id] = row
    return ledger
