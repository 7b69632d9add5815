"""A search that spends its images where they decide: races in shrinking boxes.

Algorithm 1 draws every calibration prompt for every candidate of a grid. Here a candidate that is behind
after a few prompts is dropped. A race begins with Sobol points of a box, the first one's around the identity
or a better starting point; all are drawn on the first prompts, the best third goes on with twice as many
prompts, and so on until all prompts are drawn (successive halving, Jamieson & Talwalkar 2016, with a third
kept). All candidates see the same prompts and noise, so that differences are paired. The next race's box
stands around the winner, half as wide but in those directions in which the winner stood near the edge; the
top of a quadratic surface through the gains known so far runs beside it. The identity and the starting
points are drawn on all prompts, so that the result is never worse than they are, on the calibration prompts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import qmc

from qsched.coefficients import Coefficients
from qsched.journal import Point, append_point, checked_scores, read_journal
from qsched.parametrisations import Parametrisation
from qsched.search import SearchResult
from qsched.surface import fitted

Images = TypeVar("Images")
KEPT = 3  # one of so many goes on
EDGE = 0.75  # of a box's half width: beyond it the best place may be outside


def race(
    render: Callable[[Coefficients, range], Images],
    score: Callable[[Images, range], ArrayLike],
    parametrisation: Parametrisation,
    *,
    prompts: int,
    spread: Sequence[float] | float,
    starts: Sequence[Sequence[float]] = (),
    candidates: int = 32,
    races: int = 4,
    first: int = 8,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    journal: Path | None = None,
    progress: Callable[[int, Point], None] | None = None,
) -> SearchResult:
    """Find the numbers of `parametrisation` with the highest mean score over `prompts` prompts.

    `render(coefficients, prompts)` draws a range of the prompts, `score(images, prompts)` gives one number
    for each. `starts` are points to begin with beside the identity, such as PTQD's. The first box is the
    best of them ± `spread` in every direction (one number, or one a direction), and has `candidates` Sobol
    points; the later ones have half as many. `first` prompts are drawn for all. `progress(images, best)` is
    called after every drawing, with the number of images so far and the best point among those with the most
    prompts.

    The result's points are the candidates with what was drawn of them; `settings["images"]` counts the
    images.

    Raises:
        ValueError: settings that do not fit, a journal of another search, or scores that are not finite.
    """
    if not (1 <= first <= prompts and races >= 1 and candidates >= 2):
        raise ValueError(
            f"need 1 ≤ first ≤ prompts, a race and two candidates: {first}, {prompts}, {races}, {candidates}"
        )
    width = np.broadcast_to(np.asarray(spread, dtype=float), parametrisation.size)
    if not (np.isfinite(width).all() and (width > 0).all()):
        raise ValueError(f"spread must be positive: {spread}")
    recorded = {
        "parametrisation": parametrisation.name,
        "prompts": prompts,
        "spread": width.tolist(),
        "starts": [list(start) for start in starts],
        "candidates": candidates,
        "races": races,
        "first": first,
        "seed": seed,
        **(settings or {}),
    }
    known = read_journal(journal, recorded) if journal else {}
    points: dict[Coefficients, Point] = {}

    def extend(coefficients: Coefficients, count: int) -> Point:
        """Draw what is missing of the first `count` prompts."""
        point = points.get(coefficients, Point(coefficients, ()))
        have = len(point.scores)
        if have < count:
            stored = known.get(coefficients)
            if stored is not None and len(stored.scores) >= count:
                point = Point(coefficients, stored.scores[:count])
            else:
                missing = range(have, count)
                new = checked_scores(score(render(coefficients, missing), missing), len(missing))
                point = Point(coefficients, point.scores + new)
                if journal:
                    append_point(journal, point)
            points[coefficients] = point
            if progress:
                progress(_images(points), _leader(list(points.values())))
        return point

    # Which numbers the coefficients came from: the winner's are the centre of the next box.
    numbers_of = {parametrisation(n): np.asarray(n) for n in (parametrisation.identity, *starts)}
    finalists = list(numbers_of)
    identity = finalists[0]
    winner = _leader([extend(coefficients, prompts) for coefficients in finalists]).coefficients
    centre, half = numbers_of[winner], width
    for number in range(races):
        field = []
        for row in centre + half * _sobol(parametrisation.size, candidates, number, seed):
            field.append(parametrisation(row.tolist()))
            numbers_of.setdefault(field[-1], row)
        drawn = list(points.values())
        at = [numbers_of[point.coefficients] for point in drawn]
        surface = fitted(at, drawn, points[identity], centre, half) if number else None
        if surface is not None:
            top = surface.top()
            finalists.append(parametrisation(top.tolist()))
            numbers_of.setdefault(finalists[-1], top)
        count = first
        while True:
            ran = [extend(coefficients, count) for coefficients in dict.fromkeys(field)]
            if count == prompts:
                break
            ran.sort(key=lambda point: -point.mean)
            field = [point.coefficients for point in ran[: math.ceil(len(ran) / KEPT)]]
            count = min(2 * count, prompts)
        finalists.append(_leader(ran).coefficients)
        winner = _leader([extend(coefficients, prompts) for coefficients in finalists]).coefficients
        moved = np.abs(numbers_of[winner] - centre)
        centre, half = numbers_of[winner], np.where(moved > EDGE * half, half, half / 2)
    return SearchResult(
        best=points[winner],
        identity=points[identity],
        points=tuple(points.values()),
        settings={**recorded, "evaluations": len(points), "images": _images(points)},
    )


def _sobol(size: int, candidates: int, race: int, seed: int) -> np.ndarray:
    """Points of [-1, 1]^size, (n, size); n a power of two, for which Sobol points are balanced."""
    points = candidates if race == 0 else max(candidates // 2, 2)
    sobol = qmc.Sobol(size, rng=np.random.default_rng([seed, race]))
    return 2 * sobol.random_base2(round(math.log2(points))) - 1


def _leader(points: Sequence[Point]) -> Point:
    """The best of those with the most prompts; of equal ones the first."""
    most = max(len(point.scores) for point in points)
    return max((point for point in points if len(point.scores) == most), key=lambda point: point.mean)


def _images(points: Mapping[Coefficients, Point]) -> int:
    return sum(len(point.scores) for point in points.values())
