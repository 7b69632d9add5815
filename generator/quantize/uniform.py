"""Uniform integer quantization: real rounding to a real integer grid.

Equations 4 and 5 of "Efficiency Meets Fidelity":

    w_q = clip(round(w / s) + z, q_min, q_max)        (4)
    w^  = (w_q − z) · s                               (5)

A `Grid` holds s, z, q_min and q_max; where s has one value per output channel, group, token or sample, it
has the number of dimensions of the tensor it belongs to, so that the formulas broadcast as written.

The range a grid spans follows one of three rules: "min-max" takes all values, "percentile" leaves the
outermost 0.1 % outside, "mse" takes the share of min-max (100 %, 98 % … 30 %) whose squared error is least.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

OUTSIDE = 0.001
SHARES = tuple(share / 100 for share in range(100, 28, -2))


@dataclass(frozen=True)
class Grid:
    """The integer grid of a tensor: scale s > 0, integer-valued zero point z, range of the integers."""

    s: Tensor
    z: Tensor
    q_min: int
    q_max: int


def symmetric_grid(
    x: Tensor, bits: int, dim: int | tuple[int, ...], rule: str = "min-max", *, half: bool = False
) -> Grid:
    """Return the signed grid −q_max … q_max with z = 0; the values along `dim` share one scale.

    `half` is for scales that are stored: they are fp16 (two bytes), rounded *up*, so that under min-max
    |x| / s never exceeds q_max, nothing is clipped and |x − x^| ≤ s / 2 everywhere. A slice of zeros gets
    s = 1.

    Raises:
        ValueError: bits outside 2 … 8; an unknown rule, or "percentile" along several dimensions; with
            `half`, values that are not finite or too large for an fp16 scale.
    """
    q_max = 2 ** (_checked(bits) - 1) - 1

    def make(low: Tensor, high: Tensor) -> Grid:
        exact = torch.maximum(-low, high) / q_max
        s = _rounded_up(exact) if half else exact
        s = torch.where(exact == 0, torch.ones_like(s), s)
        return Grid(s, torch.zeros_like(s), -q_max, q_max)

    return _ranged(x, dim, rule, make)


def asymmetric_grid(
    x: Tensor, bits: int, dim: int | tuple[int, ...], rule: str = "min-max", *, half: bool = False
) -> Grid:
    """Return the unsigned grid 0 … 2^bits − 1 over [min(x, 0), max(x, 0)]; `dim` shares one scale.

    The range always holds 0 and z is an integer, so 0 is on the grid: zero padding stays exact. `half` is
    as in `symmetric_grid`.

    Raises:
        ValueError: as `symmetric_grid`.
    """
    return _ranged(x, dim, rule, lambda low, high: grid_between(low, high, bits, half=half))


def grid_between(low: Tensor, high: Tensor, bits: int, *, half: bool = False) -> Grid:
    """Return the unsigned grid 0 … 2^bits − 1 over [min(low, 0), max(high, 0)], elementwise.

    Raises:
        ValueError: bits outside 2 … 8; with `half`, a range that has no fp16 scale.
    """
    q_max = 2 ** _checked(bits) - 1
    low, high = low.clamp(max=0), high.clamp(min=0)
    # The floor is the smallest normal number: it keeps a slice of zeros from dividing by zero.
    s = (high / q_max - low / q_max).clamp_(min=torch.finfo(torch.float16 if half else torch.float32).tiny)
    s = _rounded_up(s) if half else s
    return Grid(s, torch.round(-low / s.float()), 0, q_max)


def quantize(x: Tensor, grid: Grid) -> Tensor:
    """Equation 4: the integers of `x`, as int8 (signed grid) or uint8 (unsigned grid)."""
    return _integers(x, grid).to(torch.int8 if grid.q_min < 0 else torch.uint8)


def dequantize(q: Tensor, grid: Grid) -> Tensor:
    """Equation 5: the float32 values that the integers `q` stand for."""
    return (q.float() - grid.z.float()) * grid.s.float()


def snap(x: Tensor, grid: Grid) -> Tensor:
    """Return `dequantize(quantize(x, grid), grid)` in x's dtype, sparing the integer tensor."""
    return _integers(x, grid).sub_(grid.z.float()).mul_(grid.s.float()).to(x.dtype)


def in_groups(x: Tensor, group: int) -> Tensor:
    """Cut the last dimension into groups: (…, n) to (…, ⌈n/group⌉, group), filled up with zeros."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % group)).unflatten(-1, (-1, group))


def out_of_groups(x: Tensor, n: int) -> Tensor:
    """Undo `in_groups`: (…, groups, group) to (…, n)."""
    return x.flatten(-2)[..., :n]


def pack(q: Tensor, bits: int) -> Tensor:
    """Pack integers of `bits` bits without gaps: int8 or uint8 (…, n) to uint8 (…, ⌈n·bits/8⌉).

    Lowest bit first, so that of two 4-bit numbers the first is the low half of the byte; negative numbers
    are two's complement.
    """
    q = q.view(torch.uint8)
    if bits == 8:
        return q
    flags = ((q.unsqueeze(-1) >> _places(bits, q)) & 1).flatten(-2)
    return (in_groups(flags, 8) << _places(8, q)).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, n: int, *, signed: bool) -> Tensor:
    """Undo `pack`: int8 if `signed`, else uint8; shape (…, n)."""
    codes = packed
    if bits < 8:
        flags = ((packed.unsqueeze(-1) >> _places(8, packed)) & 1).flatten(-2)[..., : n * bits]
        codes = (flags.unflatten(-1, (n, bits)) << _places(bits, packed)).sum(-1, dtype=torch.uint8)
    # Moved to the top of the byte and back, the highest bit becomes the sign.
    return (codes << (8 - bits)).view(torch.int8) >> (8 - bits) if signed else codes


def _places(bits: int, like: Tensor) -> Tensor:
    return torch.arange(bits, dtype=torch.uint8, device=like.device)


def _integers(x: Tensor, grid: Grid) -> Tensor:
    """Equation 4, integer-valued but still float32; a new tensor that may be overwritten."""
    return x.detach().float().div(grid.s.float()).round_().add_(grid.z.float()).clamp_(grid.q_min, grid.q_max)


def _ranged(x: Tensor, dim: int | tuple[int, ...], rule: str, make: Callable[[Tensor, Tensor], Grid]) -> Grid:
    """The grid that `make(low, high)` gives for the range that `rule` chooses."""
    x = x.detach().float()
    if rule == "percentile":
        if not isinstance(dim, int):
            raise ValueError(f"percentiles are taken along one dimension, not {dim}")
        return make(
            torch.quantile(x, OUTSIDE / 2, dim, keepdim=True),
            torch.quantile(x, 1 - OUTSIDE / 2, dim, keepdim=True),
        )
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    if rule == "min-max":
        return make(low, high)
    if rule != "mse":
        raise ValueError(f"unknown range rule {rule!r}; expected min-max, percentile or mse")
    grids = [make(share * low, share * high) for share in SHARES]
    errors = torch.stack([(snap(x, grid) - x).square().sum(dim, keepdim=True) for grid in grids])
    best = errors.argmin(0, keepdim=True)
    s = torch.stack([grid.s for grid in grids]).gather(0, best).squeeze(0)
    z = torch.stack([grid.z for grid in grids]).gather(0, best).squeeze(0)
    return Grid(s, z, grids[0].q_min, grids[0].q_max)


def _rounded_up(exact: Tensor) -> Tensor:
    s = exact.half()
    if not torch.isfinite(s).all():
        raise ValueError("values that are not finite, or too large, have no fp16 scale")
    # Positive fp16 numbers sort like their bit patterns: adding 1 to the bits gives the next larger number.
    return torch.where(s.float() < exact, (s.view(torch.int16) + 1).view(torch.float16), s)


def _checked(bits: int) -> int:
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be 2 to 8, not {bits}")
    return bits
