"""The pipelines of a run's methods, one at a time: a quantized backbone is made once for all that use it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline

from generator.methods import Method
from generator.models import BaseModel


class Backbones:
    """Holds the pipeline of the last method, for the next one if that samples the same backbone."""

    def __init__(self, base: BaseModel) -> None:
        """Nothing is loaded yet."""
        self.base = base
        self.held: str | None = None
        self.pipeline: Any = None
        self.values: Any = None
        self.scheduler: Any = None

    def pipeline_of(self, method: Method) -> tuple[DiffusionPipeline, Any]:
        """The method's pipeline, and the numbers it put into the scheduler, if it did."""
        inner = method.over or method
        if self.held != inner.id:
            if self.held:  # two large models need not be in memory at once
                self.held = self.pipeline = self.scheduler = None
                gc.collect()
                torch.cuda.empty_cache()
            self.pipeline = self.base.load()
            self.values = inner.apply(self.pipeline, self.base)
            self.held, self.scheduler = inner.id, self.pipeline.scheduler
        self.pipeline.scheduler = self.scheduler
        if method.over is None or method.put_on is None:
            return self.pipeline, self.values
        return self.pipeline, method.put_on(self.pipeline, self.base)


def grouped(methods: Sequence[Method]) -> list[Method]:
    """The methods, those with the same backbone next to each other."""
    first: dict[str, int] = {}
    for place, method in enumerate(methods):
        first.setdefault((method.over or method).id, place)
    return sorted(methods, key=lambda method: first[(method.over or method).id])
