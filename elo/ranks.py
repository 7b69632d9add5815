"""Do values rank the methods as the ratings do? Kendall's and Spearman's correlations, with intervals.

Intervals are percentiles of a bootstrap that draws prompts: the votes on a prompt and its values together.
"""

import numpy as np

from elo.counts import Counts
from elo.intervals import draw_rounds, percentile_intervals
from elo.paired import Fit

FEWEST = 3  # methods of which a rank correlation says anything
WHY_NOT = f"it takes {FEWEST} methods with values on one prompt, and not all alike"


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(…, m), (…, m) → (…,) Kendall's τ_b (Biometrika 33, 1945); NaN where one of them is all ties."""
    up, along = (np.sign(v[..., :, None] - v[..., None, :]) for v in (x, y))
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (up * along).sum(axis=(-1, -2))
            / np.sqrt((up * up).sum(axis=(-1, -2)) * (along * along).sum(axis=(-1, -2)))
        )


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(…, m), (…, m) → (…,) Spearman's ρ, ties at their mean rank; NaN where one of them is all ties."""
    from scipy.stats import rankdata

    rank, other = (rankdata(v, axis=-1) - (v.shape[-1] + 1) / 2 for v in (x, y))
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (rank * other).sum(axis=-1) / np.sqrt((rank**2).sum(axis=-1) * (other**2).sum(axis=-1))
        )


CORRELATIONS = {"kendall": kendall, "spearman": spearman}


def ranked(value: np.ndarray) -> np.ndarray:
    """(k, m, g) values, NaN where unknown → (k, m): which methods have any."""
    return ~np.isnan(value).all(axis=2)


def rank_correlations(
    value: np.ndarray, counts: Counts, fitted: Fit, rounds: int, seed: int
) -> tuple[dict[str, np.ndarray], int]:
    """Correlate the ratings with the means of each of k kinds of values over prompts.

    value   (k, m, g) for the methods and prompts of the counts, NaN where unknown: a kind ranks the methods
            that have any, on the prompts where all of these do
    counts  by prompt
    rounds  of the bootstrap; without, there are no intervals

    Returns "kendall" and "spearman" → (3, k), each with the ends of its 95 % interval, NaN where it cannot be
    told; and how many rounds had no finite ratings.
    """
    found = {name: np.full((3, len(value)), np.nan) for name in CORRELATIONS}
    there = {k: methods for k, methods in enumerate(ranked(value)) if methods.sum() >= FEWEST}
    whole = {k: ~np.isnan(value[k, methods]).any(axis=0) for k, methods in there.items()}
    values = {k: value[k, there[k]][:, prompts] for k, prompts in whole.items() if prompts.any()}
    theta = fitted.log_strength.round(9)  # equal methods differ by rounding
    draws: dict[tuple[str, int], list[np.ndarray]] = {(name, k): [] for name in CORRELATIONS for k in values}
    lost = 0
    for weights, of_round in draw_rounds(counts, fitted, rounds, "prompt", seed):
        lost += int(np.isnan(of_round[:, 0]).sum())
        for k, known in values.items():
            weight = weights[:, whole[k]]
            means = weight @ known.T / np.maximum(weight.sum(axis=1, keepdims=True), 1)
            for name, correlation in CORRELATIONS.items():
                draws[name, k].append(correlation(of_round[:, there[k]], means))
    for (name, k), parts in draws.items():
        drawn = np.concatenate([[], *parts])
        low, high = percentile_intervals(drawn[~np.isnan(drawn), None])
        here = CORRELATIONS[name](theta[there[k]], values[k].mean(axis=1))
        found[name][:, k] = here, low[0], high[0]
    return found, lost
