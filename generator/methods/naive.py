"""Naive post-training quantization: round-to-nearest on min-max grids, nothing calibrated.

Weights per output channel, activations dynamic (per token in Linear, per picture in Conv2d).
"""

from __future__ import annotations

from diffusers import DiffusionPipeline

from generator.methods import Method
from generator.models import BaseModel
from generator.quantize import quantize_model

NOTES = "round to nearest, weights per output channel, dynamic activations; integer arithmetic is simulated"


def quantize_backbone(pipeline: DiffusionPipeline, base: BaseModel, weight_bits: int, act_bits: int) -> None:
    """Replace the pipeline's backbone by its naively quantized copy."""
    backbone = getattr(pipeline, base.backbone)
    setattr(pipeline, base.backbone, quantize_model(backbone, weight_bits, act_bits, skip=base.keep))


def _naive(weight_bits: int, act_bits: int) -> Method:
    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        quantize_backbone(pipeline, base, weight_bits, act_bits)

    bits = f"W{weight_bits}A{act_bits}"
    return Method(bits.lower(), f"{bits} naive", weight_bits, act_bits, NOTES, apply)


METHODS = [_naive(8, 8), _naive(4, 8), _naive(4, 4)]
