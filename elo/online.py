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
# Many votes are taken in blocks side by side if there are FEWEST, STRIP votes of each at a time. A block is
# so long that e^−FORGET of its start is left at its end. Blocks meet where they are SEAM apart (1e-10 Elo
# points); if they do not in SWEEPS sweeps, votes are taken one by one.
FEWEST, STRIP, FORGET, SEAM, SWEEPS = 64, 32, 36, 1e-12, 4


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
    unit = 2 * scale / math.log(10)
    step, gains = k / unit / 2, np.array(SCORE) * (k / unit)
    u = np.zeros(len(votes.names))
    length = math.ceil(FORGET * len(votes.names) / step)
    for a, b, winner in votes.in_order():
        blocks = len(winner) // length
        done = blocks * length if blocks >= FEWEST and step < 1 else 0
        if done:
            u = _in_blocks(u, a[:done], b[:done], winner[:done], step, gains, blocks)
        u = _one_by_one(u, a[done:], b[done:], winner[done:], step, gains)
    return Elo(votes.names, base + unit * u, k, base, scale)


def _one_by_one(
    u: np.ndarray, a: np.ndarray, b: np.ndarray, winner: np.ndarray, step: float, gains: np.ndarray
) -> np.ndarray:
    """Ratings (m,) after these votes, from ratings u before."""
    after, tanh = u.tolist(), math.tanh
    for i, j, gain in zip(a.tolist(), b.tolist(), gains[winner].tolist(), strict=True):
        change = gain - step * tanh(after[i] - after[j])
        after[i] += change
        after[j] -= change
    return np.array(after)


def _in_blocks(
    u: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    winner: np.ndarray,
    step: float,
    gains: np.ndarray,
    blocks: int,
) -> np.ndarray:
    """What `_one_by_one` gives, in less time for many votes: blocks of them advance side by side.

    Each block starts from a guess, which in the next sweep is where the block before it ended, until
    guesses and ends agree. They soon do, for Elo forgets: a vote averages whatever was added to its two
    ratings before (its Jacobian is [1 − s, s; s, 1 − s], 0 < s ≤ step < 1). So nothing added ever grows, and
    what is left at the seams moves the result by no more than its sum.
    """
    m, length = len(u), len(winner) // blocks
    left, right, won = (votes.reshape(blocks, length) for votes in (a, b, winner))
    row = np.arange(blocks) * m
    start = np.tile(u, (blocks, 1))
    for sweep in range(SWEEPS):
        ratings = start.flatten()
        # For the first guesses the second halves of the blocks will do.
        for first in range(0 if sweep else length // 2, length, STRIP):
            strip = slice(first, first + STRIP)
            steps = row + left[:, strip].T, row + right[:, strip].T, gains[won[:, strip].T]
            for i, j, change in zip(*steps, strict=True):
                of_i, of_j = ratings[i], ratings[j]
                change -= step * np.tanh(of_i - of_j)
                ratings[i], ratings[j] = of_i + change, of_j - change
        end = ratings.reshape(blocks, m)
        if sweep and np.abs(end[:-1] - start[1:]).max() <= SEAM:
            return end[-1]
        start[1:] = end[:-1]
    return _one_by_one(u, a, b, winner, step, gains)


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
