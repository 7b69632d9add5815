"""Votes: what people preferred, validated and encoded as small integers.

One vote says which of two methods' images a person preferred, or that neither was. `model_a` is the
image on the LEFT. What is rated is told in `elo.rated`, what columns are called in `elo.layouts`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from elo.errors import SettingsError, VotesError
from elo.layouts import ALIASES, SIDED, TALLIES, needs_details, read_details
from elo.rated import choose_rows, listed, methods, outcomes
from elo.reading import Reading, decimals, encode, in_time, truths
from elo.sources import Source, open_source

# What tells whether a row is rated, and how it counts. A database tells it of many votes at once; to know
# whether a row of a file has been superseded takes the names of the votes.
STATE = ("question", "kind", "excluded", "exclude_reason", "has_label")
SHARED = ("model_a", "model_b", "winner", *TALLIES, "count", *STATE)
SINGLE = ("vote_id", "supersedes")
GROUPED = {"judge": "judge", "prompt": "prompt_id", "category": "category"}

PIECE = 1_000_000  # codes looked through at once for labels not seen before

Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes in the order they were given: n votes among m methods.

    names     m method names, sorted
    a, b      (n,) index of the left and of the right method
    winner    (n,) int8: 0 left wins, 1 right wins, 2 tie
    judge     (n,) code of who voted, -1 where unknown; None if the source does not say
    prompt    (n,) code of the prompt, likewise
    order     "tstamp" (stable), or "file" where there are no times
    question  the question asked, None if the source does not say
    left_out  reason → number of rows
    source    where the votes were read
    category  (n,) code of the prompt's category, -1 where unknown; None if the source does not say
    labels    "judge", "prompt", "category" → the name of each code
    sides     whether `a` is known to have been on the left; some dumps put the winner or any image first
    more      what was asked for besides: "rt_ms" (n,) float, NaN where unknown; "late" (n,) bool; "source"
              (n,) codes of where voters came from, with `labels`
    """

    names: tuple[str, ...]
    a: np.ndarray
    b: np.ndarray
    winner: np.ndarray
    judge: np.ndarray | None
    prompt: np.ndarray | None
    order: str
    question: str | None
    left_out: dict[str, int]
    source: str
    category: np.ndarray | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sides: bool = True
    more: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of votes."""
        return len(self.winner)

    def in_order(self) -> Iterator[Chunk]:
        """Yield left, right and winner of all votes, in their order."""
        yield self.a, self.b, self.winner


def read_votes(
    source: Any,
    *,
    column_map: Mapping[str, str] | None = None,
    question: str | None = None,
    on_error: str = "stop",
    also: Collection[str] = (),
) -> Votes:
    """Read votes from a file, a table in memory or a database.

    source      path to .csv, .json, .jsonl or .parquet (each also .gz), a DataFrame or Arrow table, or an
                SQLAlchemy URL of a database with the view `votes_v1`
    column_map  our column name → the source's, where it is not recognised by itself
    question    which question to rate; needed where the source has several
    on_error    "stop" at the first row that cannot be understood, or "skip" such rows and count them in
                `left_out`
    also        which of "rt_ms", "late" and "source" to read into `more`, where the source has them

    Only the two methods and the winner (model_a | model_b | tie | "tie (bothbad)", left | right | tie, or
    the score of the left image 1 | 0 | 0.5), or counts of votes in a row, are required; `elo.layouts` lists
    the layouts of other platforms that are recognised. Rows superseded by a later row are left out.
    Raises VotesError: one line with the place, what was found and what is expected.
    """
    wanted = (*SHARED, *SINGLE, *GROUPED.values(), "tstamp", *also)
    reading = start(source, column_map or {}, on_error, wanted)
    asked = choose_rows(reading, question)
    order, order_name = in_time(reading)
    names, a, b = methods(reading)
    rows, winner, times = outcomes(reading, order)
    if times is not None:
        rows, winner = np.repeat(rows, times), np.repeat(winner, times)
    pick = slice(None) if len(rows) == reading.n and order is None and times is None else rows
    labels: dict[str, tuple[str, ...]] = {}
    more: dict[str, Any] = {}
    for name in also:
        if name in reading:
            whole = {"rt_ms": decimals, "late": truths}.get(name)
            more[name] = whole(reading, name)[pick] if whole else codes_of_column(reading, name, pick, labels)
    return Votes(
        names=names,
        a=a[pick],
        b=b[pick],
        winner=winner,
        **{group: codes_of_column(reading, group, pick, labels) for group in GROUPED},  # type: ignore[arg-type]
        labels=labels,
        order=order_name,
        question=asked,
        left_out=reading.left_out,
        source=reading.source.name,
        sides=sides_known(reading.columns, column_map or {}),
        more={name: column for name, column in more.items() if column is not None},
    )


def start(source: Any, column_map: Mapping[str, str], on_error: str, wanted: Collection[str]) -> Reading:
    """Open a source and load those of the wanted columns that it has."""
    skip = skips(on_error)
    opened = open_source(source, skip=skip)
    if needs_details(opened.columns):
        opened = read_details(opened, skip)
    columns = resolve(opened, column_map, wanted)
    return loaded(opened, columns, opened.read(list(dict.fromkeys(columns.values()))), skip)


def skips(on_error: str) -> bool:
    """Tell whether unreadable rows are left out; SettingsError for what is neither stop nor skip."""
    if on_error not in {"stop", "skip"}:
        raise SettingsError(f"on_error {on_error!r}: expected stop or skip")
    return on_error == "skip"


def resolve(source: Source, column_map: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    """Our name → the source's name, for every wanted column that is there."""
    for ours, theirs in column_map.items():
        if ours not in ALIASES:
            raise VotesError(
                f"map {ours}={theirs}: no column {ours!r} to map; there are {', '.join(ALIASES)}"
            )
        if theirs not in source.columns:
            raise VotesError(
                f"{source.name}: no column {theirs!r} (map {ours}={theirs}); it has {listed(source.columns)}"
            )
    columns = dict(column_map)
    for ours, aliases in ALIASES.items():
        named = next((alias for alias in aliases if alias in source.columns), None)
        if named is not None:
            columns.setdefault(ours, named)
    required = ["model_a", "model_b"]
    required += [] if {"left_votes", "right_votes"} <= set(columns) else ["winner"]
    for ours in required:
        if ours not in columns:
            known = " or ".join(ALIASES[ours][:3] if ours != "winner" else ["winner"])
            raise VotesError(f"{source.name}: no column {known}; it has {listed(source.columns)}")
    return {ours: theirs for ours, theirs in columns.items() if ours in wanted}


def loaded(source: Source, columns: dict[str, str], theirs: pa.Table, skip: bool) -> Reading:
    """Begin to read a table: its columns by our names, all rows still in."""
    table = pa.table({ours: theirs.column(name) for ours, name in columns.items()})
    if not table.num_rows:
        raise VotesError(f"{source.name}: no votes in it")
    reading = Reading(source, columns, table, skip, np.ones(table.num_rows, dtype=bool))
    reading.left_out.update(source.torn)
    return reading


def sides_known(columns: Mapping[str, str], column_map: Mapping[str, str]) -> bool:
    """Tell whether model_a is known to have stood on the left."""
    return columns["model_a"] in SIDED or "model_a" in column_map


def codes_of_column(
    reading: Reading, group: str, rows: Any, labels: dict[str, tuple[str, ...]]
) -> np.ndarray | None:
    """Dense codes of the chosen rows (-1: unknown), in the order of their first appearance; labels noted.

    None if no row has one.
    """
    name = GROUPED.get(group, group)
    if name not in reading:
        return None
    found, texts = encode(reading.column(name))
    found = found[rows]
    first = np.full(len(texts) + 1, len(found))  # -1 marks the last place
    for start in range(0, len(found), PIECE):
        piece = found[start : start + PIECE]
        new = np.flatnonzero(first[piece] == len(found))[::-1]
        first[piece[new]] = start + new
        if (first[:-1] < len(found)).all():
            break
    present = np.argsort(first[:-1], kind="stable")[: int((first[:-1] < len(found)).sum())]
    if not len(present):
        return None
    dense = np.full(len(texts) + 1, -1, dtype=found.dtype)
    dense[present] = np.arange(len(present))
    labels[group] = tuple(texts[code] for code in present)
    return dense[found]
