"""Does a picture show what its caption says? The world knows the truth, so this can be counted.

An attribute counts as right if, among the true caption and all captions in which only that attribute is
different, a CLIP finds the true one nearest to the picture. Chance is 1/8 to 1/10 for colours, 1/8 for
shapes, 1/4 for relations. The CLIP's own mistakes lower the count: report it on real pictures beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from generator.metrics import ClipScorer
from generator.shapes.scenes import Scene, alternatives, caption

ATTRIBUTES = ("background", "colour", "shape", "relation")


def correct(
    scorer: ClipScorer, pictures: Tensor, scenes: Sequence[Scene], attribute: str
) -> NDArray[np.float64]:
    """1.0 where `attribute` (of ATTRIBUTES) is right, 0.0 where wrong, NaN where a scene has none; (n,)."""
    choices = [alternatives(scene, attribute) for scene in scenes]
    features = scorer.text_features([caption(choice) for group in choices for choice in group])
    right = np.full(len(scenes), np.nan)
    first = 0
    for i, (group, picture) in enumerate(zip(choices, scorer.image_features(pictures), strict=True)):
        if len(group) > 1:
            right[i] = float((features[first : first + len(group)] @ picture).argmax() == 0)
        first += len(group)
    return right
