"""Quantized layers: integers are stored, the arithmetic is simulated.

`Weights` says how a weight is quantized; its integers are stored packed, with fp16 scales.
Activations are quantized when they arrive, in one of four ways: `Dynamic`, `Grouped`, `Static` or `ByStep`.

*Simulated integer arithmetic*: weights and activations are on their integer grids, but the matrix product
runs in float on the dequantized values. It equals an int32 accumulation times the scales up to float rounding
(a test shows it), and it is no faster than float. For speed the dequantized weight is kept beside the
integers as a non-persistent buffer; it is derived, never saved, and no part of `size_bytes`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from generator.quantize.clock import Clock
from generator.quantize.uniform import (
    Grid,
    asymmetric_grid,
    dequantize,
    grid_between,
    in_groups,
    out_of_groups,
    pack,
    quantize,
    snap,
    symmetric_grid,
    unpack,
)


@dataclass(frozen=True)
class Weights:
    """2 to 8 bits; one scale for each output channel or for each `group` of consecutive input channels.

    In a convolution a group lies at one place of the kernel. `rule` is the range rule of `uniform`.
    """

    bits: int
    group: int | None = None
    symmetric: bool = True
    rule: str = "min-max"


@dataclass(frozen=True)
class Dynamic:
    """An asymmetric grid over the values themselves: one a token in Linear, one a picture in Conv2d."""

    bits: int


@dataclass(frozen=True)
class Grouped:
    """A grid for each token (in Conv2d: pixel) and each `group` of its channels, over the values themselves.

    Signed and symmetric, or, with `shift`, unsigned: for inputs that are never below −shift, as those behind
    a SiLU or GELU. A padded pixel of a convolution then holds the shift in every channel, which its own grid
    has exactly, so zero padding stays exact.
    """

    bits: int
    group: int
    shift: float | None = None


@dataclass(frozen=True)
class Static:
    """One asymmetric grid for all inputs, fixed beforehand to hold [low, high] and 0."""

    bits: int
    low: float
    high: float


@dataclass(frozen=True)
class ByStep:
    """An asymmetric grid for each timestep, fixed beforehand (eq. 7 of "Efficiency Meets Fidelity").

    Scales and zero points are given in the order of the clock's timesteps; scales are stored in fp16.
    """

    bits: int
    scales: tuple[float, ...]
    zeros: tuple[int, ...]
    clock: Clock

    @classmethod
    def between(cls, bits: int, ranges: Sequence[tuple[float, float]], clock: Clock) -> Self:
        """Grids that hold [low, high] and 0, for each step."""
        low, high = torch.tensor(ranges).unbind(1)
        grid = grid_between(low, high, bits, half=True)
        return cls(bits, tuple(grid.s.tolist()), tuple(grid.z.int().tolist()), clock)


Acts = Dynamic | Grouped | Static | ByStep


class _QuantLayer(nn.Module):
    """The stored integers and scales of a weight, and the grids of the activations."""

    weight: Tensor  # dequantized, derived from what follows
    weight_q: Tensor  # (rows, ⌈n·bits/8⌉) uint8; a row is an output channel or, with groups, n input channels
    weight_scale: Tensor  # (rows, groups) fp16
    weight_zero: Tensor  # (rows, groups) uint8, if asymmetric
    act_scale: Tensor  # () fp16, if static; (T,) by step
    act_zero: Tensor  # () uint8, if static; (T,) by step
    act_dims: tuple[int, ...]  # the dimensions that share one activation grid; the first is the channels'

    def __init__(
        self, weight: Tensor, bias: Tensor | None, weights: Weights, acts: Acts | None, grid: Grid | None
    ) -> None:
        super().__init__()
        if acts is not None and not 2 <= acts.bits <= 8:
            raise ValueError(f"activations have 2 to 8 bits, not {acts.bits}; None leaves them alone")
        self.weights, self.acts = weights, acts
        self._shape = weight.shape
        rows = self._rows(weight.detach())
        if grid is None:
            make = symmetric_grid if weights.symmetric else asymmetric_grid
            grid = make(rows, weights.bits, -1, weights.rule, half=True)
        n = self._row_length
        self.register_buffer("weight_q", pack(out_of_groups(quantize(rows, grid), n), weights.bits))
        self.register_buffer("weight_scale", grid.s.squeeze(-1))
        if not weights.symmetric:
            self.register_buffer("weight_zero", grid.z.squeeze(-1).to(torch.uint8))
        if isinstance(acts, Static):
            static = grid_between(torch.tensor(acts.low), torch.tensor(acts.high), acts.bits, half=True)
            self.register_buffer("act_scale", static.s.to(weight.device))
            self.register_buffer("act_zero", static.z.to(weight.device, torch.uint8))
        elif isinstance(acts, ByStep):
            self.register_buffer("act_scale", torch.tensor(acts.scales, device=weight.device).half())
            self.register_buffer("act_zero", torch.tensor(acts.zeros, device=weight.device).to(torch.uint8))
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_buffer("weight", self.dequantized_weight().to(weight.dtype), persistent=False)
        self.register_load_state_dict_post_hook(_renew_weight)

    @property
    def _row_length(self) -> int:
        return self._shape[1:].numel() if self.weights.group is None else self._shape[1]

    def _rows(self, weight: Tensor) -> Tensor:
        """The weight as (rows, groups, group): each group has a scale of its own."""
        if self.weights.group is None:
            return weight.flatten(1).unsqueeze(1)
        return in_groups(weight.movedim(1, -1).flatten(0, -2), self.weights.group)

    def _shaped(self, rows: Tensor) -> Tensor:
        """Undo `_rows`, from (rows, n)."""
        if self.weights.group is None:
            return rows.view(self._shape)
        return rows.view(self._shape[0], *self._shape[2:], self._shape[1]).movedim(-1, 1)

    def _integer_rows(self) -> Tensor:
        w = self.weights
        return unpack(self.weight_q, w.bits, self._row_length, signed=w.symmetric)

    def integer_weight(self) -> Tensor:
        """Return the stored integers in the shape of the float weight: int8, uint8 if asymmetric."""
        return self._shaped(self._integer_rows())

    def dequantized_weight(self) -> Tensor:
        """Return the float32 weight that the stored integers and scales stand for."""
        s = self.weight_scale.unsqueeze(-1)
        z = torch.zeros_like(s) if self.weights.symmetric else self.weight_zero.unsqueeze(-1)
        q, n = self._integer_rows(), self._row_length
        values = dequantize(in_groups(q, self.weights.group or n), Grid(s, z, -128, 255))
        return self._shaped(out_of_groups(values, n))

    def act_grid(self, x: Tensor) -> Grid:
        """Return the grid on which this layer puts the activations `x` (grouped: x as `in_groups` cuts it).

        Raises:
            ValueError: this layer leaves its activations alone.
        """
        match self.acts:
            case Dynamic(bits):
                return asymmetric_grid(x, bits, self.act_dims)
            case Grouped(bits, _, shift):
                return (symmetric_grid if shift is None else asymmetric_grid)(x, bits, -1)
            case Static(bits):
                return Grid(self.act_scale, self.act_zero, 0, 2**bits - 1)
            case ByStep(bits, clock=clock):
                each = (-1, *(1,) * (x.ndim - 1))
                s, z = self.act_scale[clock.index], self.act_zero[clock.index]
                return Grid(s.view(each), z.view(each), 0, 2**bits - 1)
        raise ValueError("a layer without acts has no activation grid")

    def _snapped(self, x: Tensor) -> Tensor:
        if self.acts is None:
            return x
        if not isinstance(self.acts, Grouped):
            return snap(x, self.act_grid(x))
        channels, shift = self.act_dims[0], self.acts.shift or 0.0
        last = (x + shift).movedim(channels, -1)
        groups = in_groups(last, self.acts.group)
        snapped = out_of_groups(snap(groups, self.act_grid(groups)), last.shape[-1])
        return snapped.movedim(-1, channels) - shift

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `.to(…)`, but keep the scales in fp16: what is stored does not depend on the dtype."""
        scales = {name: buffer for name, buffer in self.named_buffers() if name.endswith("_scale")}
        before = self.weight.dtype
        super()._apply(fn, recurse)
        for name, scale in scales.items():
            setattr(self, name, scale.to(self.weight.device))
        if self.weight.dtype != before:  # from bf16 back to float32, nothing is lost
            self.weight = self.dequantized_weight().to(self.weight.dtype)
        return self

    def extra_repr(self) -> str:
        """Say the bits where torch prints a module."""
        return f"{tuple(self._shape)}, W{self.weights.bits}A{self.acts.bits if self.acts else 16}"


class QuantLinear(_QuantLayer):
    """`nn.Linear` with integer weights and integer activations; input (…, in), output (…, out)."""

    act_dims = (-1,)
    in_features: int
    out_features: int

    @classmethod
    def from_float(
        cls, layer: nn.Linear, weights: Weights, acts: Acts | None, grid: Grid | None = None
    ) -> Self:
        """Quantize `layer`, which stays as it is; without `acts` the activations are left alone.

        `grid` is that of the weight's rows where it was learned, in place of the one that `weights` makes.

        Raises:
            ValueError: bits outside 2 … 8, or a weight that is not finite.
        """
        quantized = cls(layer.weight, layer.bias, weights, acts, grid)
        quantized.in_features, quantized.out_features = layer.in_features, layer.out_features
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """y = W^ x^ + b."""
        return nn.functional.linear(self._snapped(x), self.weight, self.bias)


class QuantConv2d(_QuantLayer):
    """`nn.Conv2d` with integer weights and integer activations.

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
    def from_float(
        cls, layer: nn.Conv2d, weights: Weights, acts: Acts | None, grid: Grid | None = None
    ) -> Self:
        """Quantize `layer`, which stays as it is; without `acts` the activations are left alone.

        `grid` is that of the weight's rows where it was learned, in place of the one that `weights` makes.

        Raises:
            ValueError: bits outside 2 … 8, a weight that is not finite, or padding other than zeros.
        """
        if layer.padding_mode != "zeros":
            raise ValueError(f"QuantConv2d pads with zeros only, not {layer.padding_mode!r}")
        quantized = cls(layer.weight, layer.bias, weights, acts, grid)
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


def quantized(
    layer: nn.Linear | nn.Conv2d, weights: Weights, acts: Acts | None, grid: Grid | None = None
) -> QuantLinear | QuantConv2d:
    """Return the quantized twin of `layer`; arguments and errors as for its `from_float`."""
    if isinstance(layer, nn.Conv2d):
        return QuantConv2d.from_float(layer, weights, acts, grid)
    return QuantLinear.from_float(layer, weights, acts, grid)


def _renew_weight(layer: _QuantLayer, _incompatible_keys: object) -> None:
    """Derive the float weight anew after other integers and scales were loaded."""
    layer.weight.copy_(layer.dequantized_weight())
