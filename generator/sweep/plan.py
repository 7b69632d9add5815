"""What a run would take: pictures, evaluations, time and disk, from a measured batch. Nothing is written."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from generator.methods import Method
from generator.models import BaseModel
from generator.sweep.backbones import Backbones
from generator.sweep.conditions import Conditions
from generator.sweep.ledger import looked_over
from generator.sweep.recorder import png
from generator.sweep.render import draw
from generator.sweep.run import checked, identity_of
from study.gallery import Prompt


@dataclass(frozen=True)
class Plan:
    """The pictures still to be drawn, and what one of them took in the batch that was measured."""

    images: int
    done: int
    measured: str
    """The method that was measured."""
    batch: int
    nfe: int
    seconds: float
    bytes: float
    text_bytes: float
    """Of all encoded texts, which are kept while the run lasts."""
    free: int

    def lines(self) -> list[str]:
        """For people."""
        each = f"{self.seconds:.3g} s an image, {self.batch} at once, measured on {self.measured}"
        size = f"{self.images * self.bytes / 1e6:,.1f} MB ({self.bytes / 1e3:,.1f} kB an image)"
        text = f"{self.text_bytes / 1e6:,.1f} MB of encoded texts"
        return [
            f"images: {self.images:,} to draw, {self.done:,} done",
            f"evaluations of the backbone: {self.images * self.nfe:,}, {self.nfe} an image",
            f"time: about {timedelta(seconds=round(self.images * self.seconds))} ({each})",
            f"disk: about {size}, and {text} while it runs; {self.free / 1e6:,.0f} MB free",
        ]


def plan(
    base: BaseModel, methods: Sequence[Method], prompts: Sequence[Prompt], folder: Path, batch_size: int
) -> Plan:
    """What `run` with these arguments would still have to do.

    Draws two batches with the first method that lacks pictures; all others are taken to be as fast. Raises as
    `run` does where it could not begin.
    """
    identity = identity_of(base, checked(base, methods, prompts))
    done = looked_over(folder, [method.id for method in methods], prompts, identity, {}).done
    missing = [m for m in methods if any((m.id, prompt.prompt_id) not in done for prompt in prompts)]
    method = (missing or list(methods))[0]
    pipeline, _ = Backbones(base).pipeline_of(method)
    batch = prompts[:batch_size]
    with tempfile.TemporaryDirectory() as texts:
        Conditions(Path(texts)).of(pipeline, base, batch)
        text_bytes = sum(file.stat().st_size for file in Path(texts).iterdir())
    draw(pipeline, base, batch)
    began = time.perf_counter()
    drawn = draw(pipeline, base, batch)
    seconds = (time.perf_counter() - began) / len(batch)
    there = folder if folder.exists() else folder.absolute().parent
    while not there.exists():
        there = there.parent
    total = len(methods) * len(prompts)
    return Plan(
        images=total - len(done),
        done=len(done),
        measured=method.id,
        batch=len(batch),
        nfe=drawn.nfe,
        seconds=seconds,
        bytes=sum(len(png(picture)) for picture in drawn.pixels) / len(batch),
        text_bytes=text_bytes * len(prompts) / len(batch),
        free=shutil.disk_usage(there).free,
    )
