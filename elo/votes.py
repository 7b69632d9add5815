"""The vote table: what is rated, validated and encoded as small integers.

One vote says which of two methods' images a person preferred, or that neither was. `model_a` is the
image on the LEFT. Rated are the rows with kind = main (or no kind) that are not excluded; whatever is
left out is counted by its reason, because a table should say what it does not contain.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from elo.counts import LEFT, RIGHT, TIE
from elo.errors import VotesError
from elo.sources import Source, open_source

# The first name of each tuple that a source has is taken; the key itself is the name of our own dumps.
ALIASES: dict[str, tuple[str, ...]] = {
    "model_a": ("model_a", "left", "item_a"),
    "model_b": ("model_b", "right", "item_b"),
    "winner": ("winner",),
    "judge": ("judge", "annotator", "worker", "user"),
    "prompt_id": ("prompt_id", "prompt"),
    "tstamp": ("tstamp", "timestamp"),
    "category": ("category",),
    "question": ("question",),
    "kind": ("kind",),
    "excluded": ("excluded",),
    "exclude_reason": ("exclude_reason",),
    "vote_id": ("vote_id",),
    "supersedes": ("supersedes",),
}
REQUIRED = ("model_a", "model_b", "winner")

# Numbers are the score of the left image.
WINNERS: dict[str, int] = {
    **dict.fromkeys(("model_a", "left", "1", "1.0"), LEFT),
    **dict.fromkeys(("model_b", "right", "0", "0.0"), RIGHT),
    **dict.fromkeys(("tie", "tie (bothbad)", "0.5"), TIE),
}
TRUTHS = {
    "true": True,
    "t": True,
    "1": True,
    "yes": True,
    "false": False,
    "f": False,
    "0": False,
    "no": False,
}


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

    def __len__(self) -> int:
        """Return the number of votes."""
        return len(self.winner)


def read_votes(
    source: str | Path | pd.DataFrame,
    *,
    column_map: Mapping[str, str] | None = None,
    question: str | None = None,
) -> Votes:
    """Read votes from a file, a DataFrame or a database.

    source      path to .csv, .jsonl or .parquet (each also .gz), a DataFrame, or an SQLAlchemy URL of a
                database with the view `votes_v1`
    column_map  our column name → the source's, where it is not recognised by itself
    question    which question to rate; needed where the source has several

    Only model_a, model_b and winner (model_a | model_b | tie | "tie (bothbad)", left | right | tie, or
    the score of the left image 1 | 0 | 0.5) are required. Rows superseded by a later row are left out.
    Raises VotesError: one line with the place, what was found and what is expected.
    """
    opened = open_source(source)
    columns = _resolve(opened, column_map or {})
    theirs = list(columns.values())
    frame = opened.read(list(dict.fromkeys(theirs)))[theirs].set_axis(list(columns), axis=1)
    if frame.empty:
        raise VotesError(f"{opened.name}: no votes in it")

    def refuse(row: int, field: str, expected: str) -> NoReturn:
        found = frame[field].iloc[row]
        shown = "nothing" if pd.isna(found) or found == "" else repr(str(found))
        raise VotesError(f"{opened.place(row)}, column {columns[field]}: found {shown}, expected {expected}")

    kept, left_out = _select(frame, refuse)
    kept, asked = _choose_question(frame, kept, question, left_out, opened.name)
    if not kept.any():
        reasons = ", ".join(f"{reason}: {n}" for reason, n in left_out.items())
        raise VotesError(f"{opened.name}: nothing to rate, all {len(frame)} rows are left out ({reasons})")
    _refuse_repeated_ids(frame, kept, refuse)

    rows = np.flatnonzero(kept)
    rows, order = _in_time(frame, rows, refuse)
    left, left_names = _encode(frame["model_a"])
    right, right_names = _encode(frame["model_b"])
    for column, codes in (("model_a", left), ("model_b", right)):
        if (codes[rows] < 0).any():
            refuse(rows[codes[rows] < 0].min(), column, "the name of a method")
    names = tuple(
        sorted({left_names[i] for i in set(left[rows])} | {right_names[i] for i in set(right[rows])})
    )
    index = {name: i for i, name in enumerate(names)}
    a = np.array([index.get(name, -1) for name in left_names])[left[rows]]
    b = np.array([index.get(name, -1) for name in right_names])[right[rows]]
    if (a == b).any():
        refuse(rows[a == b].min(), "model_b", "another method than model_a: a method cannot beat itself")

    labels, texts = _encode(frame["winner"])
    outcome = np.array([WINNERS.get(text.lower(), -1) for text in texts] + [-1], dtype=np.int8)[labels]
    if (outcome[rows] < 0).any():
        refuse(
            rows[outcome[rows] < 0].min(),
            "winner",
            "model_a, model_b, tie or 'tie (bothbad)' (or left, right, tie; or 1, 0, 0.5)",
        )
    labels_of: dict[str, tuple[str, ...]] = {}
    return Votes(
        names=names,
        a=a,
        b=b,
        winner=outcome[rows],
        judge=_codes(frame, "judge", rows, labels_of, "judge"),
        prompt=_codes(frame, "prompt_id", rows, labels_of, "prompt"),
        category=_codes(frame, "category", rows, labels_of, "category"),
        labels=labels_of,
        order=order,
        question=asked,
        left_out=left_out,
        source=opened.name,
    )


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
    for ours in REQUIRED:
        if ours not in columns:
            known = " or ".join(ALIASES[ours])
            raise VotesError(f"{source.name}: no column {known}; it has {_list(source.columns)}")
    return columns


def _select(frame: pd.DataFrame, refuse: Callable[..., NoReturn]) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows are rated at all (bool per row), and how many are not, by the first reason that applies."""
    kept = np.ones(len(frame), dtype=bool)
    left_out: dict[str, int] = {}

    def drop(rows: np.ndarray, reasons: Iterable[str]) -> None:
        for reason in np.asarray(list(reasons), dtype=object)[kept[rows]]:
            left_out[reason] = left_out.get(reason, 0) + 1
        kept[rows] = False

    if "kind" in frame:
        kinds, names = _encode(frame["kind"])
        other = np.flatnonzero(np.array([name != "main" for name in names] + [False], dtype=bool)[kinds])
        drop(other, (f"kind={names[k]}" for k in kinds[other]))
    if "excluded" in frame:
        codes, texts = _encode(frame["excluded"])
        truth = np.array([TRUTHS.get(text.lower(), -1) for text in texts] + [0], dtype=int)[codes]
        if (truth < 0).any():
            refuse(int(np.argmax(truth < 0)), "excluded", "true or false")
        rows = np.flatnonzero(truth == 1)
        why = _labels(frame, "exclude_reason")
        drop(rows, (f"excluded: {why[row]}" if why[row] else "excluded" for row in rows))
    if "supersedes" in frame and "vote_id" in frame:
        ids, replaced = _labels(frame, "vote_id"), {text for text in _labels(frame, "supersedes") if text}
        rows = np.array([row for row, text in enumerate(ids) if text in replaced], dtype=int)
        drop(rows, ["superseded"] * len(rows))
    return kept, left_out


def _choose_question(
    frame: pd.DataFrame, kept: np.ndarray, question: str | None, left_out: dict[str, int], name: str
) -> tuple[np.ndarray, str | None]:
    """Narrow `kept` to one question; several questions and none chosen is an error that lists them."""
    if "question" not in frame:
        if question is not None:
            raise VotesError(f"{name}: no column question, so nothing was asked as {question!r}")
        return kept, None
    asked = np.array(_labels(frame, "question"), dtype=object)
    there = sorted(set(asked[kept]))
    if question is None:
        if len(there) > 1:
            raise VotesError(f"{name}: several questions ({_list(there)}); choose one (--question)")
        return kept, (there[0] or None) if there else None
    if question not in there:
        raise VotesError(f"{name}: no votes on the question {question!r}; there are {_list(there)}")
    for other in there:
        if other != question:
            left_out[f"question={other}"] = int((kept & (asked == other)).sum())
    return kept & (asked == question), question


def _refuse_repeated_ids(frame: pd.DataFrame, kept: np.ndarray, refuse: Callable[..., NoReturn]) -> None:
    """Two dumps put together must not count their common votes twice."""
    if "vote_id" in frame:
        ids = frame["vote_id"][kept]
        repeated = ids.duplicated() & ids.notna() & (ids != "")
        if repeated.any():
            refuse(int(repeated.idxmax()), "vote_id", "a vote_id that no earlier row has")


def _in_time(
    frame: pd.DataFrame, rows: np.ndarray, refuse: Callable[..., NoReturn]
) -> tuple[np.ndarray, str]:
    """Rows in the order of their times (seconds or ISO 8601), stable; in file order where there are none."""
    if "tstamp" not in frame:
        return rows, "file"
    written = frame["tstamp"].iloc[rows]
    missing = (written.isna() | (written == "")).to_numpy(dtype=bool)
    if missing.all():
        return rows, "file"
    if missing.any():
        refuse(int(rows[missing].min()), "tstamp", "a time, as other rows have one")
    times = pd.to_numeric(written, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(times).all():
        dates = pd.to_datetime(written.astype(str), utc=True, format="ISO8601", errors="coerce")
        times = dates.dt.as_unit("ns").astype("int64").to_numpy(dtype=float)
        times[dates.isna().to_numpy()] = np.nan
    if np.isnan(times).any():
        refuse(int(rows[np.isnan(times)].min()), "tstamp", "a time: seconds since 1970 or ISO 8601")
    return rows[np.argsort(times, kind="stable")], "tstamp"


def _encode(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Codes (-1: missing) and their labels as stripped text; 3, 3.0 and "3" are one label."""
    codes, found = pd.factorize(column)
    labels: dict[str, int] = {}
    recode = [-1] * (len(found) + 1)
    for code, value in enumerate(found):
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        if text:
            recode[code] = labels.setdefault(text, len(labels))
    return np.array(recode)[codes], list(labels)


def _labels(frame: pd.DataFrame, field: str) -> list[str]:
    """The text of each row of a column, "" where missing or where there is no such column."""
    if field not in frame:
        return [""] * len(frame)
    codes, labels = _encode(frame[field])
    labels.append("")
    return [labels[code] for code in codes]


def _codes(
    frame: pd.DataFrame, field: str, rows: np.ndarray, labels_of: dict[str, tuple[str, ...]], name: str
) -> np.ndarray | None:
    """Dense codes of the chosen rows (-1: unknown), their labels noted; None if no row has one."""
    if field not in frame:
        return None
    codes, labels = _encode(frame[field].iloc[rows])
    if not (codes >= 0).any():
        return None
    labels_of[name] = tuple(labels)
    return codes


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
