"""Methods two by two: win rates with Wilson intervals, tests of each difference, and the ranks they allow."""

from dataclasses import dataclass

import numpy as np

from elo.counts import Counts
from elo.paired import Fit
from elo.sandwich import Sandwich, critical_value, two_sided_p


@dataclass(frozen=True, eq=False)
class PairTests:
    """All pairs i, j, as (m, m) matrices, row against column.

    votes       votes on the pair
    win_rate    share won by the row, a tie is half; NaN where they never met
    win_low, win_high   Wilson's 95 % interval of it, as if votes were independent
    difference  θ_i − θ_j
    error       its standard error
    p, p_holm   two-sided p of "no difference", alone and corrected for all pairs
    """

    names: tuple[str, ...]
    votes: np.ndarray
    win_rate: np.ndarray
    win_low: np.ndarray
    win_high: np.ndarray
    difference: np.ndarray
    error: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray

    def rank_ranges(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Best and worst rank (m,) that the corrected tests leave open.

        One more than the number of methods that are better for sure, and m less those that are worse:
        at `level`, all ranges hold at once, as Holm's tests err in any of their claims with 1 − level.
        """
        sure = self.p_holm <= 1 - level
        better = (sure & (self.difference < 0)).sum(axis=1)
        worse = (sure & (self.difference > 0)).sum(axis=1)
        return 1 + better, len(self.names) - worse

    def reordered(self, order: np.ndarray) -> "PairTests":
        """The same tests with the methods in another order (m,)."""
        matrices = {
            name: value[np.ix_(order, order)] for name, value in vars(self).items() if name != "names"
        }
        return PairTests(tuple(self.names[i] for i in order), **matrices)


def compare_pairs(counts: Counts, fitted: Fit, errors: Sandwich) -> PairTests:
    """Test every difference of two log-strengths (Wald), corrected by Holm over the m (m − 1) / 2 pairs."""
    difference = fitted.log_strength[:, None] - fitted.log_strength[None, :]
    error = errors.differences()
    p, corrected = tested(difference, error, errors.freedom)
    wins, ties = counts.wins, counts.ties
    votes = wins + wins.T + ties
    with np.errstate(invalid="ignore"):
        rate = (wins + ties / 2) / votes
    low, high = wilson(rate, votes)
    return PairTests(fitted.names, votes, rate, low, high, difference, error, p, corrected)


def tested(difference: np.ndarray, error: np.ndarray, freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """(m, m) differences and their standard errors → two-sided p, alone and by Holm for all pairs."""
    upper = np.triu_indices(len(difference), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, difference / error, np.where(difference == 0, 0, np.inf))
    p = two_sided_p(t, freedom)
    corrected = np.ones_like(p)
    corrected[upper] = holm(p[upper])
    corrected.T[upper] = corrected[upper]
    return p, corrected


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (k,) corrected for k tests so that the chance of any false claim is kept.

    The i-th smallest is multiplied by k − i + 1, and none may fall below a smaller one's (Holm, Scand. J.
    Statist. 6, 1979).
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1)


def wilson(share: np.ndarray, n: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a share of n (J. Amer. Statist. Assoc. 22, 1927); NaN for n = 0."""
    z = critical_value(float("inf"), level)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        # at 0 and 1 the outer end is exact
        return np.maximum(centre - half, 0), np.minimum(centre + half, 1)
