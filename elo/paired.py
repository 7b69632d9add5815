"""Bradley–Terry by maximum likelihood from counts, one table or a thousand at once.

    P(i preferred to j) = σ(θ_i − θ_j),   σ(x) = 1 / (1 + e^−x)

(Bradley and Terry, Biometrika 39, 1952; Zermelo, Math. Z. 29, 1929). Ties count as half a win for
each side. Only differences of θ mean anything, so θ has mean 0 until it is put on the Elo scale,
where 400 points are odds of 10 : 1.

A finite maximum exists if and only if the methods cannot be split in two groups of which one never
won (or tied) against the other: the graph "i won or tied against j" must be strongly connected (Ford,
Amer. Math. Monthly 64, 1957). Where it is not, we name the groups instead of printing a number.
"""

import math
from dataclasses import dataclass

import numpy as np

from elo.counts import Counts

# At the maximum, expected and counted wins of each method agree to this share of its votes.
GRADIENT_TOLERANCE = 1e-9
ITERATIONS = 200
# Cells of a batch worked on at once: bounds memory at some tens of MB whatever the number of rounds.
BATCH_CELLS = 1_000_000


class NoMaximum(ValueError):  # noqa: N818 (an answer about the votes, not a mistake of the caller)
    """The votes have no finite maximum-likelihood answer; `reasons` says why, naming methods."""

    def __init__(self, reasons: list[str]) -> None:
        """Take the reasons, one sentence each."""
        super().__init__(" ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    """log_strength (m,) with mean 0, and the largest |expected − counted wins| / votes at the answer."""

    names: tuple[str, ...]
    log_strength: np.ndarray
    gradient: float


def fit_bradley_terry(counts: Counts) -> BradleyTerry:
    """Maximum-likelihood log-strengths of Bradley–Terry, ties as half wins.

    Raises NoMaximum, naming the methods, where no finite answer exists, and ArithmeticError should
    Newton's method not arrive (the gradient is checked, never assumed).
    """
    wins = half_wins(counts)
    reasons = why_no_maximum(counts.names, wins)
    if reasons:
        raise NoMaximum(reasons)
    theta, gradient = _newton(wins[None], np.zeros((1, len(counts.names))))
    return BradleyTerry(counts.names, theta[0], float(gradient[0]))


def fit_rounds(wins: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Fit many tables of counts at once, as a bootstrap needs.

    wins   (r, m, m): wins[t, i, j] = wins of i over j in round t, ties as halves
    start  (m,) where to begin, such as the fit to all votes

    Returns (r, m) log-strengths, mean 0 in each round; NaN in the rounds that have no finite maximum.
    """
    rounds, m, _ = wins.shape
    theta = np.full((rounds, m), np.nan)
    for first in range(0, rounds, max(1, BATCH_CELLS // (m * m))):
        batch = wins[first : first + max(1, BATCH_CELLS // (m * m))]
        solvable = np.flatnonzero(strongly_connected(batch))
        if len(solvable):
            begin = np.broadcast_to(start - start.mean(), (len(solvable), m))
            theta[first + solvable] = _newton(batch[solvable], begin)[0]
    return theta


def half_wins(counts: Counts) -> np.ndarray:
    """(m, m) wins of i over j with each tie as half a win for both."""
    return counts.wins + counts.ties / 2


def elo_scale(
    theta: np.ndarray,
    names: tuple[str, ...],
    *,
    base: float = 1000,
    scale: float = 400,
    anchor: dict[str, float] | None = None,
) -> np.ndarray:
    """Put log-strengths (…, m) on the Elo scale: scale / ln 10 · θ + constant.

    The constant makes the mean `base`, or, with an anchor such as {"FP16": 1000}, gives that method
    that rating (in every row of θ, so that bootstrap draws become differences to the anchor).
    """
    ratings = scale / math.log(10) * theta
    if anchor is None:
        return ratings - ratings.mean(axis=-1, keepdims=True) + base
    ((name, fixed),) = anchor.items()
    i = names.index(name)
    return ratings - ratings[..., i : i + 1] + fixed


def strongly_connected(wins: np.ndarray) -> np.ndarray:
    """(r, m, m) → (r,) bool: can every method be reached from the first, and the first from every one?"""
    forward = wins > 0
    from_first, to_first = _reached(forward), _reached(forward.transpose(0, 2, 1))
    return np.logical_and(from_first, to_first).all(axis=1)


def _reached(edges: np.ndarray) -> np.ndarray:
    """(r, m, m) edges i→j → (r, m) which methods a walk from method 0 reaches."""
    reached = np.zeros(edges.shape[:2], dtype=bool)
    reached[:, 0] = True
    while True:
        further = reached | (reached[:, :, None] & edges).any(axis=1)
        if (further == reached).all():
            return reached
        reached = further


def why_no_maximum(names: tuple[str, ...], wins: np.ndarray) -> list[str]:
    """Reasons, in plain words with names, why the counts have no finite maximum; empty if they have one."""
    m = len(names)
    reach = (wins > 0) | np.eye(m, dtype=bool)
    for middle in range(m):  # Warshall's transitive closure
        reach |= reach[:, middle, None] & reach[middle]
    if reach.all():
        return []
    met = (wins + wins.T > 0) | np.eye(m, dtype=bool)
    for middle in range(m):
        met |= met[:, middle, None] & met[middle]
    parts = _groups(met)
    if len(parts) > 1:
        listed = "; ".join(f"{{{_named(names, part)}}}" for part in parts)
        return [
            f"Never compared with one another, directly or through others: {listed}. No common scale exists."
        ]
    reasons = []
    for group in _groups(reach & reach.T):
        others = ~group
        who = _named(names, group)
        if not wins[np.ix_(others, group)].any():
            reasons.append(f"{who} never lost or tied against the others: no finite rating is high enough.")
        elif not wins[np.ix_(group, others)].any():
            reasons.append(f"{who} never won or tied against the others: no finite rating is low enough.")
    return reasons


def _groups(together: np.ndarray) -> list[np.ndarray]:
    """Classes of an equivalence relation (m, m), each as a bool mask, in the order of their first member."""
    return [together[i] for i in range(len(together)) if not together[i, :i].any()]


def _named(names: tuple[str, ...], group: np.ndarray) -> str:
    return ", ".join(name for name, inside in zip(names, group, strict=True) if inside)


def _newton(wins: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximise Σ w_ij ln σ(θ_i − θ_j) for each of r strongly connected tables (r, m, m).

    With n = w + wᵀ and p_ij = σ(θ_i − θ_j):  gradient g_i = Σ_j (w_ij − n_ij p_ij),
    −Hessian H = diag(Σ_j v_ij) − v,  v_ij = n_ij p_ij p_ji;  the Newton direction solves H δ = g.

    Step length: along δ, |φ‴| ≤ d φ″ with d = max |δ_i − δ_j| over compared pairs, as the logistic
    has |ℓ‴| ≤ ℓ″. Minimising the bound this gives on φ yields t = ln(1 + d) / d, which always
    descends and tends to the full step (Sun and Tran-Dinh, Math. Program. 178, 2019).

    Returns θ (r, m) with mean 0 and the largest |g_i| / votes_i (r,); raises ArithmeticError if that
    is above GRADIENT_TOLERANCE.
    """
    played = wins + wins.transpose(0, 2, 1)
    votes = played.sum(axis=2)
    won = wins.sum(axis=2)
    theta = np.array(start, dtype=float)
    active = np.arange(len(theta))
    m = theta.shape[1]
    diagonal = np.arange(m)
    for _ in range(ITERATIONS):
        n, gap = played[active], theta[active, :, None] - theta[active, None, :]
        p = 0.5 + 0.5 * np.tanh(gap / 2)
        g = won[active] - (n * p).sum(axis=2)
        v = n * p * (1 - p)
        H = -v
        # H is singular along (1, …, 1), the direction that means nothing; a constant fills it in.
        H[:, diagonal, diagonal] += v.sum(axis=2)
        H += (v.sum(axis=(1, 2)) / (m * m))[:, None, None]
        delta = np.linalg.solve(H, g[:, :, None])[:, :, 0]
        d = np.where(n > 0, np.abs(delta[:, :, None] - delta[:, None, :]), 0).max(axis=(1, 2))
        theta[active] += delta * np.where(d > 1e-8, np.log1p(d) / np.maximum(d, 1e-8), 1)[:, None]
        # Convergence is quadratic: after a step of 1e-8 the next would be below rounding.
        active = active[d > 1e-8]
        if not len(active):
            break
    theta -= theta.mean(axis=1, keepdims=True)
    expected = played * (0.5 + 0.5 * np.tanh((theta[:, :, None] - theta[:, None, :]) / 2))
    gradient = (np.abs(won - expected.sum(axis=2)) / votes).max(axis=1)
    if not (gradient <= GRADIENT_TOLERANCE).all():
        raise ArithmeticError(
            f"Bradley-Terry: Newton stopped short of the maximum (gradient {gradient.max():.1e})"
        )
    return theta, gradient
