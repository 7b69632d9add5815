"""A quadratic surface through the gains of a search, for its next guess and for a look at it.

Gains are paired: a point's mean score less the identity's on the same prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from qsched.journal import Point

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Surface:
    """Gain as a quadratic function of the numbers of a parametrisation, fitted for the box centre ± half."""

    centre: Array
    half: Array
    weights: Array

    def __call__(self, numbers: ArrayLike) -> Array:
        """The gain at each row of `numbers`, (n, size) → (n,)."""
        return _terms((np.asarray(numbers, dtype=float) - self.centre) / self.half) @ self.weights

    def top(self) -> Array:
        """The best place in the box, (size,)."""
        middle, bounds = np.zeros(len(self.half)), [(-1, 1)] * len(self.half)
        found = minimize(lambda u: -float((_terms(u[None]) @ self.weights)[0]), middle, bounds=bounds)
        return self.centre + self.half * found.x


def gains(points: Sequence[Point], identity: Point) -> Array:
    """How much better than the identity each point was on the prompts it saw, (n,)."""
    base = np.asarray(identity.scores)
    return np.array([point.mean - base[: len(point.scores)].mean() for point in points])


def fitted(
    numbers: ArrayLike, points: Sequence[Point], identity: Point, centre: ArrayLike, half: ArrayLike
) -> Surface | None:
    """The least-squares surface through `points`, whose `numbers` are (n, size); None with too few to fit.

    A point that saw more prompts weighs more.
    """
    middle, width = (np.asarray(side, dtype=float) for side in (centre, half))
    terms = _terms((np.asarray(numbers, dtype=float) - middle) / width)
    if len(terms) <= terms.shape[1]:
        return None
    weight = np.sqrt(np.array([len(point.scores) for point in points], dtype=float))
    weights: Array = np.linalg.lstsq(weight[:, None] * terms, weight * gains(points, identity), rcond=None)[0]
    return Surface(middle, width, weights)


def _terms(u: Array) -> Array:
    """1, u and all products of two, for each row."""
    rows, columns = np.triu_indices(u.shape[1])
    return np.column_stack([np.ones(len(u)), u, u[:, rows] * u[:, columns]])
