"""Naive post-training quantization: round-to-nearest on min-max grids, nothing calibrated.

Weights per output channel, activations dynamic (per token in Linear, per picture in Conv2d): the ladder of
the Q-Sched paper's figure 4.
"""

from __future__ import annotations

from diffusers import DiffusionPipeline

from generator.methods import Method
from generator.models import BaseModel
from generator.quantize import Dynamic, Weights, quantize_model

NOTES = "round to nearest, weights per output channel, dynamic activations; integer arithmetic is simulated"
NOTES_A16 = "round to nearest, weights per output channel, activations as they are"


def _naive(weight_bits: int, act_bits: int) -> Method:
    weights, acts = Weights(weight_bits), Dynamic(act_bits) if act_bits < 16 else None

    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        backbone = getattr(pipeline, base.backbone)
        setattr(pipeline, base.backbone, quantize_model(backbone, weights, acts, skip=base.keep))

    bits = f"W{weight_bits}A{act_bits}"
    notes = NOTES if acts else NOTES_A16
    return Method(bits.lower(), f"{bits} naive", weight_bits, act_bits, notes, apply)


METHODS = [_naive(*bits) for bits in ((8, 8), (6, 6), (4, 16), (4, 8), (4, 6), (4, 5), (4, 4))]
