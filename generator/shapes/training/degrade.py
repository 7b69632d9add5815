"""Damaging pictures by a known amount, to teach a CLIP what "a good picture" is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def degrade(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, s, s) in [0, 1], damaged, and how much: severities (n,) in [0, 1], 40 % of them 0.

    Seven kinds of damage (noise, blur, blocks, blotches of colour, posterisation, warping, fading), none of
    them made by quantizing a network: the quality score must not know what it will be used to judge.
    """
    n = len(x)
    severity = torch.rand(n, generator=generator) * (torch.rand(n, generator=generator) > 0.4)
    kind = torch.randint(len(_DAMAGES), (n,), generator=generator)
    out = x.clone()
    for i, damage in enumerate(_DAMAGES):
        rows = torch.nonzero((kind == i) & (severity > 0))[:, 0]
        if len(rows):
            out[rows] = damage(x[rows], severity[rows, None, None, None], generator)
    return out.clamp(0, 1), severity


def _noise(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.25 * s * torch.randn(x.shape, generator=generator)


def _blur(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    soft = x
    for _ in range(2):
        soft = F.avg_pool2d(F.pad(soft, (2, 2, 2, 2), "reflect"), 5, 1)
    return x.lerp(soft, s)


def _blocks(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    return x.lerp(F.interpolate(F.avg_pool2d(x, 4), scale_factor=4.0, mode="nearest"), s)


def _blotches(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    coarse = torch.randn(len(x), 3, 16, 16, generator=generator)
    return x + 0.25 * s * F.interpolate(coarse, size=x.shape[-1], mode="bilinear", align_corners=False)


def _posterise(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    levels = 2 + 14 * (1 - s) ** 2
    return (x * levels).round() / levels


def _warp(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    flow = torch.randn(len(x), 2, 9, 9, generator=generator) * 0.09
    flow = F.interpolate(flow, size=x.shape[-1], mode="bicubic", align_corners=False) * s
    grid = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid + flow.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False)


def _fade(x: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    grey = x.mean(1, keepdim=True)
    flat = 0.5 * (grey + grey.mean((2, 3), keepdim=True))
    return x.lerp(flat.expand_as(x), 0.8 * s)


_DAMAGES = (_noise, _blur, _blocks, _blotches, _posterise, _warp, _fade)
