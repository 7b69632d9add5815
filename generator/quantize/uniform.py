"""Uniform integer quantization: real rounding to a real integer grid.

Equations 4 and 5 of "Efficiency Meets Fidelity":

    w_q = clip(round(w / s) + z, q_min, q_max)        (4)
    w^  = (w_q − z) · s                               (5)

A `Grid` holds s, z, q_min and q_max; where s has one value per output channel, per token or per sample, it
has the number of dimensions of the tensor it belongs to, so that the formulas broadcast as written.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The integer grid of a tensor: scale s > 0, integer-valued zero point z, range of the integers."""

    s: Tensor
    z: Tensor
    q_min: int
    q_max: int


def symmetric_grid(x: Tensor, bits: int, dim: int | tuple[int, ...]) -> Grid:
    """Return the signed grid −q_max … q_max with z = 0; the values along `dim` share one fp16 scale.

    The scale is stored as fp16 (two bytes), so it is rounded *up* to fp16: |x| / s never exceeds q_max, hence
    nothing is clipped and |x − x^| ≤ s / 2 everywhere. A slice of zeros gets s = 1.

    Raises:
        ValueError: bits outside 2 … 8, or values that are not finite or too large for an fp16 scale.
    """
    q_max = 2 ** (_checked(bits) - 1) - 1
    exact = x.detach().float().abs().amax(dim, keepdim=True) / q_max
    s = exact.half()
    if not torch.isfinite(s).all():
        raise ValueError(f"weights that are not finite, or above {q_max} · 65504, have no fp16 scale")
    # Positive fp16 numbers sort like their bit patterns: adding 1 to the bits gives the next larger number.
    s = torch.where(s.float() < exact, (s.view(torch.int16) + 1).view(torch.float16), s)
    s = torch.where(exact == 0, torch.ones_like(s), s)
    return Grid(s, torch.zeros_like(s), -q_max, q_max)


def asymmetric_grid(x: Tensor, bits: int, dim: int | tuple[int, ...]) -> Grid:
    """Return the unsigned grid 0 … 2^bits − 1 over [min(x, 0), max(x, 0)]; `dim` shares one float32 scale.

    The range always holds 0 and z is an integer, so 0 is on the grid: zero padding stays exact.

    Raises:
        ValueError: bits outside 2 … 8.
    """
    q_max = 2 ** _checked(bits) - 1
    x = x.detach().float()
    low, high = x.amin(dim, keepdim=True).clamp_(max=0), x.amax(dim, keepdim=True).clamp_(min=0)
    # The floor is the smallest normal float32: it keeps a slice of zeros from dividing by zero.
    s = (high / q_max - low / q_max).clamp_(min=torch.finfo(torch.float32).tiny)
    return Grid(s, torch.round(-low / s), 0, q_max)


def quantize(x: Tensor, grid: Grid) -> Tensor:
    """Equation 4: the integers of `x`, as int8 (signed grid) or uint8 (unsigned grid)."""
    return _integers(x, grid).to(torch.int8 if grid.q_min < 0 else torch.uint8)


def dequantize(q: Tensor, grid: Grid) -> Tensor:
    """Equation 5: the float32 values that the integers `q` stand for."""
    return (q.float() - grid.z.float()) * grid.s.float()


def snap(x: Tensor, grid: Grid) -> Tensor:
    """Return `dequantize(quantize(x, grid), grid)` in x's dtype, sparing the integer tensor."""
    return _integers(x, grid).sub_(grid.z.float()).mul_(grid.s.float()).to(x.dtype)


def pack_int4(q: Tensor) -> Tensor:
    """Pack int8 values in −8 … 7 two a byte, (…, n) to uint8 (…, ⌈n/2⌉); the first is the low half."""
    if q.shape[-1] % 2:
        q = torch.nn.functional.pad(q, (0, 1))
    nibbles = q.view(torch.uint8) & 0x0F
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def unpack_int4(packed: Tensor, n: int) -> Tensor:
    """Undo `pack_int4`: int8, shape (…, n)."""
    nibbles = torch.stack((packed & 0x0F, packed >> 4), dim=-1).flatten(-2)[..., :n]
    # Bit 3 is the sign of a four-bit two's complement number.
    return (nibbles ^ 8).view(torch.int8) - 8


def _integers(x: Tensor, grid: Grid) -> Tensor:
    """Equation 4, integer-valued but still float32; a new tensor that may be overwritten."""
    return x.detach().float().div(grid.s.float()).round_().add_(grid.z.float()).clamp_(grid.q_min, grid.q_max)


def _checked(bits: int) -> int:
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be 2 to 8, not {bits}")
    return bits
