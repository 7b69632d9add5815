"""Shards of a run, and who draws them: a process with a device of its own, here or on another machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from generator.memory import too_little
from generator.methods import Method
from generator.models import BaseModel
from generator.prompts import noise_seed
from generator.quantize.size import numbers_bytes, size_bytes
from generator.sweep.backbones import Backbones, grouped
from generator.sweep.conditions import Conditions
from generator.sweep.ledger import SweepError
from generator.sweep.render import Drawn, draw
from study import gallery
from study.gallery import ImageRecord, Prompt


@dataclass(frozen=True)
class Shard:
    """A batch of one method: its prompts, the ids of the missing ones, and how many to draw at once."""

    method: str
    prompts: tuple[Prompt, ...]
    missing: frozenset[str]
    size: int


@dataclass(frozen=True)
class Sheet:
    """A shard as drawn: rows and pixels of what was missing, and what the method is.

    `ready_s` are the seconds it took to make the method's pipeline ready, None if it was; `halved` the batch
    sizes, before and after, where the memory did not suffice.
    """

    shard: Shard
    method: gallery.Method
    pictures: list[tuple[dict[str, Any], NDArray[np.uint8]]]
    ready_s: float | None
    halved: list[tuple[int, int]]


def shards(
    methods: Sequence[Method],
    prompts: Sequence[Prompt],
    batch_size: int,
    done: Mapping[tuple[str, str], ImageRecord],
    described: Mapping[str, gallery.Method],
) -> Iterator[Shard]:
    """What is left of a run: batches that begin where an uninterrupted run's would.

    A method all of whose pictures are there, but which was never described, has one without missing ones.
    """
    for method in grouped(methods):
        batches = [tuple(prompts[i : i + batch_size]) for i in range(0, len(prompts), batch_size)]
        size = _reached(
            [[done.get((method.id, p.prompt_id)) for p in batch] for batch in batches], batch_size
        )
        left = []
        for batch in batches:
            missing = frozenset(p.prompt_id for p in batch if (method.id, p.prompt_id) not in done)
            if missing:
                left.append(Shard(method.id, batch, missing, size))
        if not left and method.id not in described:
            left.append(Shard(method.id, batches[0], frozenset(), size))
        yield from left


def _reached(batches: Sequence[Sequence[ImageRecord | None]], batch_size: int) -> int:
    """How many pictures at once: as many as the last run came to, if it had to halve its batches."""
    reached = batch_size
    for rows in batches:
        sizes = [row.batch_size for row in rows if row and row.batch_size]
        if halved := [size for size in sizes if size < len(rows)]:
            reached = min(reached, max(halved))
    return reached


class Artist:
    """Draws shards, whichever comes; quick where the next one has the same backbone."""

    def __init__(self, base: BaseModel, methods: Sequence[Method], texts: Path | None) -> None:
        """`texts` is a folder for encoded texts; None where they come with the shards."""
        self.base = base
        self.methods = {method.id: method for method in methods}
        self.backbones, self.conditions = Backbones(base), Conditions(texts)
        self.at_work: str | None = None
        self.ready_s: float | None = None
        self.pipeline: Any = None
        self.values: Any = None
        self.sizes: dict[str, int] = {}
        self.described: dict[str, gallery.Method] = {}

    def encode(self, method: str, prompts: Sequence[Prompt]) -> dict[str, bytes]:
        """The texts of some prompts as `Conditions` keeps them, encoded by the pipeline of a method."""
        self._take_up(method)
        self.conditions.held = {}
        self.conditions.of(self.pipeline, self.base, prompts)
        return self.conditions.held

    def draw(self, shard: Shard, texts: Mapping[str, bytes] | None = None) -> Sheet:
        """Draw what is missing of a shard, whose `texts` may have been encoded elsewhere.

        Raises SweepError if one picture at a time is too many.
        """
        self._take_up(shard.method)
        self.conditions.held = dict(texts or {})
        pictures, nfe, halved = [], 0, []
        size, at = min(shard.size, self.sizes.get(shard.method, shard.size)), 0
        while at < len(shard.prompts):
            piece = shard.prompts[at : at + size]
            wanted = [i for i, prompt in enumerate(piece) if prompt.prompt_id in shard.missing]
            # All of a piece is drawn again if one picture of it is missing: batches of another size round
            # otherwise.
            if wanted or not (shard.missing or nfe):
                try:
                    drawn, each_ms = self._draw(shard, at, piece)
                except (RuntimeError, MemoryError) as error:
                    if not too_little(error):
                        raise
                    size = self._halved(piece, error)
                    self.sizes[shard.method] = size
                    halved.append((len(piece), size))
                    continue
                nfe = drawn.nfe
                rows = [self._row(piece[i], drawn, i, each_ms) for i in wanted]
                pictures += [(row, drawn.pixels[i]) for row, i in zip(rows, wanted, strict=True)]
            at += len(piece)
        if shard.method not in self.described:
            self.described[shard.method] = self._description(nfe)
        ready_s, self.ready_s = self.ready_s, None
        return Sheet(shard, self.described[shard.method], pictures, ready_s, halved)

    def _take_up(self, method: str) -> None:
        if self.at_work != method:
            began = time.perf_counter()
            try:
                self.pipeline, self.values = self.backbones.pipeline_of(self.methods[method])
            except (RuntimeError, MemoryError) as error:
                if too_little(error):
                    raise SweepError(f"{method}: out of memory while it was made ready to draw") from error
                raise
            self.at_work, self.ready_s = method, time.perf_counter() - began

    def _halved(self, piece: Sequence[Prompt], error: Exception) -> int:
        if len(piece) == 1:
            said = str(error).partition("\n")[0]
            raise SweepError(f"{self.at_work}: out of memory with one picture at a time: {said}") from error
        torch.cuda.empty_cache()
        return (len(piece) + 1) // 2

    def _draw(self, shard: Shard, at: int, piece: Sequence[Prompt]) -> tuple[Drawn, float]:
        texts = self.conditions.of(self.pipeline, self.base, shard.prompts)
        began = time.perf_counter()
        cut = {name: tensor[at : at + len(piece)] for name, tensor in texts.items()}
        drawn = draw(self.pipeline, self.base, piece, cut)
        return drawn, (time.perf_counter() - began) * 1000 / len(piece)

    def _row(self, prompt: Prompt, drawn: Drawn, i: int, generate_ms: float) -> dict[str, Any]:
        return {
            "method": self.at_work,
            "prompt_id": prompt.prompt_id,
            "seed": noise_seed(prompt.prompt_id),
            "file": f"images/{self.at_work}/{prompt.prompt_id}.png",
            "width": drawn.pixels.shape[2],
            "height": drawn.pixels.shape[1],
            "steps": self.base.steps,
            "guidance": self.base.guidance,
            "scheduler": type(self.pipeline.scheduler).__name__,
            "batch_size": len(drawn.pixels),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "generate_ms": round(generate_ms, 2),
            "flags": drawn.flags[i] or None,
        }

    def _description(self, nfe: int) -> gallery.Method:
        method = self.methods[self.at_work or ""]
        size = size_bytes(getattr(self.pipeline, self.base.backbone)) + numbers_bytes(self.values)
        return gallery.Method(
            id=method.id,
            label=method.label,
            base_model=self.base.id,
            weight_bits=method.weight_bits,
            act_bits=method.act_bits,
            size_bytes=size,
            nfe=nfe,
            coefficients=None if self.values is None else asdict(self.values),
            notes=method.notes,
        )
