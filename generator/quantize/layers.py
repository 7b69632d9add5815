"""Quantized layers: integers are stored, the arithmetic is simulated.

Weights lie on a symmetric grid with one fp16 scale per output channel; they are stored as int8 (5 to 8 bits)
or packed two a byte (2 to 4 bits). Activations are quantized when they arrive, on an asymmetric grid whose
range is that of the values themselves (dynamic): per token for `QuantLinear` (one grid for each vector along
the last dimension), per sample for `QuantConv2d` (one grid for each image of the batch).

*Simulated integer arithmetic*: weights and activations are on their integer grids, but the matrix product
runs in float on the dequantized values. It equals an int32 accumulation times the scales up to float rounding
(a test shows it), and it is no faster than float. For speed the dequantized weight is kept beside the
integers as a non-persistent buffer; it is derived, never saved, and no part of `size_bytes`.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from generator.quantize.uniform import (
    Grid,
    asymmetric_grid,
    dequantize,
    pack_int4,
    quantize,
    snap,
    symmetric_grid,
    unpack_int4,
)


class _QuantLayer(nn.Module):
    """The stored integers and scales of a weight, and the dynamic grid of the activations."""

    weight: Tensor  # dequantized, derived from weight_q and weight_scale
    weight_q: Tensor  # (out, ⌈n/2⌉) uint8 for weight_bits ≤ 4, else (out, n) int8
    weight_scale: Tensor  # (out, 1) fp16
    act_dims: tuple[int, ...]  # the dimensions that share one activation grid

    def __init__(self, weight: Tensor, bias: Tensor | None, weight_bits: int, act_bits: int | None) -> None:
        super().__init__()
        if act_bits is not None and act_bits != 16 and not 2 <= act_bits <= 8:
            raise ValueError(f"act_bits must be 2 to 8, or 16 or None for none, not {act_bits}")
        self.weight_bits = weight_bits
        self.act_bits = None if act_bits == 16 else act_bits
        self._shape = weight.shape
        rows = weight.detach().flatten(1)
        grid = symmetric_grid(rows, weight_bits, dim=1)
        q = quantize(rows, grid)
        self.register_buffer("weight_q", pack_int4(q) if weight_bits <= 4 else q)
        self.register_buffer("weight_scale", grid.s)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_buffer("weight", self.dequantized_weight().to(weight.dtype), persistent=False)
        self.register_load_state_dict_post_hook(_renew_weight)

    def integer_weight(self) -> Tensor:
        """Return the stored integers unpacked: int8, in the shape of the float weight."""
        n = self._shape[1:].numel()
        q = unpack_int4(self.weight_q, n) if self.weight_bits <= 4 else self.weight_q
        return q.view(self._shape)

    def dequantized_weight(self) -> Tensor:
        """Return the float32 weight that the stored integers and scales stand for."""
        q_max = 2 ** (self.weight_bits - 1) - 1
        grid = Grid(self.weight_scale, torch.zeros_like(self.weight_scale), -q_max, q_max)
        return dequantize(self.integer_weight().flatten(1), grid).view(self._shape)

    def act_grid(self, x: Tensor) -> Grid:
        """Return the grid on which this layer puts the activations `x`.

        Raises:
            ValueError: this layer leaves its activations alone.
        """
        if self.act_bits is None:
            raise ValueError("a layer without act_bits has no activation grid")
        return asymmetric_grid(x, self.act_bits, self.act_dims)

    def _snapped(self, x: Tensor) -> Tensor:
        return x if self.act_bits is None else snap(x, self.act_grid(x))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `.to(…)`, but keep the scale in fp16: what is stored does not depend on the dtype."""
        scale = self.weight_scale
        super()._apply(fn, recurse)
        self.weight_scale = scale.to(self.weight_scale.device)
        return self

    def extra_repr(self) -> str:
        """Say the bits where torch prints a module."""
        return f"{tuple(self._shape)}, W{self.weight_bits}A{self.act_bits or 16}"


class QuantLinear(_QuantLayer):
    """`nn.Linear` with integer weights and per-token integer activations; input (…, in), output (…, out)."""

    act_dims = (-1,)
    in_features: int
    out_features: int

    @classmethod
    def from_float(cls, layer: nn.Linear, weight_bits: int, act_bits: int | None) -> Self:
        """Quantize `layer`, which stays as it is; `act_bits` 16 or None leaves the activations alone.

        Raises:
            ValueError: bits outside 2 … 8, or a weight that is not finite.
        """
        quantized = cls(layer.weight, layer.bias, weight_bits, act_bits)
        quantized.in_features, quantized.out_features = layer.in_features, layer.out_features
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """y = W^ x^ + b."""
        return nn.functional.linear(self._snapped(x), self.weight, self.bias)


class QuantConv2d(_QuantLayer):
    """`nn.Conv2d` with integer weights and per-sample integer activations.

    Input (B, in, H, W), output (B, out, H′, W′).
    """

    act_dims = (-3, -2, -1)
    in_channels: int
    out_channels: int
    stride: tuple[int, ...]
    padding: Any  # int pairs, or 'same' and 'valid'
    dilation: tuple[int, ...]
    groups: int

    @classmethod
    def from_float(cls, layer: nn.Conv2d, weight_bits: int, act_bits: int | None) -> Self:
        """Quantize `layer`, which stays as it is; `act_bits` 16 or None leaves the activations alone.

        Raises:
            ValueError: bits outside 2 … 8, a weight that is not finite, or padding other than zeros.
        """
        if layer.padding_mode != "zeros":
            raise ValueError(f"QuantConv2d pads with zeros only, not {layer.padding_mode!r}")
        quantized = cls(layer.weight, layer.bias, weight_bits, act_bits)
        quantized.in_channels, quantized.out_channels = layer.in_channels, layer.out_channels
        quantized.stride, quantized.padding = layer.stride, layer.padding
        quantized.dilation, quantized.groups = layer.dilation, layer.groups
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """y = W^ ∗ x^ + b; the padded zeros are on the grid of x^."""
        x = self._snapped(x)
        return nn.functional.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


def _renew_weight(layer: _QuantLayer, _incompatible_keys: object) -> None:
    """Derive the float weight anew after other integers and scales were loaded."""
    layer.weight.copy_(layer.dequantized_weight())
