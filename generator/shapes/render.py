"""Drawing scenes: signed distance fields with analytic anti-aliasing, many pictures at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from generator.shapes.scenes import COLOURS, TEXTURES, Scene, caption, sample_scenes

SIZE = 64
_PALETTE = torch.tensor(list(COLOURS.values()))
_COLOUR = {name: i for i, name in enumerate(COLOURS)}


def pictures(seed: int, count: int) -> tuple[Tensor, list[Scene], list[str]]:
    """`count` pictures of the stream `seed`: (count, 3, 64, 64) in [0, 1], their scenes and captions."""
    scenes = sample_scenes(seed, count)
    return render(scenes, torch.Generator().manual_seed(seed)), scenes, [caption(s) for s in scenes]


def render(scenes: Sequence[Scene], generator: torch.Generator) -> Tensor:
    """Draw scenes to (len(scenes), 3, 64, 64) in [0, 1]; `generator` jitters the colours a little."""
    n = len(scenes)
    centre = torch.arange(SIZE) + 0.5
    py, px = torch.meshgrid(centre, centre, indexing="ij")
    X, Y = px / SIZE * 2 - 1, py / SIZE * 2 - 1

    colour = _jittered([s.background.colour for s in scenes], generator)
    bright = colour.mean(1, keepdim=True) > 0.55
    second = torch.where(bright, colour * 0.72, colour * 0.7 + 0.22)
    image = _textured(colour, second, px, py, [s.background.texture for s in scenes], period=8)
    image = image * (1 - 0.10 * Y)  # light from above

    for slot in reversed(range(max(len(s.places) for s in scenes))):  # the first object lies on top
        drawn = [slot < len(s.places) for s in scenes]
        looks = [s.looks[min(slot, len(s.looks) - 1)] for s in scenes]
        places = [s.places[slot] if d else (9.0, 9.0, 0.1) for s, d in zip(scenes, drawn, strict=True)]
        cx, cy, r = torch.tensor(places, dtype=torch.float32).T.reshape(3, n, 1, 1)
        x, y = (X - cx) / r, (Y - cy) / r
        distance = _distance(x, y, [look.shape for look in looks]) * r * SIZE / 2  # in pixels
        cover = (0.5 - distance).clamp(0, 1)[:, None]
        outline = (distance + 2.0).clamp(0, 1)[:, None]

        colour = _jittered([look.colour for look in looks], generator)
        light = colour.mean(1, keepdim=True)
        second = torch.where(light > 0.5, colour * 0.5, colour * 0.55 + 0.45)
        body = _textured(colour, second, px, py, [look.texture for look in looks], period=6)
        body = body * (1 - 0.16 * ((x + y) / 1.4).clamp(-1.2, 1.2))[:, None]
        rim = torch.where(light > 0.25, colour * 0.35, colour * 0.3 + 0.5)[..., None, None]
        image = image * (1 - cover) + (body * (1 - outline) + rim * outline) * cover
    return image.clamp(0, 1)


def _jittered(names: list[str], generator: torch.Generator) -> Tensor:
    colour = _PALETTE[torch.tensor([_COLOUR[name] for name in names])]
    return (colour + 0.025 * torch.randn(len(names), 3, generator=generator)).clamp(0, 1)


def _textured(first: Tensor, second: Tensor, px: Tensor, py: Tensor, names: list[str], period: int) -> Tensor:
    """Mix two colours (n, 3) by each picture's texture, on the pixel grid, to (n, 3, 64, 64)."""
    stripes = 0.5 + 0.5 * (3 * torch.sin((px + py) * 2 * math.pi / period)).clamp(-1, 1)
    dx, dy = px % period - period / 2, py % period - period / 2
    dots = (0.30 * period - torch.hypot(dx, dy) + 0.5).clamp(0, 1)
    checks = torch.sin(px * math.pi / period * 1.25) * torch.sin(py * math.pi / period * 1.25)
    checks = 0.5 + 0.5 * (4 * checks).clamp(-1, 1)
    masks = torch.stack([torch.zeros_like(px), stripes, dots, checks])
    mask = masks[torch.tensor([TEXTURES.index(name) for name in names])][:, None]
    return first[..., None, None] * (1 - mask) + second[..., None, None] * mask


def _distance(x: Tensor, y: Tensor, shapes: list[str]) -> Tensor:
    """Signed distance (negative inside) to each picture's shape in coordinates where its radius is 1."""
    out = torch.empty_like(x)
    for shape in set(shapes):
        rows = torch.tensor([i for i, s in enumerate(shapes) if s == shape])
        out[rows] = _FIELDS[shape](x[rows], y[rows])
    return out


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    slope = math.sqrt(3) / 2
    return torch.maximum(y - 0.68, slope * x.abs() - 0.5 * y - 0.52)


def _star(x: Tensor, y: Tensor) -> Tensor:
    sector = math.pi / 5
    angle = ((torch.atan2(x, -y) + sector) % (2 * sector) - sector).abs()  # folded onto half a ray
    r = torch.hypot(x, y)
    u, v = r * torch.sin(angle), r * torch.cos(angle)
    tip, (bu, bv) = 1.08, (0.47 * math.sin(sector), 0.47 * math.cos(sector))
    normal = (tip - bv, bu)
    return (u * normal[0] + (v - tip) * normal[1]) / math.hypot(*normal)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    # A square standing on its corner, and a disc on each of its two upper sides.
    side, low = 0.62, 0.12
    u, v = (x + y - low) / math.sqrt(2), (x - y + low) / math.sqrt(2)
    square = torch.maximum(u.abs(), v.abs()) - side
    off = side / math.sqrt(2)
    discs = torch.hypot(x.abs() - off, y - low + off) - side
    return torch.minimum(square, discs)


_FIELDS = {
    "circle": lambda x, y: torch.hypot(x, y) - 0.96,
    "square": lambda x, y: _box(x, y, 0.84, 0.84),
    "triangle": _triangle,
    "star": _star,
    "ring": lambda x, y: (torch.hypot(x, y) - 0.72).abs() - 0.26,
    "cross": lambda x, y: torch.minimum(_box(x, y, 0.32, 0.96), _box(x, y, 0.96, 0.32)),
    "diamond": lambda x, y: (x.abs() / 0.78 + y.abs() / 1.08 - 1) * 0.63,
    "heart": _heart,
}
