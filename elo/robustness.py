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
from elo.paired import Fit, cell_scores, fit, fit_rounds, prior_cells
from elo.sandwich import bread


@dataclass(frozen=True)
class Flip:
    """Leaving out `votes` of all votes (`share` of them) puts `worse` level with or above `better`."""

    better: str
    worse: str
    votes: int
    share: float


def votes_to_flip(counts: Counts, fitted: Fit, better: str, worse: str) -> Flip | None:
    """A small number of votes whose removal turns "better rates higher than worse"; None if none was found.

    Raises ValueError where the claim does not hold to begin with.
    """
    i, j = counts.names.index(better), counts.names.index(worse)
    if fitted.log_strength[i] <= fitted.log_strength[j]:
        raise ValueError(f"{better} does not rate higher than {worse}")
    contrast = np.zeros(len(fitted.parameters))
    contrast[i], contrast[j] = 1, -1
    influence = (cell_scores(fitted) @ bread(fitted) @ contrast).ravel()
    order = np.argsort(-influence, kind="stable")
    order = order[influence[order] > 0]
    votes = counts.number.ravel()[order]
    reach = int(votes.sum())

    def left(k: int) -> float:
        """θ_better − θ_worse without the k most influential votes; NaN where that has no maximum."""
        taken = np.minimum(np.maximum(k - np.concatenate([[0], np.cumsum(votes)[:-1]]), 0), votes)
        number = counts.number.ravel().copy()
        number[order] -= taken
        rest = Counts(counts.names, number.reshape(counts.number.shape))
        try:
            theta = fit(rest, fitted.model, side=fitted.side is not None, prior=fitted.prior).log_strength
        except NoMaximum:
            return float("nan")
        return float(theta[i] - theta[j])

    # Double until it turns, then halve the interval: the difference falls with every vote taken.
    low, high = 0, 1
    while high < reach and left(high) > 0:
        low, high = high, min(2 * high, reach)
    if not left(high) <= 0:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) <= 0 else (middle, high)
    return Flip(better, worse, high, high / counts.total)


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
