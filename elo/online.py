"""Sequential Elo: one pass through the votes in their order.

The rating that chess players know. It depends on the order of the votes and never settles, so it
stands beside the fitted rating and does not replace it.
"""

import math
from dataclasses import dataclass

import numpy as np

from elo.counts import Counts
from elo.tally import Tally
from elo.votes import Votes

SCORE = (0.5, -0.5, 0.0)  # of the left image less ½, if it wins, loses or ties


@dataclass(frozen=True, eq=False)
class Elo:
    """Ratings after the last vote, with the settings they were made with."""

    names: tuple[str, ...]
    ratings: np.ndarray
    k: float
    base: float
    scale: float


@dataclass(frozen=True, eq=False)
class EloOrders:
    """Mean and standard deviation (m,) of the ratings over random orders of the same votes."""

    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    orders: int
    k: float
    base: float
    scale: float
    seed: int


def sequential_elo(votes: Votes | Tally, *, k: float = 32, base: float = 1000, scale: float = 400) -> Elo:
    """Run the Elo update over the votes in their order; a tie is half a win.

    After a vote between i (left) and j with score s ∈ {1, 0, ½} for i,

        E = 1 / (1 + 10^((R_j − R_i) / scale)),   R_i += k (s − E),   R_j −= k (s − E)

    so the sum of ratings stays m · base (Elo, The Rating of Chessplayers, 1978, §1.6).
    Ratings are in Elo points, one per name of `votes.names`.
    """
    # 1 / (1 + 10^−x) = (1 + tanh(x ln 10 / 2)) / 2, which cannot overflow. In units of 2 scale / ln 10 a
    # vote costs one product.
    unit, tanh = 2 * scale / math.log(10), math.tanh
    step, won = k / unit / 2, np.array(SCORE) * (k / unit)
    u = [0.0] * len(votes.names)
    for a, b, winner in votes.in_order():
        for i, j, gain in zip(a.tolist(), b.tolist(), np.take(won, winner).tolist(), strict=True):
            change = gain - step * tanh(u[i] - u[j])
            u[i] += change
            u[j] -= change
    return Elo(votes.names, base + unit * np.array(u), k, base, scale)


def elo_over_orders(
    counts: Counts, *, orders: int = 100, k: float = 32, base: float = 1000, scale: float = 400, seed: int = 0
) -> EloOrders:
    """Run `sequential_elo` over random orders of the counted votes, all orders side by side.

    The spread is what the order alone decides: it says nothing of how sure the votes are.
    """
    rng = np.random.default_rng(seed)
    m, n = len(counts.names), round(counts.total)
    cell = np.repeat(np.arange(counts.number.size), counts.number.ravel().astype(np.intp))
    a, b, score = cell // m % m, cell % m, np.take(SCORE, cell // (m * m))
    total, squares, done = np.zeros(m), np.zeros(m), 0
    half = math.log(10) / (2 * scale)
    while done < orders:
        # A step serves all orders at hand; their places in the votes stay below some 80 MB.
        size = min(orders - done, max(1, 10_000_000 // n))
        order = np.array([rng.permutation(n) for _ in range(size)]).T
        ratings, row = np.zeros(size * m), np.arange(size) * m
        for left, right, won in zip(row + a[order], row + b[order], score[order], strict=True):
            change = k * (won - 0.5 * np.tanh(half * (ratings[left] - ratings[right])))
            ratings[left] += change
            ratings[right] -= change
        ended = ratings.reshape(size, m)
        total += ended.sum(axis=0)
        squares += (ended**2).sum(axis=0)
        done += size
    mean = total / orders
    sd = np.sqrt(np.maximum(squares - orders * mean**2, 0) / max(orders - 1, 1))
    return EloOrders(counts.names, base + mean, sd, orders, k, base, scale, seed)
