"""What a rating table is made with: every setting, checked once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from elo.errors import SettingsError
from elo.intervals import CLUSTERS
from elo.paired import elo_scale
from elo.tally import Tally
from elo.ties import TIE_MODELS

METHODS = (*TIE_MODELS, "elo")


@dataclass(frozen=True)
class Settings:
    """How votes become a table; SettingsError for what is out of range.

    method     "bradley-terry" (maximum likelihood, ties as half wins), "davidson" or "rao-kupper" (ties
               as outcomes), or "elo" (sequential, in vote order)
    k          step of the sequential Elo, in Elo points
    base       mean of the ratings; with an anchor, one method → its rating, that method is fixed instead
    scale      points that stand for odds of 10 : 1
    side       also fit what standing on the left is worth
    prior      votes added to every pair that met, half a win for each (0.5: half a vote)
    bootstrap  rounds of the cluster bootstrap, for the chance to be best and the Pareto front; 0 for none
    cluster    whom the intervals count: "auto", "vote", "judge", "prompt" or "both" (see `elo.intervals`)
    seed       of the bootstrap, and of the random orders of sequential Elo
    sizes      method → bytes
    """

    method: str = "bradley-terry"
    k: float = 32
    base: float = 1000
    scale: float = 400
    anchor: Mapping[str, float] | None = None
    side: bool = False
    prior: float = 0
    bootstrap: int = 1000
    cluster: str = "auto"
    seed: int = 0
    sizes: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        """Check whatever can be checked without the votes."""
        anchor = dict(self.anchor or {})
        right = {
            "method": (self.method in METHODS, f"one of {', '.join(METHODS)}"),
            "cluster": (self.cluster in CLUSTERS, f"one of {', '.join(CLUSTERS)}"),
            "k": (0 < self.k < math.inf, "a number above 0"),
            "scale": (0 < self.scale < math.inf, "a number above 0"),
            "base": (math.isfinite(self.base), "a finite number"),
            "prior": (0 <= self.prior < math.inf, "a number of votes, 0 or more"),
            "bootstrap": (self.bootstrap >= 0, "0 or more"),
            "seed": (self.seed >= 0, "0 or more"),
            "anchor": (self.anchor is None or len(anchor) == 1, "one method and its rating"),
        }
        for name, (fits, expected) in right.items():
            if not fits:
                raise SettingsError(f"{name} {getattr(self, name)!r}: expected {expected}")
        for name, value in anchor.items():
            if not math.isfinite(value):
                raise SettingsError(f"anchor {name!r}: expected a finite rating, found {value!r}")

    def check(self, votes: Tally) -> None:
        """Raise SettingsError for what these votes do not have."""
        there = f"there are {', '.join(votes.names)}"
        if self.side and not votes.sides:
            raise SettingsError(f"side: {votes.source} does not say which image was on the left")
        for name in self.anchor or ():
            if name not in votes.names:
                raise SettingsError(f"anchor {name!r}: no votes on it; {there}")
        if self.sizes is not None and not set(self.sizes) & set(votes.names):
            raise SettingsError(f"sizes: none of {', '.join(self.sizes)} was voted on; {there}")

    @property
    def points(self) -> float:
        """Elo points of one unit of log-strength."""
        return self.scale / math.log(10)

    def on_scale(self, theta: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Log-strengths (…, m) as ratings: of mean `base`, or with the anchor where it was put."""
        anchor = dict(self.anchor) if self.anchor else None
        return elo_scale(theta, names, base=self.base, scale=self.scale, anchor=anchor)

    def shift(self, ratings: np.ndarray, names: tuple[str, ...]) -> float:
        """What must be added to ratings (m,) to put the anchor where it belongs; 0 without one."""
        return sum((value - ratings[names.index(name)] for name, value in (self.anchor or {}).items()), 0.0)
