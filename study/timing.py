"""Answers by side and by response time: counted in the database, whatever their number."""

import math
from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from study.schema import Assignment, Cell, Vote

# Edges of the histogram's bins in ms, ten to each factor of ten: 100 ms to 100 s, and beyond at both ends.
EDGES = tuple(round(100 * 10 ** (step / 10)) for step in range(31))
TICKS = {100: "0.1 s", 300: "0.3", 1000: "1 s", 3000: "3", 10_000: "10 s", 30_000: "30", 100_000: "100 s"}


@dataclass(frozen=True)
class Timing:
    """Standing main answers to one question.

    winners  answer → how many, as in `schema.WINNERS`
    bins     how many took less than EDGES[0], less than EDGES[1], …, and at last EDGES[-1] or more
    untimed  how many came without a time
    """

    winners: dict[str, int]
    bins: tuple[int, ...]
    untimed: int

    @property
    def timed(self) -> int:
        """Answers with a time."""
        return sum(self.bins)

    def quantile(self, share: float) -> float | None:
        """The time in ms that such a share of the answers stayed below, within its bin by interpolation.

        None where there is no answer, or where it lies beyond the edges.
        """
        wanted, below = share * self.timed, 0
        for place, number in enumerate(self.bins):
            if number and below + number >= wanted:
                if not 0 < place < len(EDGES):
                    return None
                low, high = math.log(EDGES[place - 1]), math.log(EDGES[place])
                return math.exp(low + (high - low) * (wanted - below) / number)
            below += number
        return None


def timing(session: Session, question: str, pair: tuple[str, str] | None = None) -> Timing:
    """Count the answers to a question, on all method pairs or on one, whichever was left."""
    bin_ = case(*((Vote.rt_ms < edge, place) for place, edge in enumerate(EDGES)), else_=len(EDGES))
    bin_ = case((Vote.rt_ms.is_(None), -1), else_=bin_)
    rows = (
        select(Vote.winner, bin_.label("bin"), func.count())
        .join(Assignment, Assignment.trial_id == Vote.trial_id)
        .where(Vote.question == question, Vote.undone_by.is_(None), Assignment.kind == "main")
        .group_by(Vote.winner, "bin")
    )
    if pair is not None:
        rows = rows.join(Cell, Cell.id == Assignment.cell_id)
        rows = rows.where(Cell.method_1 == pair[0], Cell.method_2 == pair[1])
    winners: dict[str, int] = {}
    bins = [0] * (len(EDGES) + 1)
    untimed = 0
    for winner, place, number in session.execute(rows):
        winners[winner] = winners.get(winner, 0) + number
        if place < 0:
            untimed += number
        else:
            bins[place] += number
    return Timing(winners, tuple(bins), untimed)


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram, in the units of its picture, and what it says."""

    x: float
    y: float
    width: float
    height: float
    says: str


def bars(found: Timing, width: float, height: float) -> list[Bar]:
    """The histogram of the response times: equal steps of the logarithm have equal width."""
    step, most = width / len(found.bins), max([*found.bins, 1])
    ends = [0, *EDGES]
    return [
        Bar(
            round(place * step + 0.5, 2),
            round(height - height * number / most, 2),
            round(step - 1, 2),
            round(height * number / most, 2),
            f"{number}: {_span(ends, place)}",
        )
        for place, number in enumerate(found.bins)
        if number
    ]


def _span(ends: list[int], place: int) -> str:
    low = f"{ends[place] / 1000:g}"
    return f"{low} s or more" if place + 1 == len(ends) else f"{low} to {ends[place + 1] / 1000:g} s"


def ticks(width: float) -> list[tuple[float, str]]:
    """Where round times stand on the histogram's axis."""
    step = width / (len(EDGES) + 1)
    low = math.log10(EDGES[0])
    return [(round(step * (1 + 10 * (math.log10(at) - low)), 2), told) for at, told in TICKS.items()]


def share_interval(number: int, total: int) -> tuple[float, float, float] | None:
    """A share with its Wilson 95 % interval, as if answers were independent; None of nothing."""
    if total == 0:
        return None
    import numpy as np  # heavy, and only this needs it

    from elo.pairs import wilson

    share = number / total
    low, high = wilson(np.array(share), np.array(total))
    return share, float(low), float(high)
