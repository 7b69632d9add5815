"""The one solver of all models: Newton's method on many tables of votes at once.

Every model maximises Σ y ℓ(x, c) over cells of y votes, where x = θ_i − θ_j ± γ is what the winner i has over
the loser j, and c is the tie parameter (`elo.ties`). ℓ is concave, so where the gradient vanishes is the
maximum. The p parameters of a table are θ (m), then c if there is a tie parameter, then γ if there is a side
effect.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from elo.counts import LEFT, RIGHT, TIE
from elo.ties import Slopes, TieModel

ITERATIONS = 200


class Plane(NamedTuple):
    """Votes of r tables that ended alike.

    slopes, log   of ln P by (x, c), and ln P itself
    side          sign of γ: 1 if the winner stood on the left, −1 if on the right, 0 if sides do not matter
    y             (r, m, m) winner × loser
    """

    slopes: Callable[[np.ndarray, np.ndarray], Slopes]
    log: Callable[[np.ndarray, np.ndarray], np.ndarray]
    side: int
    y: np.ndarray


class Tables(NamedTuple):
    """Votes of r tables, in as few planes as the model tells apart; what it has besides θ."""

    planes: list[Plane]
    has_tie: bool
    has_side: bool

    @property
    def m(self) -> int:
        """The number of methods."""
        return self.planes[0].y.shape[1]

    def only(self, rows: np.ndarray) -> "Tables":
        """Some of the tables."""
        return self._replace(planes=[plane._replace(y=plane.y[rows]) for plane in self.planes])

    def split(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(r, p) → x of γ = 0 (r, m, m), c (r, 1, 1), γ (r, 1, 1); zeros where not fitted."""
        m, zero = self.m, np.zeros((len(parameters), 1, 1))
        theta = parameters[:, :m]
        c = parameters[:, m, None, None] if self.has_tie else zero
        gamma = parameters[:, -1, None, None] if self.has_side else zero
        return theta[:, :, None] - theta[:, None, :], c, gamma


def tables(number: np.ndarray, ties: TieModel, *, side: bool) -> Tables:
    """Cells (r, 3, m, m) folded into planes."""
    left, right, tied = number[:, LEFT], number[:, RIGHT].swapaxes(1, 2), number[:, TIE]
    if ties.tie is None:
        left, right = left + tied / 2, right + tied.swapaxes(1, 2) / 2
    wins = [(1, left), (-1, right)] if side else [(0, left + right)]
    planes = [Plane(ties.win, ties.log_win, *plane) for plane in wins]
    if ties.tie is not None:
        planes.append(Plane(ties.tie, ties.log_tie, int(side), tied))
    return Tables(planes, ties.tie is not None, side)


def log_likelihood(votes: Tables, parameters: np.ndarray) -> np.ndarray:
    """(r,) Σ y ℓ."""
    x, c, gamma = votes.split(parameters)
    return reduce(add, (_total(y, log(x + side * gamma, c)) for _, log, side, y in votes.planes))


def slopes(votes: Tables, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (r, p) and −Hessian (r, p, p) of Σ y ℓ.

    A cell (i, j) sees θ through x = θ_i − θ_j alone, so with s = Σ y ℓ_x and v = −Σ y ℓ_xx over planes,
    g_i = Σ_j (s_ij − s_ji) and H = diag(Σ_j (v_ij + v_ji)) − v − vᵀ; c and γ border H.
    """
    m, (r, p) = votes.m, parameters.shape
    x, c, gamma = votes.split(parameters)
    parts = [(side, y, of(x + side * gamma if side else x, c)) for of, _, side, y in votes.planes]
    s = reduce(add, (y * slope.x for _, y, slope in parts))
    v = reduce(add, (y * slope.xx for _, y, slope in parts))
    v = v + v.swapaxes(1, 2)
    g, H = np.empty((r, p)), np.empty((r, p, p))
    g[:, :m] = _margins(s)
    H[:, :m, :m] = -v
    diagonal = np.arange(m)
    H[:, diagonal, diagonal] += _by_row(v)
    if votes.has_tie:
        g[:, m] = reduce(add, (_total(y, slope.c) for _, y, slope in parts))
        H[:, m, m] = reduce(add, (_total(y, slope.cc) for _, y, slope in parts))
        H[:, :m, m] = H[:, m, :m] = _margins(reduce(add, (y * slope.xc for _, y, slope in parts)))
    if votes.has_side:
        g[:, -1] = reduce(add, (side * _total(y, slope.x) for side, y, slope in parts))
        H[:, -1, -1] = reduce(add, (_total(y, slope.xx) for _, y, slope in parts))
        H[:, :m, -1] = H[:, -1, :m] = _margins(reduce(add, (side * y * slope.xx for side, y, slope in parts)))
    if votes.has_tie and votes.has_side:
        crossed = reduce(add, (side * _total(y, slope.xc) for side, y, slope in parts))
        H[:, m, -1] = H[:, -1, m] = crossed
    return g, H


def maximise(
    votes: Tables, start: np.ndarray, bound: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Maximise Σ y ℓ for each of r tables, from parameters `start` (r, p); `bound` is that of `TieModel`.

    Step length: along the Newton direction δ, |φ‴| ≤ d φ″, where d is the largest change of any x
    plus what the tie parameter adds. Minimising the bound this gives on φ yields
    t = ln(1 + d) / d, which always ascends (Sun and Tran-Dinh, Math. Program. 178, 2019). By the same
    bound the full step ascends while e^d − d − 1 < d², so for all d ≤ 1.

    Returns parameters (r, p) with θ of mean 0, the largest |g_i| / votes_i (r,), which tables arrived (r,)
    (with θ alone all do, as strong connection is all it takes), and −Hessian (r, p, p) there.
    """
    m, more = votes.m, start.shape[1] - votes.m
    found = np.array(start, dtype=float)
    number = reduce(add, (_by_row(y + y.swapaxes(1, 2)) for *_, y in votes.planes))
    active, arrived = np.arange(len(found)), np.zeros(len(found), dtype=bool)
    for _ in range(ITERATIONS):
        g, H = slopes(votes if len(active) == len(found) else votes.only(active), found[active])
        # H is singular along (1, …, 1), the direction that means nothing; a constant fills it in.
        H[:, :m, :m] += (np.trace(H[:, :m, :m], axis1=1, axis2=2) / (m * m))[:, None, None]
        if more:
            # Far out on a table without maximum H is singular for a computer; the answer is not moved.
            H[:, np.arange(m + more), np.arange(m + more)] += 1e-13 * number[active].sum(axis=1)[:, None]
        delta = np.linalg.solve(H, g[:, :, None])[:, :, 0]
        d = delta[:, :m].max(axis=1) - delta[:, :m].min(axis=1)
        longest: float | np.ndarray = 1
        if votes.has_side:
            d = d + np.abs(delta[:, -1])
        if votes.has_tie:
            by_tie, longest = bound(found[active, m], delta[:, m])
            d = d + by_tie
        step = np.minimum(np.where(d > 1, np.log1p(d) / np.maximum(d, 1), 1), longest)
        found[active] += delta * step[:, None]
        # Convergence is quadratic: after a step of 1e-6 the next would be near 1e-12.
        done = d <= 1e-6
        arrived[active[done]] = True
        away = np.abs(found[active]).max(axis=1) > 60 if more else False
        active = active[~(done | away)]
        if not len(active):
            break
    found[:, :m] -= found[:, :m].sum(axis=1, keepdims=True) / m
    g, H = slopes(votes, found)
    if more:
        number = np.column_stack([number, np.repeat(number.sum(axis=1)[:, None], more, axis=1)])
    else:
        arrived[:] = True
    return found, (np.abs(g) / number).max(axis=1), arrived, H


def _total(y: np.ndarray, of_cells: np.ndarray) -> np.ndarray:
    """(r, m, m) times (r, m, m) → (r,) sums."""
    return np.einsum("rij,rij->r", y, of_cells)


def _by_row(cells: np.ndarray) -> np.ndarray:
    """(r, m, m) → (r, m) sums of rows; these are short, and einsum takes a quarter of the time of `sum`."""
    return np.einsum("rij->ri", cells)


def _margins(cells: np.ndarray) -> np.ndarray:
    """(r, m, m) → (r, m): what a method has as a winner less what it has as a loser."""
    return _by_row(cells) - np.einsum("rij->rj", cells)
