"""Full precision: the reference every other method is compared with."""

from __future__ import annotations

from diffusers import DiffusionPipeline

from generator.methods import Method
from generator.models import BaseModel


def _apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
    """Nothing to do: weights are stored in float16."""


METHODS = [
    Method(
        "fp16", "FP16", 16, 16, "weights stored in float16; on a CPU the arithmetic runs in float32", _apply
    )
]
