"""Standard errors that count people, not clicks: the sandwich, by vote, judge, prompt, or both.

With H the information and u the gradient of one vote's log-likelihood, the variance of the fitted
parameters is H⁻¹ M H⁻¹ (Huber 1967; White, Econometrica 50, 1982). The meat M = Σ_g u_g u_gᵀ sums over
what is independent: votes, or the summed u of each judge or each prompt (Liang and Zeger, Biometrika 73,
1986). Where judges and prompts both differ, V = V_judge + V_prompt − V_vote (Cameron, Gelbach and
Miller, J. Bus. Econ. Statist. 29, 2011), with negative eigenvalues set to 0.

A sandwich by vote is also right where ties count as half wins, which the textbook H⁻¹ is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elo.counts import Clusters, Counts
from elo.paired import Fit, cell_moves


@dataclass(frozen=True, eq=False)
class Sandwich:
    """Covariance of a fit.

    covariance  (p, p) of `Fit.parameters`, θ with mean 0
    by_vote     (p, p) the same as if all votes were independent
    clusters    what was taken as independent → how many of them there are
    freedom     degrees of freedom of Student's t: the fewest clusters less one; inf for votes
    """

    names: tuple[str, ...]
    covariance: np.ndarray
    by_vote: np.ndarray
    clusters: dict[str, int]
    freedom: float

    @property
    def design_effect(self) -> float:
        """How many times larger the variance of a rating is, on average, than with independent votes."""
        m = len(self.names)
        return float(np.trace(self.covariance[:m, :m]) / np.trace(self.by_vote[:m, :m]))

    def differences(self) -> np.ndarray:
        """(m, m) standard errors of θ_i − θ_j."""
        m = len(self.names)
        V = self.covariance[:m, :m]
        variance = np.diag(V)[:, None] + np.diag(V)[None, :] - 2 * V
        return np.sqrt(np.maximum(variance, 0))


def sandwich(counts: Counts, fitted: Fit, groups: Sequence[str] = ()) -> Sandwich:
    """Covariance by the groups of `counts.by` that are named: none (votes), one, or both.

    The meat of g clusters is multiplied by g / (g − 1), as a sum of squares about a fitted mean is too
    small by that.
    """
    moves = cell_moves(fitted)
    number = counts.number.reshape(-1, 1)
    by_vote = moves.T @ (number * moves)
    parts = [_by_cluster(counts.by[group], moves) for group in groups]
    total = by_vote if not parts else sum(parts, np.zeros_like(by_vote)) - by_vote * (len(parts) - 1)
    if len(parts) > 1:
        values, vectors = np.linalg.eigh(total)
        total = (vectors * np.maximum(values, 0)) @ vectors.T
    clusters = {group: len(counts.by[group].labels) for group in groups} or {"vote": round(counts.total)}
    freedom = min(clusters.values()) - 1.0 if groups else float("inf")
    return Sandwich(fitted.names, total, by_vote, clusters, freedom)


def critical_value(freedom: float, level: float = 0.95) -> float:
    """Student's t (normal for inf) that leaves (1 − level) / 2 above it."""
    from scipy.special import ndtri, stdtrit

    upper = (1 + level) / 2
    return float(ndtri(upper) if np.isinf(freedom) else stdtrit(freedom, upper))


def two_sided_p(t: np.ndarray, freedom: float) -> np.ndarray:
    """P(|T| ≥ |t|) of Student's t (normal for inf)."""
    from scipy.special import ndtr, stdtr

    below = -np.abs(np.asarray(t, dtype=float))
    return np.asarray(2 * (ndtr(below) if np.isinf(freedom) else stdtr(freedom, below)))


def _by_cluster(clusters: Clusters, moves: np.ndarray) -> np.ndarray:
    g = len(clusters.labels)
    summed = clusters.table @ moves
    return np.asarray(summed.T @ summed) * (g / (g - 1))
