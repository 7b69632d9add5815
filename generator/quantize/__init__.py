"""Post-training quantization of Linear and Conv2d: real integer storage, simulated integer arithmetic."""

from generator.quantize.layers import (
    ByStep,
    Dynamic,
    Grouped,
    QuantConv2d,
    QuantLinear,
    Static,
    Weights,
    quantized,
)
from generator.quantize.model import quantizable, quantize_model, replace
from generator.quantize.size import numbers_bytes, size_bytes

__all__ = [
    "ByStep",
    "Dynamic",
    "Grouped",
    "QuantConv2d",
    "QuantLinear",
    "Static",
    "Weights",
    "numbers_bytes",
    "quantizable",
    "quantize_model",
    "quantized",
    "replace",
    "size_bytes",
]
