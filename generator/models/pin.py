"""Pinning: the commits that the hub has now, written into a model's .toml file."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import tomlkit
from huggingface_hub import model_info

from generator.models.entries import read_entries
from generator.models.hub import asked

COMMIT = re.compile(r"[0-9a-f]{40}")


def pin(file: Path, output: Path) -> dict[str, str]:
    """Write `file` with `revision` of checkpoint and LoRA set to the newest commits; repositories and these.

    A revision that is a branch is followed, a commit is replaced by the newest one of the main branch. What
    lies in a folder has no commit. All else in the file stays as it is, comments too.

    Raises ModelError if the file is faulty or the hub does not tell.
    """
    entry = read_entries(file)[0]
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    tables = [(document, entry)] + ([(document["lora"], entry.lora)] if entry.lora else [])
    pinned = {}
    for table, described in tables:
        hub, revision = described.hub, described.revision
        if Path(hub).is_dir():
            continue
        branch = None if revision is None or COMMIT.fullmatch(revision) else revision
        pinned[hub] = asked(entry, hub, functools.partial(model_info, hub, revision=branch)).sha
        table["revision"] = pinned[hub]
    output.write_text(tomlkit.dumps(document), encoding="utf-8")
    return pinned
