"""The search for Q-Sched's coefficients: Algorithm 1 as a grid search.

A candidate is four numbers, the start and the end of c_x and of c_ε; the steps between are evenly spaced.
Every combination of the grid's values is tried (3⁴ = 81), then, with `refine`, every combination around the
best one at half the grid's spacing (80 more, 161 in all). The candidate with the highest mean score wins; of
equal ones, the one nearest to the identity. The identity is always tried first, and can win.

The search knows no model. It is given two callables: `render(coefficients)` makes the images of the
calibration prompts, with the same noise for every candidate; `score(images)` returns one number a prompt, JAQ
(higher is better). With a `journal` each score is on disk as soon as it is known: an interrupted search goes
on from there.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from qsched.coefficients import Coefficients
from qsched.journal import Point, append_point, checked_scores, read_journal

Images = TypeVar("Images")


@dataclass(frozen=True)
class SearchResult:
    """The best point, the identity's, all points in the order of evaluation, the settings of the search."""

    best: Point
    identity: Point
    points: tuple[Point, ...]
    settings: dict[str, Any]


def search(
    render: Callable[[Coefficients], Images],
    score: Callable[[Images], ArrayLike],
    *,
    steps: int,
    grid: Sequence[float] = (0.95, 1.0, 1.05),
    refine: bool = True,
    settings: Mapping[str, Any] | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int, Point], None] | None = None,
) -> SearchResult:
    """Find the coefficients with the highest mean score.

    Nothing here is random: the noise is `render`'s affair. `settings` says, in JSON's types, what `render`
    and `score` depend on (model, prompts, seed, …); it is recorded, and a journal begun under other settings
    is refused. `progress(done, total, best)` is called after every point, those from the journal included.

    Raises:
        ValueError: a grid of fewer than two values, a journal of another search or with a damaged line, or
            scores that are not finite or not one a prompt.
    """
    grid = sorted(set(grid))
    if len(grid) < 2:
        raise ValueError(f"the grid needs two values or more, not {grid}")
    recorded = {"steps": steps, **(settings or {})}
    known = read_journal(journal, recorded) if journal else {}
    points: dict[Coefficients, Point] = {}

    def evaluate(candidates: list[Coefficients], total: int) -> None:
        for coefficients in candidates:
            point = known.get(coefficients)
            if point is None:
                expected = len(next(iter(points.values())).scores) if points else None
                point = Point(coefficients, checked_scores(score(render(coefficients)), expected))
                if journal:
                    append_point(journal, point)
            points[coefficients] = point
            if progress:
                progress(len(points), total, _best(points))

    identity = Coefficients.identity(steps)
    coarse = list(dict.fromkeys([identity, *_combinations([grid] * 4, steps)]))
    # The fine points are known only when the best coarse one is; until then their usual number counts.
    fine = 3 ** (4 if steps > 1 else 2) - 1 if refine else 0
    evaluate(coarse, len(coarse) + fine)
    if refine:
        half = min(b - a for a, b in itertools.pairwise(grid)) / 2
        centre = _best(points).coefficients
        ends = (centre.c_x[0], centre.c_x[-1], centre.c_eps[0], centre.c_eps[-1])
        # Rounded, so that 1.05 − 0.025 is the 1.025 that a reader of the file expects.
        around = [[round(end + move, 9) for move in (-half, 0.0, half)] for end in ends]
        new = [c for c in dict.fromkeys(_combinations(around, steps)) if c not in points]
        evaluate(new, len(points) + len(new))
    return SearchResult(
        best=_best(points),
        identity=points[identity],
        points=tuple(points.values()),
        settings={"grid": grid, "refine": refine, "evaluations": len(points), **recorded},
    )


def _combinations(ends: Sequence[Sequence[float]], steps: int) -> Iterator[Coefficients]:
    """Yield the coefficients of every combination of x_start, x_end, eps_start and eps_end."""
    for x_start, x_end, eps_start, eps_end in itertools.product(*ends):
        yield Coefficients.from_ends(x_start, x_end, eps_start, eps_end, steps)


def _best(points: Mapping[Coefficients, Point]) -> Point:
    """Return the point of the highest mean; of equal ones the nearest to the identity, then the first."""

    def distance(c: Coefficients) -> float:
        return math.fsum(abs(value - 1) for value in c.c_x + c.c_eps)

    return max(points.values(), key=lambda point: (point.mean, -distance(point.coefficients)))
