"""Post-training quantization of Linear and Conv2d: real integer storage, simulated integer arithmetic."""

from generator.quantize.layers import QuantConv2d, QuantLinear
from generator.quantize.model import quantize_model
from generator.quantize.size import size_bytes

__all__ = ["QuantConv2d", "QuantLinear", "quantize_model", "size_bytes"]
