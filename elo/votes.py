"""The vote table: what is rated, validated and encoded as small integers.

One vote says which of two methods' images a person preferred, or that neither was. `model_a` is the
image on the LEFT. Rated are the rows with kind = main (or no kind) that are not excluded; whatever is
left out is counted by its reason, because a table should say what it does not contain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from elo.counts import LEFT, RIGHT, TIE, Counts
from elo.errors import SettingsError, VotesError
from elo.layouts import ALIASES, MAY_MEET_ITSELF, SIDED, TALLIES, needs_details, read_details
from elo.reading import Reading, encode, in_time, indices, numbers, truths
from elo.sources import Source, open_source

# Numbers are the score of the left image; -1 is how HPDv2 writes that the right one was preferred.
WINNERS: dict[str, int] = {
    **dict.fromkeys(("model_a", "left", "leftvote", "1", "1.0"), LEFT),
    **dict.fromkeys(("model_b", "right", "rightvote", "0", "0.0", "-1"), RIGHT),
    **dict.fromkeys(("tie", "tievote", "0.5"), TIE),
    **dict.fromkeys(("tie (bothbad)", "both_bad", "bothbad", "bothbad_vote"), TIE),
}
# What counts need. Of many votes at once a database can tell it, of a file one needs to know which is which.
STATE = ("question", "kind", "excluded", "exclude_reason", "has_label")
SHARED = ("model_a", "model_b", "winner", *TALLIES, "count", *STATE)
SINGLE = ("vote_id", "supersedes")


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

    def __len__(self) -> int:
        """Return the number of votes."""
        return len(self.winner)


def read_votes(
    source: Any,
    *,
    column_map: Mapping[str, str] | None = None,
    question: str | None = None,
    on_error: str = "stop",
) -> Votes:
    """Read votes from a file, a table in memory or a database.

    source      path to .csv, .json, .jsonl or .parquet (each also .gz), a DataFrame or Arrow table, or an
                SQLAlchemy URL of a database with the view `votes_v1`
    column_map  our column name → the source's, where it is not recognised by itself
    question    which question to rate; needed where the source has several
    on_error    "stop" at the first row that cannot be understood, or "skip" such rows and count them in
                `left_out`

    Only the two methods and the winner (model_a | model_b | tie | "tie (bothbad)", left | right | tie, or
    the score of the left image 1 | 0 | 0.5), or counts of votes in a row, are required; `elo.layouts` lists
    the layouts of other platforms that are recognised. Rows superseded by a later row are left out.
    Raises VotesError: one line with the place, what was found and what is expected.
    """
    reading = _start(source, column_map or {}, on_error, tuple(ALIASES))
    asked = _choose(reading, question)
    order, order_name = in_time(reading)
    names, a, b = _methods(reading)
    rows, winner, times = _outcomes(reading, order)
    if times is not None:
        rows, winner = np.repeat(rows, times), np.repeat(winner, times)
    pick = slice(None) if len(rows) == reading.n and order is None and times is None else rows
    labels: dict[str, tuple[str, ...]] = {}
    return Votes(
        names=names,
        a=a[pick],
        b=b[pick],
        winner=winner,
        judge=_codes(reading, "judge", pick, "judge", labels),
        prompt=_codes(reading, "prompt_id", pick, "prompt", labels),
        category=_codes(reading, "category", pick, "category", labels),
        labels=labels,
        order=order_name,
        question=asked,
        left_out=reading.left_out,
        source=reading.source.name,
        sides=reading.columns["model_a"] in SIDED or "model_a" in (column_map or {}),
    )


def count_votes(
    source: Any,
    *,
    column_map: Mapping[str, str] | None = None,
    question: str | None = None,
    on_error: str = "stop",
) -> Counts:
    """Count the votes of a source without reading each of them: a database counts them itself.

    Takes what `read_votes` takes and counts the same votes.
    """
    reading = _start(source, column_map or {}, on_error, (*SHARED, *SINGLE), grouped=True)
    _choose(reading, question)
    names, a, b = _methods(reading)
    rows, winner, times = _outcomes(reading, None)
    m = len(names)
    cell = (winner.astype(np.intp) * m + a[rows]) * m + b[rows]
    number = np.bincount(cell, weights=times, minlength=3 * m * m).astype(float)
    return Counts(names, number.reshape(3, m, m))


def _start(
    source: Any, column_map: Mapping[str, str], on_error: str, wanted: tuple[str, ...], grouped: bool = False
) -> Reading:
    if on_error not in {"stop", "skip"}:
        raise SettingsError(f"on_error {on_error!r}: expected stop or skip")
    skip = on_error == "skip"
    opened = open_source(source, skip=skip)
    if needs_details(opened.columns):
        opened = read_details(opened, skip)
    columns = _resolve(opened, column_map)
    read = opened.read
    if grouped and opened.grouped and "count" not in columns:
        read, wanted = opened.grouped, SHARED
    columns = {ours: theirs for ours, theirs in columns.items() if ours in wanted}
    theirs = list(dict.fromkeys(columns.values()))
    loaded = read(theirs)
    table = pa.table({ours: loaded.column(name) for ours, name in columns.items()})
    if read is opened.grouped:
        columns["count"] = "count"
        table = table.append_column("count", loaded.column("count"))
    if not table.num_rows:
        raise VotesError(f"{opened.name}: no votes in it")
    reading = Reading(opened, columns, table, skip, np.ones(table.num_rows, dtype=bool))
    reading.left_out.update(opened.torn)
    return reading


def _resolve(source: Source, column_map: Mapping[str, str]) -> dict[str, str]:
    """Our name → the source's name, for every column that is there."""
    for ours, theirs in column_map.items():
        if ours not in ALIASES:
            raise VotesError(
                f"map {ours}={theirs}: no column {ours!r} to map; there are {', '.join(ALIASES)}"
            )
        if theirs not in source.columns:
            raise VotesError(
                f"{source.name}: no column {theirs!r} (map {ours}={theirs}); it has {_list(source.columns)}"
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
            raise VotesError(f"{source.name}: no column {known}; it has {_list(source.columns)}")
    return columns


def _choose(reading: Reading, question: str | None) -> str | None:
    """Leave out what is not rated, and all questions but one; returns that question."""
    weight = numbers(reading, "count") if "count" in reading else None
    _select(reading, weight)
    name = reading.source.name
    asked = None
    if "question" in reading:
        codes, labels = encode(reading.column("question"))
        there = sorted({labels[code] if code >= 0 else "" for code in np.unique(codes[reading.kept])})
        if question is None:
            if len(there) > 1:
                raise VotesError(f"{name}: several questions ({_list(there)}); choose one (--question)")
            asked = (there[0] or None) if there else None
        elif question not in there:
            raise VotesError(f"{name}: no votes on the question {question!r}; there are {_list(there)}")
        else:
            asked = question
            for other in there:
                if other != question:
                    code = labels.index(other) if other else -1
                    reading.drop(codes == code, f"question={other}", weight)
    elif question is not None:
        raise VotesError(f"{name}: no column question, so nothing was asked as {question!r}")
    if not reading.kept.any():
        reasons = ", ".join(f"{reason}: {n}" for reason, n in reading.left_out.items())
        raise VotesError(f"{name}: nothing to rate, all {reading.n} rows are left out ({reasons})")
    _refuse_repeated_ids(reading)
    return asked


def _select(reading: Reading, weight: np.ndarray | None) -> None:
    """Leave out what is no vote of the main study: each row for the first reason that applies."""
    if "has_label" in reading:
        reading.drop(~truths(reading, "has_label"), "no label", weight)
    if "kind" in reading:
        codes, labels = encode(reading.column("kind"))
        for code, kind in enumerate(labels):
            if kind != "main":
                reading.drop(codes == code, f"kind={kind}", weight)
    if "excluded" in reading:
        out = truths(reading, "excluded")
        if "exclude_reason" in reading and out.any():
            codes, labels = encode(reading.column("exclude_reason"))
            for code in np.unique(codes[out]):
                why = f"excluded: {labels[code]}" if code >= 0 else "excluded"
                reading.drop(out & (codes == code), why, weight)
        reading.drop(out, "excluded", weight)
    if "supersedes" in reading and "vote_id" in reading:
        replaced = [text for text in encode(reading.column("supersedes"))[1] if text]
        if replaced:
            codes, ids = encode(reading.column("vote_id"))
            gone = np.isin(codes, [code for code, text in enumerate(ids) if text in set(replaced)])
            reading.drop(gone, "superseded", weight)


def _refuse_repeated_ids(reading: Reading) -> None:
    """Two dumps put together must not count their common votes twice."""
    if "vote_id" not in reading:
        return
    codes, texts = indices(reading.column("vote_id"))
    blank = pc.index(texts, "").as_py() if pa.types.is_string(texts.type) else -1
    rated = codes[reading.kept & (codes >= 0) & (codes != (blank if blank >= 0 else -1))]
    if len(rated) and np.bincount(rated).max() > 1:
        repeated = pd.Series(np.where(reading.kept & (codes >= 0) & (codes != blank), codes, -1))
        again = repeated[repeated >= 0].duplicated()
        wrong = np.zeros(reading.n, dtype=bool)
        wrong[again.index[again]] = True
        reading.refuse(wrong, "vote_id", "a vote_id that no earlier row has")


def _methods(reading: Reading) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names of the methods that the kept rows compare, sorted, and the two of each row (of any row)."""
    found = {side: encode(reading.column(side)) for side in ("model_a", "model_b")}
    for side, (codes, _) in found.items():
        reading.refuse(codes < 0, side, "the name of a method")
    common: dict[str, int] = {}
    a, b = (
        np.array([common.setdefault(label, len(common)) for label in labels] + [-1])[codes]
        for codes, labels in found.values()
    )
    if reading.columns["model_a"] in MAY_MEET_ITSELF:
        reading.drop(a == b, "the same method on both sides")
    else:
        reading.refuse(a == b, "model_b", "another method than model_a: a method cannot beat itself")
    whole = reading.kept.all()
    used = np.zeros(len(common) + 1, dtype=bool)
    for codes in (a, b):
        used |= np.bincount(codes if whole else codes[reading.kept], minlength=len(common) + 1) > 0
    names = sorted(name for name, i in common.items() if used[i])
    index = {name: i for i, name in enumerate(names)}
    kind = np.min_scalar_type(max(len(names) - 1, 0))
    final = np.array([index.get(name, 0) for name in common] + [0], dtype=kind)
    return tuple(names), final[a], final[b]


def _outcomes(reading: Reading, order: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows in order, the outcome of each, and how often it occurred (None: once each)."""
    if "winner" in reading:
        codes, texts = encode(reading.column("winner"))
        outcome = np.array([WINNERS.get(text.lower(), -1) for text in texts] + [-1], dtype=np.int8)[codes]
        expected = "model_a, model_b, tie or 'tie (bothbad)' (or left, right, tie; or 1, 0, 0.5)"
        reading.refuse(outcome < 0, "winner", expected)
        times = numbers(reading, "count") if "count" in reading else None
        rows = _kept_rows(reading, order)
        return rows, outcome[rows], None if times is None else times[rows]
    tallies = [name for name in TALLIES if name in reading]
    times = np.stack([numbers(reading, name) for name in tallies], axis=1)
    reading.drop(times.sum(axis=1) == 0, "no votes in the row")
    rows = _kept_rows(reading, order)
    kinds = [min(TALLIES.index(name), TIE) for name in tallies]
    outcome = np.tile(np.array(kinds, dtype=np.int8), len(rows))
    return np.repeat(rows, len(tallies)), outcome, times[rows].ravel()


def _kept_rows(reading: Reading, order: np.ndarray | None) -> np.ndarray:
    if not reading.kept.any():
        reasons = ", ".join(f"{reason}: {n}" for reason, n in reading.left_out.items())
        raise VotesError(f"{reading.source.name}: nothing to rate, all rows are left out ({reasons})")
    return np.flatnonzero(reading.kept) if order is None else order[reading.kept[order]]


def _codes(
    reading: Reading, name: str, rows: Any, ours: str, labels: dict[str, tuple[str, ...]]
) -> np.ndarray | None:
    """Dense codes of the chosen rows (-1: unknown), in the order of their first appearance; labels noted.

    None if no row has one.
    """
    if name not in reading:
        return None
    found, texts = encode(reading.column(name))
    found = found[rows]
    first = np.full(len(texts) + 1, len(found))  # -1 marks the last place
    first[found[::-1]] = np.arange(len(found))[::-1]
    present = np.argsort(first[:-1], kind="stable")[: int((first[:-1] < len(found)).sum())]
    if not len(present):
        return None
    dense = np.full(len(texts) + 1, -1, dtype=found.dtype)
    dense[present] = np.arange(len(present))
    labels[ours] = tuple(texts[code] for code in present)
    return dense[found]


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
