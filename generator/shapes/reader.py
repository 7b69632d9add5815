"""A network that reads a picture back into its scene, so that captions can be checked part by part.

It is trained on drawn pictures alone (`python -m generator.shapes.training reader`) and has no say in
generating: what it finds in a picture is evidence. Its own mistakes are reported on drawn pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from generator.shapes.scenes import COLOURS, RELATIONS, SHAPES, Scene

ATTRIBUTES = ("background", "colour", "shape", "relation")
_COLOURS = list(COLOURS)
ABSENT = len(SHAPES)


@dataclass(frozen=True)
class Reading:
    """What was read: background (n, 10) and, for each colour, shape or absence (n, 10, 9) as logits;
    where the object of that colour lies, (n, 10, 2) with x and y in [-1, 1]."""

    background: Tensor
    shapes: Tensor
    places: Tensor


class Reader(nn.Module):
    """A small residual network from 64×64 pictures in [0, 1] to a `Reading`."""

    def __init__(self) -> None:
        """Make it, untrained."""
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, 48, 3, padding=1),
            _Residual(48),
            nn.Conv2d(48, 96, 3, stride=2, padding=1),
            _Residual(96),
            _Residual(96),
            nn.Conv2d(96, 128, 3, stride=2, padding=1),
            _Residual(128),
            nn.Conv2d(128, 32, 1),
            nn.Flatten(),
            nn.Linear(32 * 8 * 8, 256),
            nn.ReLU(),
            nn.Linear(256, len(COLOURS) * (1 + len(SHAPES) + 1 + 2)),
        )

    def forward(self, pictures: Tensor) -> Reading:
        """Read pictures (n, 3, 64, 64) in [0, 1]."""
        n, colours = len(pictures), len(COLOURS)
        out = self.body(pictures * 2 - 1)
        background, shapes, places = out.split([colours, colours * (len(SHAPES) + 1), colours * 2], dim=1)
        return Reading(background, shapes.view(n, colours, -1), places.view(n, colours, 2))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def truth(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """What a perfect reading of the scenes is: background (n,), shapes (n, 10), places (n, 10, 2).

    Places of absent colours and of counted objects are NaN.
    """
    background = torch.tensor([_COLOURS.index(scene.background.colour) for scene in scenes])
    shapes = torch.full((len(scenes), len(COLOURS)), ABSENT)
    places = torch.full((len(scenes), len(COLOURS), 2), torch.nan)
    for i, scene in enumerate(scenes):
        for j, look in enumerate(scene.looks):
            shapes[i, _COLOURS.index(look.colour)] = SHAPES.index(look.shape)
            if len(scene.looks) == len(scene.places):
                places[i, _COLOURS.index(look.colour)] = torch.tensor(scene.places[j][:2])
    return background, shapes, places


def reading_loss(reading: Reading, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Cross-entropy of background and shapes, squared error of the known places."""
    background, shapes, places = truth(scenes)
    known = ~places.isnan()
    return {
        "background": F.cross_entropy(reading.background, background),
        # Most colours are absent from a picture; the sum over colours keeps the present ones in sight.
        "shapes": F.cross_entropy(reading.shapes.flatten(0, 1), shapes.flatten()) * 3,
        "places": (reading.places[known] - places[known]).square().mean(),
    }


@torch.no_grad()
def correct(reader: Reader, pictures: Tensor, scenes: Sequence[Scene], attribute: str) -> NDArray[np.float64]:
    """As `right`, of pictures (n, 3, 64, 64) in [0, 1]."""
    return right(reader(pictures), scenes, attribute)


def right(reading: Reading, scenes: Sequence[Scene], attribute: str) -> NDArray[np.float64]:
    """1.0 where `attribute` (of ATTRIBUTES) is as the scene says, 0.0 where not, NaN where it has none; (n,).

    The objects are those the caption names: colour is right if every named colour was found, shape if every
    named colour was found with the named shape, relation if the two named colours lie as they should.
    """
    found = reading.shapes.argmax(2)
    background, shapes, _ = truth(scenes)
    named = shapes != ABSENT
    if attribute == "background":
        return (reading.background.argmax(1) == background).double().numpy()
    if attribute == "colour":
        return ((found != ABSENT) | ~named).all(1).double().numpy()
    if attribute == "shape":
        return ((found == shapes) | ~named).all(1).double().numpy()
    if attribute != "relation":
        raise ValueError(f"attribute {attribute!r}: expected one of {', '.join(ATTRIBUTES)}")
    whether = np.full(len(scenes), np.nan)
    for i, scene in enumerate(scenes):
        if scene.kind not in RELATIONS[:4]:
            continue
        first, second = (_COLOURS.index(look.colour) for look in scene.looks)
        present = bool((found[i, [first, second]] != ABSENT).all())
        dx, dy = (reading.places[i, first] - reading.places[i, second]).tolist()
        seen = (
            ("left of" if dx < 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")
        )
        whether[i] = float(present and seen == scene.kind)
    return whether
