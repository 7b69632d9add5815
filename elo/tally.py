"""Votes as a rating table needs them: counted, and once through in their order.

Whatever the number of votes, a table needs the cells by judge and by prompt; only sequential Elo wants
to see the votes, one after the other. A database counts by itself (GROUP BY) and then streams them, so
that memory does not grow with their number.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from elo.counts import GROUPS, Clusters, Counts, clusters, count
from elo.errors import VotesError
from elo.rated import choose_rows, methods, outcomes
from elo.reading import Reading
from elo.sources import is_url, plain_text
from elo.votes import (
    GROUPED,
    SHARED,
    SINGLE,
    Chunk,
    Votes,
    codes_of_column,
    loaded,
    read_votes,
    resolve,
    sides_known,
    skips,
    start,
)

if TYPE_CHECKING:
    from elo.database import Database


@dataclass(frozen=True, eq=False)
class Tally:
    """Counted votes.

    counts    cells, by judge and by prompt where the source says who voted and on what
    in_order  yields left, right and winner of all votes in their order, in chunks; as often as called
    order, question, left_out, source, sides   as of `Votes`
    """

    counts: Counts
    in_order: Callable[[], Iterator[Chunk]]
    order: str
    question: str | None
    left_out: Mapping[str, int]
    source: str
    sides: bool

    def __len__(self) -> int:
        """Return the number of votes."""
        return round(self.counts.total)

    @property
    def names(self) -> tuple[str, ...]:
        """The methods."""
        return self.counts.names

    def known(self, group: str) -> int:
        """How many judges (or prompts) are known by name."""
        return sum(label != "" for label in self.counts.by[group].labels) if group in self.counts.by else 0


def tally(votes: "Votes | Tally") -> Tally:
    """Count votes by whatever they tell of judge and prompt."""
    if isinstance(votes, Tally):
        return votes
    counts = count(votes, by=[group for group in GROUPS if getattr(votes, group) is not None])
    return Tally(
        counts, votes.in_order, votes.order, votes.question, votes.left_out, votes.source, votes.sides
    )


def read_tally(
    source: Any,
    *,
    column_map: Mapping[str, str] | None = None,
    question: str | None = None,
    on_error: str = "stop",
) -> Tally:
    """Count the votes of a source, which a database does by itself; takes what `read_votes` takes.

    A database orders votes by `tstamp`, which must be a number there, and is not searched for votes of
    one `vote_id`. Raises VotesError as `read_votes` does.
    """
    if is_url(source):
        found = _count_there(source, column_map or {}, question, skips(on_error), GROUPS)
        if found:
            return found
    return tally(read_votes(source, column_map=column_map, question=question, on_error=on_error))


def count_votes(
    source: Any,
    *,
    column_map: Mapping[str, str] | None = None,
    question: str | None = None,
    on_error: str = "stop",
) -> Counts:
    """Count the votes of a source, all judges and prompts together; takes what `read_votes` takes."""
    if is_url(source):
        found = _count_there(source, column_map or {}, question, skips(on_error), ())
        if found:
            return found.counts
    reading = start(source, column_map or {}, on_error, (*SHARED, *SINGLE))
    choose_rows(reading, question)
    return _cells(reading)[0]


def _count_there(
    url: Any, column_map: Mapping[str, str], question: str | None, skip: bool, by: Sequence[str]
) -> Tally | None:
    """Let a database count; None where its rows hold several votes each, which must be read."""
    from elo.database import VIEW, open_database

    database = open_database(str(url))
    columns = resolve(database.source, column_map, (*SHARED, *(GROUPED[group] for group in by)))
    if "winner" not in columns or "count" in columns:
        return None
    groups = [group for group in by if GROUPED[group] in columns]
    apart = {group: {GROUPED[group]: columns.pop(GROUPED[group])} for group in groups}
    shared = columns | {name: name for name in database.derived}
    groupings = [shared | apart[group] for group in groups] or [shared]
    # Rows that count many votes have no place but the view.
    there = replace(database.source, place=lambda row: f"{database.source.name}, {VIEW}")
    tables = database.grouped([list(dict.fromkeys(grouping.values())) for grouping in groupings])
    found: dict[str, Clusters] = {}
    for group, grouping, table in zip(groups or [""], groupings, tables, strict=True):
        reading = loaded(there, grouping | {"count": "count", "timed": "timed"}, table, skip)
        asked = choose_rows(reading, question)
        counts, rows, cell, number = _cells(reading)
        labels: dict[str, tuple[str, ...]] = {}
        codes = codes_of_column(reading, group, rows, labels) if group else None
        if codes is not None:
            found[group] = clusters(codes, labels[group], cell, counts.number.size, number)
    timed = int(reading.column("timed").to_numpy()[rows].sum())
    if 0 < timed < counts.total:
        raise VotesError(
            f"{there.place(0)}, column tstamp: only {timed} of {counts.total:.0f} votes have a time"
        )
    theirs = list(shared.values())
    kinds = zip(*(reading.column(ours).to_pylist() for ours in shared), strict=True)
    cells = np.full(reading.n, -1)
    cells[rows] = cell
    cell_of = dict(zip(map(_told, kinds), cells.tolist(), strict=True))
    return Tally(
        replace(counts, by=found),
        lambda: _stream(database, theirs, cell_of, counts),
        "tstamp" if timed else "file",
        asked,
        reading.left_out,
        database.source.name,
        sides_known(columns, column_map),
    )


def _cells(reading: Reading) -> tuple[Counts, np.ndarray, np.ndarray, np.ndarray]:
    """Counts, and of each row that is rated: which row it is, its cell, and its number of votes."""
    names, a, b = methods(reading)
    rows, winner, number = outcomes(reading, None)
    m = len(names)
    cell = (winner.astype(np.intp) * m + a[rows]) * m + b[rows]
    whole = np.bincount(cell, weights=number, minlength=3 * m * m).astype(float)
    ones = np.ones(len(rows), dtype=np.int64)
    return Counts(names, whole.reshape(3, m, m)), rows, cell, ones if number is None else number


def _stream(
    database: "Database", columns: list[str], cells: Mapping[Any, int], counts: Counts
) -> Iterator[Chunk]:
    """Yield the votes that were counted, in order of time.

    cells  the values of a row → its cell; −1 where it is not rated
    """
    m, left = len(counts.names), round(counts.total)
    # What a database calls 1 or true may differ from row to row only in its type, so few are told anew.
    cell_of = functools.cache(lambda row: cells.get(_told(row), -1))
    for batch in database.stream(columns):
        cell = np.array([cell_of(tuple(row)) for row in batch])
        cell = cell[cell >= 0][:left]  # those that came since are not in the counts
        left -= len(cell)
        yield cell // m % m, cell % m, cell // (m * m)
    if left:
        raise VotesError(f"{database.source.name}: votes changed while they were read; run it again")


def _told(row: Sequence[Any]) -> tuple[str | None, ...]:
    return tuple(None if value is None else plain_text(value) for value in row)
