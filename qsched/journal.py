"""What a search has evaluated so far: points, and the file that lets an interrupted search go on."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qsched.coefficients import Coefficients


class JournalError(ValueError):
    """A journal that cannot be gone on with; the message names the file."""


@dataclass(frozen=True)
class Point:
    """A candidate and its score for every calibration prompt it was tried on."""

    coefficients: Coefficients
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over prompts, the number that is maximised."""
        return math.fsum(self.scores) / len(self.scores)


def checked_scores(scores: ArrayLike, expected: int | None = None) -> tuple[float, ...]:
    """One finite number a prompt; ValueError for anything else, or another number of them than expected."""
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"score must return one finite number a prompt, not {scores!r}")
    if expected is not None and len(values) != expected:
        raise ValueError(f"score returned {len(values)} numbers, but {expected} were expected")
    return tuple(values.tolist())


def append_point(journal: Path, point: Point) -> None:
    """Write a point down; a later line on the same coefficients replaces the earlier one."""
    line = {"c_x": point.coefficients.c_x, "c_eps": point.coefficients.c_eps, "scores": point.scores}
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_journal(journal: Path, settings: Mapping[str, Any]) -> dict[Coefficients, Point]:
    """Return the points of a journal; where there is none, begin one, with the settings as its first line.

    Raises:
        JournalError: a journal begun under other settings, or a damaged line (but the last one, which may be
            torn by the interruption, is cut off).
    """
    head = json.dumps(settings, sort_keys=True) + "\n"
    with journal.open("a+", encoding="utf-8") as file:
        file.seek(0)
        first, *lines = file.read().splitlines(keepends=True) or [""]
        if not first:
            file.write(head)
        elif first != head:
            raise JournalError(
                f"{journal}: begun under other settings; remove it to begin anew. They were: {first.strip()}"
            )
        if lines and not lines[-1].endswith("\n"):  # was being written when the search was interrupted
            torn = lines.pop()
            file.truncate(file.tell() - len(torn.encode()))
    points: dict[Coefficients, Point] = {}
    for number, line in enumerate(lines, start=2):
        try:
            entry = json.loads(line)
            coefficients = Coefficients(entry["c_x"], entry["c_eps"])
            points[coefficients] = Point(coefficients, checked_scores(entry["scores"]))
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"{journal}:{number}: not a point of a search ({error})") from error
    return points
