"""What the metrics of a gallery come to: means by method and category, and paired differences to a reference.

Pictures of the same prompt are one observation (their mean), since it is prompts that are drawn at random.
Intervals are 95 % percentile bootstrap intervals over prompts (scipy.stats.bootstrap).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

ROUNDS = 2000
ALL = "all"
MEAN = ["mean", "low", "high"]
DIFFERENCE = ["difference", "difference_low", "difference_high"]
COLUMNS = ["category", "metric", "method", "n", *MEAN, *DIFFERENCE]


def summary(
    table: pd.DataFrame,
    methods: Sequence[str],
    categories: Mapping[str, str | None],
    reference: str | None,
) -> pd.DataFrame:
    """Mean of every metric, for all prompts and by category, and its difference to the reference's.

    `table` is that of `run.measure`; n counts the prompts of a mean.
    """
    prompts = table.groupby(["metric", "method", "prompt_id"], sort=False)["value"].mean().dropna()
    return pd.DataFrame(_rows(prompts, methods, categories, reference), columns=COLUMNS)


def _rows(
    prompts: pd.Series,
    methods: Sequence[str],
    categories: Mapping[str, str | None],
    reference: str | None,
) -> Iterator[dict[str, Any]]:
    kinds = dict.fromkeys(kind for kind in categories.values() if kind)
    for category in (ALL, *kinds):
        for metric, of_metric in prompts.groupby(level="metric", sort=False):
            wide = of_metric.droplevel("metric").unstack("method")
            if category != ALL:
                wide = wide[[categories.get(prompt) == category for prompt in wide.index]]
            for method in methods:
                if method not in wide or wide[method].isna().all():
                    continue
                values = wide[method].dropna().to_numpy()
                row = {"category": category, "metric": metric, "method": method, "n": len(values)}
                row |= dict(zip(MEAN, (values.mean(), *interval(values)), strict=True))
                if reference in wide and method != reference:
                    change = (wide[method] - wide[reference]).dropna().to_numpy()
                    if len(change):
                        row |= dict(zip(DIFFERENCE, (change.mean(), *interval(change)), strict=True))
                yield row


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the mean; NaN for a single value, the value itself where all are equal."""
    if len(values) < 2:
        return np.nan, np.nan
    if np.ptp(values) == 0 or not np.isfinite(values).all():
        return float(values.mean()), float(values.mean())
    found = bootstrap(
        (values,), np.mean, n_resamples=ROUNDS, batch=200, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)
