"""The reader that checks captions: supervised on drawn pictures, half of them lightly damaged.

The damage keeps it from relying on pixels being as clean as a drawing; what it reads are generated pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generator.shapes.reader import Reader, reading_loss
from generator.shapes.render import pictures
from generator.shapes.training.degrade import degrade
from generator.shapes.training.loop import Recipe, train

RECIPE = Recipe("reader", steps=2900, batch=64, lr=1e-3, seed=41)


def run() -> None:
    """Train and save the reader."""
    reader = Reader().to(memory_format=torch.channels_last)

    def losses(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        x, scenes, _ = pictures(RECIPE.seed * 10_000_019 + step, RECIPE.batch)
        damaged, severity = degrade(x, generator)
        mild = (severity < 0.4)[:, None, None, None]
        x = torch.where(mild, damaged, x).contiguous(memory_format=torch.channels_last)
        return reading_loss(reader(x), scenes)

    train(RECIPE, {"reader": reader}, losses)
