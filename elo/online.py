"""Sequential Elo: one pass through the votes in their order.

The rating that chess players know. It depends on the order of the votes and never settles, so it
stands beside the fitted rating and does not replace it.
"""

import math
from dataclasses import dataclass

import numpy as np

from elo.counts import LEFT, RIGHT
from elo.votes import Votes


@dataclass(frozen=True, eq=False)
class Elo:
    """Ratings after the last vote, with the settings they were made with."""

    names: tuple[str, ...]
    ratings: np.ndarray
    k: float
    base: float
    scale: float


def sequential_elo(votes: Votes, *, k: float = 32, base: float = 1000, scale: float = 400) -> Elo:
    """Run the Elo update over the votes in their order; a tie is half a win.

    After a vote between i (left) and j with score s ∈ {1, 0, ½} for i,

        E = 1 / (1 + 10^((R_j − R_i) / scale)),   R_i += k (s − E),   R_j −= k (s − E)

    so the sum of ratings stays m · base (Elo, The Rating of Chessplayers, 1978, §1.6).
    Ratings are in Elo points, one per name of `votes.names`.
    """
    score = np.where(votes.winner == LEFT, 1.0, np.where(votes.winner == RIGHT, 0.0, 0.5))
    ratings = [float(base)] * len(votes.names)
    # 1 / (1 + 10^−x) = (1 + tanh(x ln 10 / 2)) / 2, which cannot overflow
    half, tanh = math.log(10) / (2 * scale), math.tanh
    for i, j, s in zip(votes.a.tolist(), votes.b.tolist(), score.tolist(), strict=True):
        change = k * (s - 0.5 - 0.5 * tanh(half * (ratings[i] - ratings[j])))
        ratings[i] += change
        ratings[j] -= change
    return Elo(votes.names, np.array(ratings), k, base, scale)
