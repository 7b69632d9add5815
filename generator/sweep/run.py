"""The run itself: which pictures are missing, drawn batch by batch, described at the end."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from generator.methods import Method
from generator.models import BaseModel
from generator.sweep.artist import Artist, Shard, Sheet, shards
from generator.sweep.conditions import Conditions
from generator.sweep.ledger import RUN, Ledger, SweepError, full_disk_told, opened
from generator.sweep.progress import Progress
from generator.sweep.recorder import Recorder
from study import gallery
from study.gallery import ImageRecord, Prompt

SOFTWARE = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "pillow")


@dataclass(frozen=True)
class Outcome:
    """What a run did: pictures drawn now and in all, and flagged ones of each method ("nan", "black")."""

    new: int
    total: int
    flagged: dict[str, dict[str, int]]


def run(
    base: BaseModel,
    methods: Sequence[Method],
    prompts: Sequence[Prompt],
    folder: Path,
    *,
    prompt_set: str,
    batch_size: int = 16,
    cluster: str | None = None,
) -> Outcome:
    """Draw every prompt with every method into the gallery `folder`; on the Ray `cluster`, if one is named.

    An image counts as done once its row stands in images.jsonl and its file has the row's sha256; the
    others are drawn. Pictures are equal, pixel for pixel, whichever run draws them, at equal hardware
    and equal batches. A batch that is too large for the memory is halved, for the rest of its method.

    Raises SweepError if the folder holds other prompts, methods or another model, if another run draws into
    it, if the model cannot read a prompt, or if disk or memory do not suffice; ModelError and MethodError
    before anything is drawn.
    """
    facts = checked(base, methods, prompts)
    identity = identity_of(base, facts)
    around = {"device": "cpu", **facts, "batch_size": batch_size, **software_versions()}
    surroundings = {name: value for name, value in around.items() if name not in identity}
    ids = [method.id for method in methods]
    with full_disk_told(folder), opened(folder, ids, prompts, identity, surroundings) as ledger:
        total = len(methods) * len(prompts)
        if len(ledger.done) == total and ledger.finished:
            return Outcome(0, total, flagged(ledger))
        if not ledger.begun.exists():
            ledger.save()
        (folder / gallery.GALLERY_FILE).unlink(missing_ok=True)
        with Progress(folder / RUN / "log.jsonl", total, len(ledger.done)) as progress:
            progress.event("start", **identity, **surroundings, done=len(ledger.done), total=total)
            for change in ledger.changed:
                progress.say(
                    f"not as when the first pictures were drawn, so they may differ in pixels: {change}"
                )
            _warn_of_disk(base, ledger, progress)
            left = list(shards(methods, prompts, batch_size, ledger.done, ledger.methods))
            _draw_missing(base, methods, left, ledger, progress, cluster)
            counts = flagged(ledger)
            progress.event("end", images=progress.new, flagged=counts)
        # Last, so that a folder without gallery.json is a run that is not finished.
        gallery.write_gallery_json(
            folder,
            name=f"{base.id}: {len(methods)} methods, {len(prompts)} prompts",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            prompt_set=prompt_set,
            software={"model": base.id, **around},
            methods=[_with_flags(ledger.methods[method.id], counts.get(method.id)) for method in methods],
        )
        Conditions(folder / RUN / "text").remove()
        return Outcome(progress.new, total, counts)


def checked(base: BaseModel, methods: Sequence[Method], prompts: Sequence[Prompt]) -> dict[str, str]:
    """See to it that a run can begin: texts, files of the methods, weights; what is known of the weights."""
    try:
        base.check([prompt.text for prompt in prompts])
    except ValueError as error:
        raise SweepError(f"model {base.id}: {error}") from None
    for method in methods:
        if method.check:
            method.check(base)
    return base.ready()


def identity_of(base: BaseModel, facts: Mapping[str, str]) -> dict[str, Any]:
    """What stays as it is while a gallery is drawn: the model, which weights it has, how it samples."""
    pinned = {name: value for name, value in facts.items() if name in ("revision", "lora_revision")}
    sampled = {"model": base.id, "steps": base.steps, "guidance": base.guidance, **base.arguments}
    return sampled | pinned


def _draw_missing(
    base: BaseModel,
    methods: Sequence[Method],
    left: Sequence[Shard],
    ledger: Ledger,
    progress: Progress,
    cluster: str | None,
) -> None:
    def recorded(record: ImageRecord, size: int) -> None:
        ledger.done[record.method, record.prompt_id] = record
        if record.flags:
            progress.event("flag", method=record.method, prompt_id=record.prompt_id, flags=record.flags)
        progress.image(record.method, size)
        if progress.new >= len(left[0].prompts):  # one batch tells how large pictures are
            _room(ledger.folder, progress)

    with Recorder(ledger.folder, recorded) as recorder:
        for sheet in _sheets(base, methods, left, ledger.folder, progress, cluster):
            method = sheet.shard.method
            if sheet.ready_s is not None:
                progress.event("method", method=method, ready_s=round(sheet.ready_s, 2))
            for was, now in sheet.halved:
                progress.event("out_of_memory", method=method, batch_size=was, now=now)
                progress.say(f"{method}: out of memory with {was} pictures at once, so {now} now")
            ledger.describe(sheet.method)
            for row, pixels in sheet.pictures:
                recorder.put(row, pixels)


def _sheets(
    base: BaseModel,
    methods: Sequence[Method],
    left: Sequence[Shard],
    folder: Path,
    progress: Progress,
    cluster: str | None,
) -> Iterator[Sheet]:
    texts = folder / RUN / "text"
    if cluster is None:
        artist = Artist(base, methods, texts)
        return (artist.draw(shard) for shard in left)
    try:
        from generator.sweep.cluster import draw_on_ray
    except ImportError as error:
        raise SweepError(f"--ray: {error}: pip install 'pairstudy[cluster]'") from error
    return draw_on_ray(base, methods, left, cluster, texts, progress.say)


def _warn_of_disk(base: BaseModel, ledger: Ledger, progress: Progress) -> None:
    """Before anything is drawn: the pixels to come, which no PNG is much larger than, may not all fit."""
    each = 3 * base.arguments.get("height", 0) * base.arguments.get("width", 0)
    most, free = (progress.total - progress.done) * each, shutil.disk_usage(ledger.folder).free
    if most > free:
        progress.say(
            f"{ledger.folder}: the pictures to come take up to {most / 1e6:,.1f} MB, {free / 1e6:,.1f} MB "
            "are free; --dry-run measures how much it will be"
        )


def _room(folder: Path, progress: Progress) -> None:
    """SweepError while there is still room, if the pictures to come will not fit."""
    need = (progress.total - progress.done) * progress.bytes / progress.new
    free = shutil.disk_usage(folder).free
    if need > free:
        raise SweepError(
            f"{folder}: the pictures to come take about {need / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free; "
            "make room, and give the same command again"
        )


def flagged(ledger: Ledger) -> dict[str, dict[str, int]]:
    """How many pictures of each method have each flag; methods without any are left out."""
    counts: dict[str, Counter[str]] = {}
    for record in ledger.done.values():
        if record.flags:
            counts.setdefault(record.method, Counter()).update(record.flags)
    return {method: dict(count) for method, count in counts.items()}


def _with_flags(method: gallery.Method, counts: dict[str, int] | None) -> gallery.Method:
    return gallery.Method.model_validate({**method.model_dump(), "flagged": counts}) if counts else method


def software_versions() -> dict[str, str]:
    """Versions of what the pictures depend on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in SOFTWARE},
    }
