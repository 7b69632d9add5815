"""All answers of a source, rated or not: how fast, how steady and how right each judge was.

Repeats are answers that name in `repeat_of` the trial they repeat; control questions are those of kind
`gold`, and right is what their column `expected` says (in the words of `winner`). What cannot be judged
is said, never passed over.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from elo.counts import RIGHT, TIE
from elo.rated import WINNERS
from elo.sources import open_source
from elo.votes import resolve, skips

COLUMNS = (
    "judge",
    "model_a",
    "model_b",
    "winner",
    "question",
    "kind",
    "rt_ms",
    "trial_id",
    "repeat_of",
    "expected",
)
CONDUCT = ("median_s", "repeats", "repeats_same", "golds", "golds_right")


def read_answers(
    source: Any,
    column_map: Mapping[str, str] | None = None,
    *,
    question: str | None = None,
    on_error: str = "stop",
) -> pd.DataFrame:
    """All rows of a source with those of COLUMNS that it has, as it wrote them.

    Unlike `read_votes` this keeps repeats, control questions and rows that were excluded; with a
    `question`, those on it.
    """
    opened = open_source(source, skip=skips(on_error))
    columns = resolve(opened, column_map or {}, COLUMNS)
    table = opened.read(list(dict.fromkeys(columns.values())))
    frame = pd.DataFrame({ours: table.column(theirs).to_pandas() for ours, theirs in columns.items()})
    # Text may come as categories, which cannot be mixed.
    frame = frame.astype({name: object for name in frame.columns if name != "rt_ms"})
    return frame if question is None else frame[_text(frame, "question") == question]


def conduct(answers: pd.DataFrame, judges: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """One row a judge with the columns CONDUCT, and what could not be judged, in sentences.

    median_s          median seconds to answer
    repeats, golds    how many repeats and control questions could be judged, 0 where none
    …_same, …_right   the share of them answered as before, or as expected; NaN where there are none
    """
    table = pd.DataFrame(index=pd.Index(judges), columns=list(CONDUCT), dtype=float)
    table["repeats"] = table["golds"] = 0
    notes: list[str] = []
    if "judge" not in answers or "winner" not in answers:
        return table, ["No speed, repeats or control questions: the answers do not stand one by one."]
    answers = answers.assign(judge=answers["judge"].astype(str).str.strip())
    if "rt_ms" in answers and answers["rt_ms"].notna().any():
        seconds = pd.to_numeric(answers["rt_ms"], errors="coerce") / 1000
        table["median_s"] = seconds.groupby(answers["judge"]).median().reindex(table.index)
    else:
        notes.append("No speed: these votes do not say how long an answer took (rt_ms).")
    outcome = answers["winner"].astype(str).str.strip().str.lower().map(WINNERS)
    kind = _text(answers, "kind")
    repeat = kind.eq("repeat") | _text(answers, "repeat_of").ne("")
    if repeat.any():
        same = _same_as_before(answers, outcome)[repeat]
        _share(table, "repeats", "repeats_same", same, answers["judge"])
        if same.isna().any():
            notes.append(
                f"{same.isna().sum()} of {len(same)} repeats could not be judged: the trial they repeat "
                "(repeat_of, a trial_id) is not among these votes."
            )
    gold = kind.eq("gold")
    if gold.any():
        wanted = _text(answers, "expected").str.lower().map(WINNERS)
        right = (outcome == wanted).where(wanted.notna() & outcome.notna()).astype(object)[gold]
        _share(table, "golds", "golds_right", right, answers["judge"])
        if right.isna().any():
            why = "no right answer is known" if "expected" in answers else "there is no column expected"
            notes.append(
                f"{right.isna().sum()} of {len(right)} control questions could not be judged: {why}."
            )
    return table, notes


def _same_as_before(answers: pd.DataFrame, outcome: pd.Series) -> pd.Series:
    """Whether an answer is that of the trial it repeats, on whichever sides the images stood."""
    preferred = answers["model_b"].where(outcome == RIGHT, answers["model_a"]).where(outcome != TIE, "tie")
    preferred = preferred.astype(str).where(outcome.notna())
    trial = _text(answers, "trial_id")
    once = trial.ne("") & ~trial.duplicated()
    first = preferred[once].set_axis(trial[once])
    before = _text(answers, "repeat_of").map(first)
    return (preferred == before).where(preferred.notna() & before.notna()).astype(object)


def _text(answers: pd.DataFrame, name: str) -> pd.Series:
    """A column as stripped text, "" where unknown."""
    if name not in answers:
        return pd.Series("", index=answers.index, dtype=object)
    column = answers[name]
    return column.where(column.notna(), "").astype(str).str.strip()


def _share(table: pd.DataFrame, number: str, share: str, right: pd.Series, judge: pd.Series) -> None:
    known = right.dropna().astype(float)
    grouped = known.groupby(judge[known.index])
    table[number] = grouped.size().reindex(table.index).fillna(0).astype(int)
    table[share] = grouped.mean().reindex(table.index)
