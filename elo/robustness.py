"""How much of the data a claim hangs on: votes that would flip it, judges that move it.

The influence of a vote on θ is, to first order, H⁻¹ u with u the gradient of its log-likelihood; leaving
out the votes with the largest influence on a claim finds a small set that turns it (Broderick, Giordano
and Meager, arXiv:2011.14999). That a set turns the claim is then checked by fitting without it, so what
is reported is a set that does flip the claim; a smaller one may exist.
"""

from dataclasses import dataclass

import numpy as np

from elo.counts import Counts
from elo.existence import NoMaximum
from elo.paired import Fit, cell_moves, fit, fit_rounds, prior_cells


@dataclass(frozen=True)
class Flip:
    """What it takes to turn "better rates higher than worse".

    votes      how many of the most influential votes must go; None: no number of them turns it
    share      of all votes
    predicted  how many it would take if the first order were exact; None if all do not suffice
    confirmed  a fit without them puts worse level with or above better; else, without them there is no
               finite rating at all, so that the claim is gone but not turned
    """

    better: str
    worse: str
    votes: int | None
    share: float | None
    predicted: int | None
    confirmed: bool


def votes_to_flip(counts: Counts, fitted: Fit, better: str, worse: str) -> Flip:
    """Find a small number of votes whose removal turns "better rates higher than worse".

    Raises ValueError where the claim does not hold to begin with.
    """
    i, j = counts.names.index(better), counts.names.index(worse)
    gap = fitted.log_strength[i] - fitted.log_strength[j]
    if gap <= 0:
        raise ValueError(f"{better} does not rate higher than {worse}")
    contrast = np.zeros(len(fitted.parameters))
    contrast[i], contrast[j] = 1, -1
    influence = cell_moves(fitted) @ contrast
    order = np.argsort(-influence, kind="stable")
    order = order[(influence[order] > 0) & (counts.number.ravel()[order] > 0)]
    votes, strength = counts.number.ravel()[order], influence[order]
    before = np.concatenate([[0], np.cumsum(votes)])
    moved = np.concatenate([[0], np.cumsum(votes * strength)])
    reach, predicted = int(before[-1]), None
    if moved[-1] >= gap:
        cell = int(np.searchsorted(moved, gap)) - 1
        predicted = int(before[cell] + np.ceil((gap - moved[cell]) / strength[cell] - 1e-9))

    def left(k: int) -> float:
        """θ_better − θ_worse without the k most influential votes; NaN where that has no maximum."""
        number = counts.number.ravel().copy()
        number[order] -= np.clip(k - before[:-1], 0, votes)
        rest = Counts(counts.names, number.reshape(counts.number.shape))
        try:
            theta = fit(rest, fitted.model, side=fitted.side is not None, prior=fitted.prior).log_strength
        except NoMaximum:
            return float("nan")
        return float(theta[i] - theta[j])

    # Double until it stands no more, then halve the interval: the difference falls with every vote taken.
    low, high = 0, min(1, reach)
    while high < reach and left(high) > 0:
        low, high = high, min(2 * high, reach)
    if not reach or left(high) > 0:
        return Flip(better, worse, None, None, predicted, False)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if left(middle) > 0 else (low, middle)
    return Flip(better, worse, high, high / counts.total, predicted, bool(left(high) <= 0))


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Fits without one judge (or prompt) at a time.

    labels        who was left out
    log_strength  (g, m) θ without them, NaN where that has no maximum
    largest       (m,) the largest change of each θ by any of them
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    log_strength: np.ndarray
    largest: np.ndarray


def leave_one_out(counts: Counts, fitted: Fit, group: str = "judge") -> LeaveOneOut:
    """Fit without each judge (or prompt) in turn."""
    clusters = counts.by[group]
    g, cells = clusters.table.shape
    theta = np.empty((g, len(counts.names)))
    prior = prior_cells(counts, fitted.prior)
    chunk = max(1, 10_000_000 // cells)
    for first in range(0, g, chunk):
        theirs = clusters.table[first : first + chunk].toarray().reshape(-1, *counts.number.shape)
        theta[first : first + chunk] = fit_rounds(counts.number + prior - theirs, fitted)
    change = np.abs(theta - fitted.log_strength)
    largest = np.where(np.isnan(change).all(axis=0), np.nan, np.nanmax(np.nan_to_num(change, nan=-1), axis=0))
    return LeaveOneOut(clusters.labels, counts.names, theta, largest)
