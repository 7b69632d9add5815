"""Rating against cost: which methods nothing else beats on both counts, and how sure that is."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elo.errors import SizesError


@dataclass(frozen=True, eq=False)
class ParetoFront:
    """Methods with their cost (any unit, less is better) and rating (more is better).

    on_front      (m,) bool
    dominated_by  per method, the names of those that cost no more and rate no lower, one of it strictly
    probability   (m,) share of the bootstrap rounds in which the method is on the front, None without draws
    """

    names: tuple[str, ...]
    cost: np.ndarray
    rating: np.ndarray
    on_front: np.ndarray
    dominated_by: tuple[tuple[str, ...], ...]
    probability: np.ndarray | None


def pareto_front(
    names: Iterable[str], cost: np.ndarray, rating: np.ndarray, draws: np.ndarray | None = None
) -> ParetoFront:
    """Find the Pareto front of m methods.

    cost, rating  (m,), finite
    draws         (r, m) bootstrap draws of the ratings; the costs are known without error
    """
    names = tuple(names)
    cost, rating = np.asarray(cost, dtype=float), np.asarray(rating, dtype=float)
    dominated = _dominates(cost, rating[None])[0]
    return ParetoFront(
        names=names,
        cost=cost,
        rating=rating,
        on_front=~dominated.any(axis=0),
        dominated_by=tuple(tuple(names[i] for i in np.flatnonzero(column)) for column in dominated.T),
        probability=None
        if draws is None or not len(draws)
        else (~_dominates(cost, draws).any(axis=1)).mean(axis=0),
    )


def _dominates(cost: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """(m,), (r, m) → (r, m, m) bool: does i dominate j in round t?"""
    no_dearer = cost[:, None] <= cost[None, :]
    cheaper = cost[:, None] < cost[None, :]
    no_worse = ratings[:, :, None] >= ratings[:, None, :]
    better = ratings[:, :, None] > ratings[:, None, :]
    return no_dearer & no_worse & (cheaper | better)


def read_sizes(path: str | Path) -> dict[str, int]:
    """Read method → bytes.

    From JSON with `methods[].{id, size_bytes}` (a gallery.json is one) or CSV `method,size_bytes`.
    Raises SizesError: one line naming the file, the entry and what is expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SizesError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SizesError(f"{path}: not UTF-8 text") from error
    if path.suffix.lower() == ".json":
        entries = _json_entries(path, text)
    elif path.suffix.lower() == ".csv":
        entries = _csv_entries(path, text)
    else:
        raise SizesError(
            f"{path}: expected a .json (methods with id and size_bytes) or .csv (method,size_bytes) file"
        )
    sizes: dict[str, int] = {}
    for place, method, size in entries:
        if not isinstance(method, str) or not method.strip():
            raise SizesError(f"{place}: found {method!r}, expected the name of a method")
        if method.strip() in sizes:
            raise SizesError(f"{place}: method {method!r} appears twice")
        sizes[method.strip()] = _bytes(place, method, size)
    if not sizes:
        raise SizesError(f"{path}: no methods in it")
    return sizes


def size_label(value: float) -> str:
    """Bytes in the decimal unit that suits them: 2 MB, 550 MB, 1.5 GB.

    >>> size_label(2e6), size_label(1.5e9)
    ('2 MB', '1.5 GB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit * (1 - 1e-9):
            return f"{value / unit:.4g} {name}"
    return f"{value:.0f} B"


def _json_entries(path: Path, text: str) -> list[tuple[str, Any, Any]]:
    try:
        methods = json.loads(text)
    except json.JSONDecodeError as error:
        raise SizesError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    methods = methods.get("methods") if isinstance(methods, Mapping) else None
    if not isinstance(methods, list):
        raise SizesError(f"{path}: expected an object with a list 'methods' of {{id, size_bytes}}")
    entries = []
    for number, method in enumerate(methods):
        if not isinstance(method, Mapping):
            raise SizesError(f"{path}, methods[{number}]: expected an object with id and size_bytes")
        entries.append((f"{path}, methods[{number}]", method.get("id"), method.get("size_bytes")))
    return entries


def _csv_entries(path: Path, text: str) -> list[tuple[str, Any, Any]]:
    reader = csv.DictReader(text.splitlines())
    missing = {"method", "size_bytes"} - set(reader.fieldnames or ())
    if missing:
        raise SizesError(
            f"{path}: no column {' and no column '.join(sorted(missing))}; expected method,size_bytes"
        )
    return [(f"{path}, line {reader.line_num}", row["method"], row["size_bytes"]) for row in reader]


def _bytes(place: str, method: str, size: Any) -> int:
    try:
        number = float(size) if not isinstance(size, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 1 and number.is_integer()):
        raise SizesError(
            f"{place}: size_bytes of {method!r} is {size!r}, expected a whole number of bytes above 0"
        )
    return int(number)
