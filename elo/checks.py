"""Does one number per method suffice, does the side matter, and do ranks depend on how ties are read?

Both tests are of decided votes: under Davidson's model these follow Bradley–Terry exactly, whatever the
ties (the likelihood conditional on "no tie"). A likelihood ratio takes votes as independent; where
judges repeat themselves it grows by about the design effect, so it is divided by that (Rao and Scott,
Ann. Statist. 12, 1984, first order).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from elo.counts import TIE, Counts
from elo.existence import NoMaximum
from elo.paired import Fit, fit
from elo.ties import TIE_MODELS


@dataclass(frozen=True)
class LikelihoodRatio:
    """statistic is twice the gain in log-likelihood, already divided by `design_effect`; p by χ²(df)."""

    statistic: float
    df: int
    p: float
    design_effect: float


def decided(counts: Counts) -> Counts:
    """The votes that are no ties."""
    number = counts.number.copy()
    number[TIE] = 0
    return Counts(counts.names, number)


def transitivity(counts: Counts, design_effect: float = 1) -> LikelihoodRatio | None:
    """Bradley–Terry against a free win rate for every pair; None where there is nothing to test.

    df = pairs that met − (m − 1). Small p: some methods beat others in a way no single scale tells.
    Raises NoMaximum where the decided votes have no fit.
    """
    votes = decided(counts)
    wins = votes.wins
    n = wins + wins.T
    df = int((np.triu(n) > 0).sum()) - (len(counts.names) - 1)
    if df < 1:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        free = np.where(wins > 0, wins * np.log(wins / n), 0).sum()
    return _ratio(2 * (free - fit(votes).log_likelihood), df, design_effect)


def side_effect(counts: Counts, design_effect: float = 1) -> LikelihoodRatio:
    """Bradley–Terry with against without a side effect, df = 1; raises NoMaximum where one has no fit."""
    votes = decided(counts)
    gain = fit(votes, side=True).log_likelihood - fit(votes).log_likelihood
    return _ratio(2 * gain, 1, design_effect)


def rank_by_tie_model(counts: Counts, fitted: Fit) -> dict[str, dict[str, int] | None]:
    """Model → method → rank, for each tie model; None where a model has no finite maximum."""
    ranks: dict[str, dict[str, int] | None] = {}
    for model in TIE_MODELS:
        try:
            theta = fit(counts, model, side=fitted.side is not None, prior=fitted.prior).log_strength
        except NoMaximum:
            ranks[model] = None
            continue
        rank = 1 + (theta[None, :] > theta[:, None] + 1e-9).sum(axis=1)
        ranks[model] = dict(zip(counts.names, rank.tolist(), strict=True))
    return ranks


def check(counts: Counts, fitted: Fit, design_effect: float) -> dict[str, Any]:
    """All three, ready for JSON; None where it cannot be told."""
    results: dict[str, Any] = {"transitivity": None, "side_effect": None, "rank_by_tie_model": None}
    deflate = max(1.0, design_effect)
    for name, test in (("transitivity", transitivity), ("side_effect", side_effect)):
        try:
            ratio = test(counts, deflate)
        except NoMaximum:
            continue
        results[name] = asdict(ratio) if ratio else None
    if counts.number[TIE].any():
        results["rank_by_tie_model"] = rank_by_tie_model(counts, fitted)
    return results


def _ratio(statistic: float, df: int, design_effect: float) -> LikelihoodRatio:
    from scipy.special import gammaincc

    scaled = max(0.0, float(statistic)) / design_effect
    return LikelihoodRatio(scaled, df, float(gammaincc(df / 2, scaled / 2)), design_effect)
