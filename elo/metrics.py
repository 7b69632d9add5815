"""Automatic metrics: a number for each image, as a program measured it.

Two layouts are read, from CSV, JSONL or Parquet (each also .gz) or a table in memory: one row a number,
with the columns method, prompt_id, metric, value; or one row an image, with method, prompt_id and a column
of numbers for each metric. A column `replicate` may tell further seeds of a prompt apart; those are the
method `name#1`, `name#2`, …, as in votes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from elo.counts import codes_of
from elo.errors import MetricsError
from elo.rated import listed
from elo.reading import Reading, decimals, encode, numbers
from elo.sources import open_source
from elo.votes import Votes

KEYS = ("method", "prompt_id")
# Where lower is better; the first word of a metric's name counts (lpips-vgg, FID_to_fp16).
LOWER_IS_BETTER = {"lpips", "dists", "fid", "sfid", "kid", "mse", "rmse", "mae", "niqe", "brisque"}


@dataclass(frozen=True, eq=False)
class Metrics:
    """Values of k metrics for the images of some methods and prompts.

    names    of the metrics, in the order of the file
    methods, prompts   sorted
    value    (k, methods, prompts), NaN where the file has none
    lower     (k,) whether lower is better
    source   where they were read
    """

    names: tuple[str, ...]
    methods: tuple[str, ...]
    prompts: tuple[str, ...]
    value: np.ndarray
    lower: np.ndarray
    source: str


def read_metrics(source: Any, *, lower: Iterable[str] = ()) -> Metrics:
    """Read metrics from a file or a table in memory.

    lower  metrics for which lower is better, besides those known to be so (LOWER_IS_BETTER)

    Raises MetricsError or VotesError: one line with the place, what was found and what is expected.
    """
    opened = open_source(source)
    for key in KEYS:
        if key not in opened.columns:
            raise MetricsError(f"{opened.name}: no column {key!r}; it has {listed(opened.columns)}")
    long = {"metric", "value"} <= set(opened.columns)
    of_image = [name for name in (*KEYS, "replicate") if name in opened.columns]
    taken = [*of_image, "metric", "value"] if long else list(opened.columns)
    table = opened.read(taken)
    if not table.num_rows:
        raise MetricsError(f"{opened.name}: no rows in it")
    reading = Reading(opened, {name: name for name in taken}, table, False, np.ones(table.num_rows, bool))
    image = pd.DataFrame({key: _names(reading, key) for key in KEYS})
    if "replicate" in reading:
        again = numbers(reading, "replicate")
        image["method"] = np.where(again > 0, image["method"] + "#" + again.astype(str), image["method"])
    if long:
        rows = image.assign(metric=_names(reading, "metric"), value=decimals(reading, "value"))
    else:
        metrics = [name for name in taken if name not in of_image and _has_numbers(reading, name)]
        columns = [image.assign(metric=name, value=decimals(reading, name)) for name in metrics]
        rows = pd.concat(columns) if columns else image.assign(metric="", value=np.nan)
    return _arranged(reading, rows.dropna(subset="value"), set(lower))


def better(metrics: Metrics, votes: Votes) -> np.ndarray:
    """(k, m, prompts + 1) values for the methods and prompts of the votes, where higher is better.

    NaN where unknown, as for an unknown prompt (code −1, so the last one). Infinite values, as of the PSNR of
    an image with itself, are only very large, so that they have a mean.
    """
    places = []
    for names, ours in ((votes.names, metrics.methods), (votes.labels["prompt"], metrics.prompts)):
        at = {name: i for i, name in enumerate(ours)}
        places.append([at.get(name, len(ours)) for name in names])
    value = np.where(metrics.lower[:, None, None], -metrics.value, metrics.value)
    value = np.nan_to_num(value, nan=np.nan, posinf=1e300, neginf=-1e300)
    value = np.pad(value, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    return value[:, places[0]][:, :, [*places[1], len(metrics.prompts)]]


def values_of_votes(metrics: Metrics, votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """(k, n) values of the left and of the right image of each vote, as of `better`."""
    value, prompt = better(metrics, votes), codes_of(votes, "prompt")
    return value[:, votes.a, prompt], value[:, votes.b, prompt]


def _names(reading: Reading, name: str) -> np.ndarray:
    codes, texts = encode(reading.column(name))
    reading.refuse(codes < 0, name, f"the name of a {name.removesuffix('_id')}")
    return np.array(texts, dtype=object)[codes]


def _has_numbers(reading: Reading, name: str) -> bool:
    """Tell whether a column is a metric: text without any number (file names, flags) is none."""
    column = reading.column(name)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return True
    return bool(pd.to_numeric(pd.Series(encode(column)[1], dtype=object), errors="coerce").notna().any())


def _arranged(reading: Reading, rows: pd.DataFrame, lower: set[str]) -> Metrics:
    """Rows of method, prompt_id, metric and value as an array."""
    source = reading.source
    if rows.empty:
        raise MetricsError(
            f"{source.name}: no numbers in it; expected metric and value, or a column a metric"
        )
    twice = rows.duplicated(["method", "prompt_id", "metric"])
    if twice.any():
        at = int(twice.to_numpy().argmax())
        method, prompt, metric = rows.iloc[at][["method", "prompt_id", "metric"]]
        place = source.place(int(rows.index[at]))
        raise MetricsError(f"{place}: a second value of {metric!r} for method {method!r}, prompt {prompt!r}")
    metric, names = pd.factorize(rows["metric"])
    method, methods = pd.factorize(rows["method"], sort=True)
    prompt, prompts = pd.factorize(rows["prompt_id"], sort=True)
    if not lower <= set(names):
        raise MetricsError(f"{source.name}: no metric {min(lower - set(names))!r}; it has {listed(names)}")
    value = np.full((len(names), len(methods), len(prompts)), np.nan)
    value[metric, method, prompt] = rows["value"]
    known = [re.split(r"[^a-z0-9]", name.lower())[0] in LOWER_IS_BETTER for name in names]
    return Metrics(
        names=tuple(names),
        methods=tuple(methods),
        prompts=tuple(prompts),
        value=value,
        lower=np.array(known) | np.isin(names.astype(str), list(lower)),
        source=source.name,
    )
