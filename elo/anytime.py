"""Compare two methods as often as you like: evidence that stays valid under peeking.

Each judge is one bet. With X_j in [0, 1] the share of a judge's votes on the pair that the first method
won (a tie is half) and the hypothesis E X_j = μ whatever came before, the capital

    K_t(μ) = ½ Π (1 + λ_j (X_j − μ)) + ½ Π (1 − λ_j (X_j − μ)),   K_0 = 1,

is a fair game as long as each stake λ_j is set before X_j is seen. It exceeds 1/α at any time whatever
with probability α at most (Ville 1939). So K_t(½) is an e-value against "no difference", and the μ whose
capital never reached 1/α form a confidence sequence (Waudby-Smith and Ramdas, J. R. Statist. Soc. B 86,
2024, whose plug-in stakes are used).

A judge's bet is settled when their votes on the pair are all in: at a look while judges are at work,
leave out those who have not finished.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elo.counts import LEFT, RIGHT, codes_of, own_cluster_if_unknown
from elo.errors import SettingsError
from elo.votes import Votes

CUT = 0.5  # share of what could be lost at most that is ever staked
GRID = 1001


@dataclass(frozen=True, eq=False)
class Anytime:
    """Evidence about two methods after each judge.

    scores     (t,) X_j in the order in which judges finished
    e_values   (t,) evidence against "no difference" after each judge
    p          1 / the largest e-value so far, at most 1: an anytime-valid p-value
    low, high  (t,) 1 − alpha confidence sequence of the mean of X_j, so far; NaN once no mean is left
    votes      how many votes the judges gave on the pair
    """

    first: str
    second: str
    scores: np.ndarray
    e_values: np.ndarray
    p: float
    low: np.ndarray
    high: np.ndarray
    alpha: float
    votes: int | None = None

    @property
    def may_stop(self) -> bool:
        """Whether the evidence has ever passed 1 / alpha, which chance alone does with alpha at most."""
        return self.p <= self.alpha

    def record(self) -> dict[str, Any]:
        """Everything, ready for JSON; the last entries of the lists are where it stands now."""
        steps = [
            {"score": float(score), "e_value": float(e_value), "low": _known(low), "high": _known(high)}
            for score, e_value, low, high in zip(self.scores, self.e_values, self.low, self.high, strict=True)
        ]
        return {
            "first": self.first,
            "second": self.second,
            "judges": len(self.scores),
            "votes": self.votes,
            "mean": float(self.scores.mean()),
            **{name: steps[-1][name] for name in ("e_value", "low", "high")},
            "largest_e_value": float(self.e_values.max()),
            "p": self.p,
            "alpha": self.alpha,
            "may_stop": self.may_stop,
            "steps": steps,
        }

    def sentences(self) -> list[str]:
        """Where it stands, and whether one may stop."""
        t, best = len(self.scores), int(self.e_values.argmax())
        now, largest, edge = self.e_values[-1], self.e_values[best], 1 / self.alpha
        low, high = self.low[-1], self.high[-1]
        shares = f"{100 * low:.1f} – {100 * high:.1f} %" if low <= high else "no share is left"
        said = [
            (
                f"{self.first} against {self.second}: {t} judge{'s' * (t != 1)}, {self.votes} votes; in the "
                f"mean they prefer {self.first} in {100 * self.scores.mean():.1f} % (a tie is half)."
            ),
            f"Confidence sequence, {100 * (1 - self.alpha):g} % at all looks together: {shares}.",
            (
                f"Evidence against no difference: e = {now:.3g}, at most {largest:.3g} (after judge "
                f"{best + 1}); p = {self.p:.2g} whenever you look."
            ),
        ]
        if not self.may_stop:
            said.append(f"No claim yet: it takes e = {edge:g}. Go on and look as often as you like.")
        else:
            ahead = self.second if high < 0.5 else self.first if low > 0.5 else "one of them"
            said.append(f"You may stop: {ahead} is preferred, the evidence has passed {edge:g} (1 / alpha).")
        return said


def compare_anytime(votes: Votes, first: str, second: str, *, alpha: float = 0.05) -> Anytime:
    """Test whether judges prefer `first` to `second`, valid at every look.

    Raises SettingsError where the votes do not say who voted, or nobody compared the two.
    """
    if not 0 < alpha < 1:
        raise SettingsError(f"alpha {alpha!r}: expected a share between 0 and 1")
    for name in (first, second):
        if name not in votes.names:
            raise SettingsError(f"method {name!r}: no votes on it; there are {', '.join(votes.names)}")
    judge = own_cluster_if_unknown(codes_of(votes, "judge"), len(votes.labels["judge"]))
    i, j = votes.names.index(first), votes.names.index(second)
    rows = np.flatnonzero(((votes.a == i) & (votes.b == j)) | ((votes.a == j) & (votes.b == i)))
    if not len(rows):
        raise SettingsError(f"nobody compared {first} with {second}")
    left = np.where(votes.winner == LEFT, 1.0, np.where(votes.winner == RIGHT, 0.0, 0.5))[rows]
    score = np.where(votes.a[rows] == i, left, 1 - left)
    who, codes = np.unique(judge[rows], return_inverse=True)
    last = np.zeros(len(who), dtype=int)
    np.maximum.at(last, codes, np.arange(len(rows)))
    mean = np.bincount(codes, weights=score) / np.bincount(codes)
    found = bet(mean[np.argsort(last)], first=first, second=second, alpha=alpha)
    return replace(found, votes=len(rows))


def bet(scores: np.ndarray, *, first: str = "a", second: str = "b", alpha: float = 0.05) -> Anytime:
    """Bet on scores (t,) in [0, 1], one after the other."""
    x = np.asarray(scores, dtype=float)
    stakes = _stakes(x, alpha)
    # the grid holds ½ at its middle, which is the hypothesis of no difference
    mu = np.linspace(0, 1, GRID)
    up, down, inside = np.zeros(GRID), np.zeros(GRID), np.ones(GRID, dtype=bool)
    e_values, low, high = np.empty(len(x)), np.empty(len(x)), np.empty(len(x))
    with np.errstate(divide="ignore"):
        for t, (score, stake) in enumerate(zip(x, stakes, strict=True)):
            # Stakes that can lose no more than CUT of the capital, whatever X is.
            up += np.log1p(np.minimum(stake, CUT / mu) * (score - mu))
            down += np.log1p(-np.minimum(stake, CUT / (1 - mu)) * (score - mu))
            capital = np.logaddexp(up, down) - math.log(2)
            inside &= capital < -math.log(alpha)
            e_values[t] = math.exp(min(capital[GRID // 2], 700))
            there = mu[inside]
            low[t], high[t] = (there[0], there[-1]) if len(there) else (np.nan, np.nan)
    p = min(1.0, 1 / float(e_values.max())) if len(x) else 1.0
    return Anytime(first, second, x, e_values, p, low, high, alpha)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _stakes(x: np.ndarray, alpha: float) -> np.ndarray:
    """λ_t = √(2 ln(2/α) / (s²_{t−1} t ln(1 + t))) with the variance of what came before t."""
    t = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]]) if len(x) else variance
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (before * t * np.log1p(t))))
