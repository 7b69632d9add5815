"""One method at work: its missing pictures, batch by batch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline

from generator.methods import Method
from generator.models import BaseModel
from generator.prompts import noise_seed
from generator.quantize.size import numbers_bytes, size_bytes
from generator.sweep.conditions import Conditions
from generator.sweep.ledger import Ledger, SweepError
from generator.sweep.progress import Progress
from generator.sweep.recorder import Recorder
from generator.sweep.render import Drawn, draw
from study import gallery
from study.gallery import Prompt

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass
class AtWork:
    """A method, its pipeline, and where its pictures go."""

    base: BaseModel
    method: Method
    pipeline: DiffusionPipeline
    values: DataclassInstance | None
    ledger: Ledger
    progress: Progress
    recorder: Recorder
    conditions: Conditions
    described: bool = False

    def draw_missing(self, prompts: Sequence[Prompt], batch_size: int) -> None:
        """Draw what is missing, by batches that begin where an uninterrupted run's would."""
        size = self._size(prompts, batch_size)
        for start in range(0, len(prompts), batch_size):
            batch, at = prompts[start : start + batch_size], 0
            while at < len(batch):
                piece = batch[at : at + size]
                # All of a piece is drawn again if one picture of it is missing: batches of another size
                # round otherwise.
                if not all((self.method.id, prompt.prompt_id) in self.ledger.done for prompt in piece):
                    try:
                        self._draw(batch, at, piece)
                    except torch.OutOfMemoryError as error:
                        size = self._halved(piece, error)
                        continue
                at += len(piece)

    def _size(self, prompts: Sequence[Prompt], batch_size: int) -> int:
        """How many pictures at once: as many as the last run of this method came to."""
        reached = batch_size
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            rows = [self.ledger.done.get((self.method.id, prompt.prompt_id)) for prompt in batch]
            halved = [
                row.batch_size for row in rows if row and row.batch_size and row.batch_size < len(batch)
            ]
            reached = min([reached, *([max(halved)] if halved else [])])
        return reached

    def _halved(self, piece: Sequence[Prompt], error: torch.OutOfMemoryError) -> int:
        if len(piece) == 1:
            raise SweepError(
                f"{self.method.id}: out of memory with one picture at a time: {str(error).splitlines()[0]}"
            ) from error
        size = (len(piece) + 1) // 2
        torch.cuda.empty_cache()
        self.progress.event("out_of_memory", method=self.method.id, batch_size=len(piece), now=size)
        self.progress.say(
            f"{self.method.id}: out of memory with {len(piece)} pictures at once, so {size} now"
        )
        return size

    def _draw(self, batch: Sequence[Prompt], at: int, piece: Sequence[Prompt]) -> None:
        texts = self.conditions.of(self.pipeline, self.base, batch)
        began = time.perf_counter()
        cut = {name: tensor[at : at + len(piece)] for name, tensor in texts.items()}
        drawn = draw(self.pipeline, self.base, piece, cut)
        each_ms = (time.perf_counter() - began) * 1000 / len(piece)
        self.describe(drawn.nfe)
        for i, prompt in enumerate(piece):
            if (self.method.id, prompt.prompt_id) not in self.ledger.done:
                self.recorder.put(self._row(prompt, drawn, i, each_ms), drawn.pixels[i])
        self._room()

    def _row(self, prompt: Prompt, drawn: Drawn, i: int, generate_ms: float) -> dict[str, Any]:
        return {
            "method": self.method.id,
            "prompt_id": prompt.prompt_id,
            "seed": noise_seed(prompt.prompt_id),
            "file": f"images/{self.method.id}/{prompt.prompt_id}.png",
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

    def _room(self) -> None:
        """SweepError while there is still room, if the pictures to come will not fit."""
        if not self.progress.new:
            return
        need = (self.progress.total - self.progress.done) * self.progress.bytes / self.progress.new
        free = shutil.disk_usage(self.ledger.folder).free
        if need > free:
            raise SweepError(
                f"{self.ledger.folder}: the pictures to come take about {need / 1e9:.2f} GB, "
                f"{free / 1e9:.2f} GB are free; make room, and give the same command again"
            )

    def describe(self, nfe: int) -> None:
        """Note in the ledger what the method is, if it is not there yet."""
        if not self.described:
            self.ledger.describe(self._description(nfe))
            self.described = True

    def _description(self, nfe: int) -> gallery.Method:
        size = size_bytes(getattr(self.pipeline, self.base.backbone)) + numbers_bytes(self.values)
        return gallery.Method(
            id=self.method.id,
            label=self.method.label,
            base_model=self.base.id,
            weight_bits=self.method.weight_bits,
            act_bits=self.method.act_bits,
            size_bytes=size,
            nfe=nfe,
            coefficients=None if self.values is None else asdict(self.values),
            notes=self.method.notes,
        )
