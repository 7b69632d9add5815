"""Which rows of a table are rated, and what each of them says.

Rated are the rows with kind = main (or no kind) that are not excluded and that no later row supersedes;
whatever is left out is counted by its reason, because a table should say what it does not contain.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from elo.counts import LEFT, RIGHT, TIE
from elo.errors import VotesError
from elo.layouts import MAY_MEET_ITSELF, TALLIES
from elo.reading import Reading, encode, indices, numbers, truths

# Numbers are the score of the left image; -1 is how HPDv2 writes that the right one was preferred.
WINNERS: dict[str, int] = {
    **dict.fromkeys(("model_a", "left", "leftvote", "1", "1.0"), LEFT),
    **dict.fromkeys(("model_b", "right", "rightvote", "0", "0.0", "-1"), RIGHT),
    **dict.fromkeys(("tie", "tievote", "0.5"), TIE),
    **dict.fromkeys(("tie (bothbad)", "both_bad", "bothbad", "bothbad_vote"), TIE),
}


def choose_rows(reading: Reading, question: str | None) -> str | None:
    """Leave out what is not rated, and all questions but one; returns that question."""
    if "count" in reading:
        reading.weight = numbers(reading, "count")
    _select(reading)
    name = reading.source.name
    asked = None
    if "question" in reading:
        codes, labels = encode(reading.column("question"))
        there = sorted({labels[code] if code >= 0 else "" for code in np.unique(codes[reading.kept])})
        if question is None:
            if len(there) > 1:
                raise VotesError(f"{name}: several questions ({listed(there)}); choose one (--question)")
            asked = (there[0] or None) if there else None
        elif question not in there:
            raise VotesError(f"{name}: no votes on the question {question!r}; there are {listed(there)}")
        else:
            asked = question
            for other in there:
                if other != question:
                    code = labels.index(other) if other else -1
                    reading.drop(codes == code, f"question={other}")
    elif question is not None:
        raise VotesError(f"{name}: no column question, so nothing was asked as {question!r}")
    if not reading.kept.any():
        reasons = ", ".join(f"{reason}: {n}" for reason, n in reading.left_out.items())
        raise VotesError(f"{name}: nothing to rate, all {reading.n} rows are left out ({reasons})")
    _refuse_repeated_ids(reading)
    return asked


def _select(reading: Reading) -> None:
    """Leave out what is no vote of the main study: each row for the first reason that applies."""
    if "has_label" in reading:
        reading.drop(~truths(reading, "has_label"), "no label")
    if "kind" in reading:
        codes, labels = encode(reading.column("kind"))
        for code, kind in enumerate(labels):
            if kind != "main":
                reading.drop(codes == code, f"kind={kind}")
    if "excluded" in reading:
        out = truths(reading, "excluded")
        if "exclude_reason" in reading and out.any():
            codes, labels = encode(reading.column("exclude_reason"))
            for code in np.unique(codes[out]):
                why = f"excluded: {labels[code]}" if code >= 0 else "excluded"
                reading.drop(out & (codes == code), why)
        reading.drop(out, "excluded")
    if "superseded" in reading:  # a database looks that up by itself
        reading.drop(truths(reading, "superseded"), "superseded")
    elif "supersedes" in reading and "vote_id" in reading:
        replaced = [text for text in encode(reading.column("supersedes"))[1] if text]
        if replaced:
            codes, ids = encode(reading.column("vote_id"))
            gone = np.isin(codes, [code for code, text in enumerate(ids) if text in set(replaced)])
            reading.drop(gone, "superseded")


def _refuse_repeated_ids(reading: Reading) -> None:
    """Two dumps put together must not count their common votes twice."""
    if "vote_id" not in reading:
        return
    codes, texts = indices(reading.column("vote_id"))
    blank = pc.index(texts, "").as_py() if texts.type in {pa.string(), pa.large_string()} else -1
    rated = codes[reading.kept & (codes >= 0) & (codes != blank)]
    if len(rated) and np.bincount(rated).max() > 1:
        repeated = pd.Series(np.where(reading.kept & (codes >= 0) & (codes != blank), codes, -1))
        again = repeated[repeated >= 0].duplicated()
        wrong = np.zeros(reading.n, dtype=bool)
        wrong[again.index[again]] = True
        reading.refuse(wrong, "vote_id", "a vote_id that no earlier row has")


def methods(reading: Reading) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names of the methods that the kept rows compare, sorted, and the two of each row (of any row)."""
    found = {side: encode(reading.column(side)) for side in ("model_a", "model_b")}
    for side, (codes, _) in found.items():
        reading.refuse(codes < 0, side, "the name of a method")
    common: dict[str, int] = {}
    places = [[common.setdefault(label, len(common)) for label in labels] for _, labels in found.values()]
    narrow = np.min_scalar_type(-1 - len(common))
    a, b = (
        np.array([*place, -1], dtype=narrow)[codes]
        for place, (codes, _) in zip(places, found.values(), strict=True)
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


def outcomes(reading: Reading, order: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows in order, the outcome of each, and how often it occurred (None: once each)."""
    if "winner" in reading:
        codes, texts = encode(reading.column("winner"))
        outcome = np.array([WINNERS.get(text.lower(), -1) for text in texts] + [-1], dtype=np.int8)[codes]
        expected = "model_a, model_b, tie or 'tie (bothbad)' (or left, right, tie; or 1, 0, 0.5)"
        reading.refuse(outcome < 0, "winner", expected)
        rows = _kept_rows(reading, order)
        return rows, outcome[rows], None if reading.weight is None else reading.weight[rows]
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


def listed(names: Iterable[str]) -> str:
    """Names in quotes with commas between."""
    return ", ".join(repr(name) for name in names) or "nothing"
