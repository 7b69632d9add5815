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

SIZE = "size_bytes"


@dataclass(frozen=True, eq=False)
class ParetoFront:
    """Methods with their cost (any unit, less is better) and rating (more is better).

    on_front      (m,) bool
    dominated_by  per method, the names of those that cost no more and rate no lower, one of it strictly
    probability   (m,) share of the bootstrap rounds in which the method is on the front, None without draws
    dominates     (m, m) share of the rounds in which i dominates j, None without draws
    hypervolume   area under the front, from the lowest rating up to each rating and from each cost to the
                  dearest, in points × factors of ten of cost: what the cheap methods gain together
    hypervolume_interval  its central 95 % over the rounds, against the same corner; None without draws
    """

    names: tuple[str, ...]
    cost: np.ndarray
    rating: np.ndarray
    on_front: np.ndarray
    dominated_by: tuple[tuple[str, ...], ...]
    probability: np.ndarray | None
    dominates: np.ndarray | None
    hypervolume: float
    hypervolume_interval: tuple[float, float] | None


def pareto_front(
    names: Iterable[str], cost: np.ndarray, rating: np.ndarray, draws: np.ndarray | None = None
) -> ParetoFront:
    """Find the Pareto front of m methods.

    cost, rating  (m,), finite; cost above 0
    draws         (r, m) bootstrap draws of the ratings; the costs are known without error
    """
    names = tuple(names)
    cost, rating = np.asarray(cost, dtype=float), np.asarray(rating, dtype=float)
    dominated = _dominates(cost, rating[None])[0]
    drawn = None if draws is None or not len(draws) else _dominates(cost, draws)
    area = _hypervolumes(cost, rating[None], rating.min(initial=math.inf))[0]
    interval = None
    if draws is not None and drawn is not None:
        areas = _hypervolumes(cost, draws, rating.min())
        interval = (float(np.quantile(areas, 0.025)), float(np.quantile(areas, 0.975)))
    return ParetoFront(
        names=names,
        cost=cost,
        rating=rating,
        on_front=~dominated.any(axis=0),
        dominated_by=tuple(tuple(names[i] for i in np.flatnonzero(column)) for column in dominated.T),
        probability=None if drawn is None else (~drawn.any(axis=1)).mean(axis=0),
        dominates=None if drawn is None else drawn.mean(axis=0),
        hypervolume=float(area),
        hypervolume_interval=interval,
    )


def _hypervolumes(cost: np.ndarray, ratings: np.ndarray, floor: float) -> np.ndarray:
    """(m,), (r, m) → (r,): ∫ max(best rating at this cost or below − floor, 0) d log₁₀ cost."""
    order = np.argsort(cost, kind="stable")
    best = np.maximum.accumulate(ratings[:, order] - floor, axis=1)
    return np.maximum(best[:, :-1], 0) @ np.diff(np.log10(cost[order]))


def _dominates(cost: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """(m,), (r, m) → (r, m, m) bool: does i dominate j in round t?"""
    no_dearer = cost[:, None] <= cost[None, :]
    cheaper = cost[:, None] < cost[None, :]
    no_worse = ratings[:, :, None] >= ratings[:, None, :]
    better = ratings[:, :, None] > ratings[:, None, :]
    return no_dearer & no_worse & (cheaper | better)


def read_sizes(path: str | Path) -> dict[str, int]:
    """Read method → bytes: `read_costs` of the column size_bytes, which are whole numbers."""
    return {method: int(size) for method, size in read_costs(path, SIZE).items()}


def read_costs(path: str | Path, column: str = SIZE) -> dict[str, float]:
    """Read method → cost, in the unit of the column: size_bytes, latency_ms, energy_j, …

    From JSON with `methods[].{id, <column>}` (a gallery.json is one) or CSV `method,<column>`. A method
    may lack another cost than its size. Raises SizesError: one line naming the file, the entry and what
    is expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SizesError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SizesError(f"{path}: not UTF-8 text") from error
    if path.suffix.lower() == ".json":
        entries = _json_entries(path, text, column)
    elif path.suffix.lower() == ".csv":
        entries = _csv_entries(path, text, column)
    else:
        raise SizesError(
            f"{path}: expected a .json (methods with id and {column}) or .csv (method,{column}) file"
        )
    costs: dict[str, float] = {}
    for place, method, cost in entries:
        if not isinstance(method, str) or not method.strip():
            raise SizesError(f"{place}: found {method!r}, expected the name of a method")
        if method.strip() in costs:
            raise SizesError(f"{place}: method {method!r} appears twice")
        if column == SIZE or cost not in (None, ""):
            costs[method.strip()] = _cost(place, method, cost, column)
    if not costs:
        raise SizesError(f"{path}: no methods in it" + (f" with {column}" if entries else ""))
    return costs


def cost_label(column: str) -> str:
    """What an axis of this cost is called.

    >>> cost_label("latency_ms"), cost_label("steps")
    ('latency (ms)', 'steps')
    """
    if column == SIZE:
        return "size of the stored backbone, log scale (1 GB = 1000 MB)"
    name, _, unit = column.rpartition("_")
    units = {"ms": "ms", "s": "s", "j": "J", "kj": "kJ", "wh": "Wh", "kwh": "kWh", "w": "W", "usd": "USD"}
    return f"{name.replace('_', ' ')} ({units[unit]})" if name and unit in units else column.replace("_", " ")


def size_label(value: float) -> str:
    """Bytes in the decimal unit that suits them: 2 MB, 550 MB, 1.5 GB.

    >>> size_label(2e6), size_label(1.5e9)
    ('2 MB', '1.5 GB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit * (1 - 1e-9):
            return f"{value / unit:.4g} {name}"
    return f"{value:.0f} B"


def _json_entries(path: Path, text: str, column: str) -> list[tuple[str, Any, Any]]:
    try:
        methods = json.loads(text)
    except json.JSONDecodeError as error:
        raise SizesError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    methods = methods.get("methods") if isinstance(methods, Mapping) else None
    if not isinstance(methods, list):
        raise SizesError(f"{path}: expected an object with a list 'methods' of {{id, {column}}}")
    entries = []
    for number, method in enumerate(methods):
        if not isinstance(method, Mapping):
            raise SizesError(f"{path}, methods[{number}]: expected an object with id and {column}")
        entries.append((f"{path}, methods[{number}]", method.get("id"), method.get(column)))
    return entries


def _csv_entries(path: Path, text: str, column: str) -> list[tuple[str, Any, Any]]:
    reader = csv.DictReader(text.splitlines())
    missing = {"method", column} - set(reader.fieldnames or ())
    if missing:
        raise SizesError(
            f"{path}: no column {' and no column '.join(sorted(missing))}; expected method,{column}"
        )
    return [(f"{path}, line {reader.line_num}", row["method"], row[column]) for row in reader]


def _cost(place: str, method: str, cost: Any, column: str) -> float:
    try:
        number = float(cost) if not isinstance(cost, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    whole = column != SIZE or (number.is_integer() and number >= 1)
    if not (math.isfinite(number) and number > 0 and whole):
        kind = "a whole number of bytes above 0" if column == SIZE else "a number above 0"
        raise SizesError(f"{place}: {column} of {method!r} is {cost!r}, expected {kind}")
    return number
