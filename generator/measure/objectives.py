"""JAQ as one number a picture: what a search maximises, and the second judge of what it found.

The judge is never the objective, and of another architecture: for JAQ by CLIP ViT-L/14 it is JAQ by
ViT-B/32, for JAQ by preference models (ViT-B/16 and ViT-H/14) it is JAQ by ViT-L/14. The shapes world has a
judge of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from generator.measure.device import device_named
from generator.measure.measures import JAQS, Batch, Loaded, load_measures, with_jaq
from generator.measure.scorers import Values


@dataclass(frozen=True)
class Objective:
    """One of `JAQS`, and the networks that give its parts."""

    metric: str
    networks: dict[str, Loaded]

    @property
    def variant(self) -> str:
        """As `qsched.jaq` names it."""
        return JAQS[self.metric][2]

    @property
    def source(self) -> str:
        """What was loaded, for the record."""
        return "; ".join(f"{name}: {network.source}" for name, network in self.networks.items())

    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Values:
        """JAQ (n,) of pictures (n, 3, h, w) in [0, 1].

        A text that names no thing has no AQ-MAP, whatever the picture: it counts 0 for every candidate.
        """
        values: dict[str, Values] = {}
        for network in self.networks.values():
            values |= network.score(Batch(pictures, texts))
        return np.nan_to_num(with_jaq(values)[self.metric])


OBJECTIVES = {"clip": ("jaq", ("clip",)), "preference": ("jaq-preference", ("aq-map", "hpsv2.1"))}
JUDGES = {"clip": ("jaq-b32", ("clip-b32",)), "preference": ("jaq", ("clip",))}
EMBEDDED_JUDGE = ("jaq-judge", ("judge",))


def objective_and_judge(variant: str, weights: Path | None, embedded: bool) -> tuple[Objective, Objective]:
    """Load both from the folder `weights`, onto the first GPU if there is one.

    `embedded` is for the shapes world, whose own CLIPs come along.

    Raises:
        WeightsError: a file that is missing, with how to get it, or cannot be read.
    """
    both = (OBJECTIVES[variant], EMBEDDED_JUDGE if embedded else JUDGES[variant])
    device = device_named(None)
    networks = [load_measures(names, weights, embedded, device)[0] for _, names in both]
    objective, judge = (Objective(metric, found) for (metric, _), found in zip(both, networks, strict=True))
    return objective, judge
