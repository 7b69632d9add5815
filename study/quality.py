"""Signs that a voter did not look: computed from the votes, by the thresholds of their protocol.

What a bot check said when they joined is one more, unless it said that they are a person.

A flag excludes nobody. It is shown, and whoever runs the study decides by `study exclude`, with a reason.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from math import comb
from statistics import quantiles
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from study.config import Quality
from study.protocols import protocol_of
from study.schema import Assignment, Vote, Voter

BOT_CHECKS = {"failed": "bot_check_failed", "unverified": "bot_check_unverified"}  # verdict → flag
FLAGS = ("too_fast", "failed_golds", "inconsistent", "one_side", "rhythm", "hidden", *BOT_CHECKS.values())
COUNTED = ("main", "repeat", "gold", "null", "noise_floor")  # all but practice


@dataclass(frozen=True)
class Flag:
    """One sign: the value found, and the limit that it passed; a bot check has neither."""

    name: str
    value: float | None = None
    limit: float | None = None


@dataclass
class Answers:
    """What one voter answered, practice and undone votes aside.

    A session's flags are about the voter, so the answers to all questions count together; `repeats` compares
    a question's answer with its own first answer.
    """

    trials: int = 0
    times: list[int] = field(default_factory=list)  # ms to the first answer of a trial
    key_times: list[int] = field(default_factory=list)  # the same, of trials answered by key
    hidden: list[bool] = field(default_factory=list)  # per trial
    left: int = 0  # of main trials
    right: int = 0
    golds: list[bool] = field(default_factory=list)  # whether the clean image won
    repeats: list[bool] = field(default_factory=list)  # whether the same image won again
    bot_check: str | None = None  # its verdict


def voter_flags(session: Session) -> dict[str, list[Flag]]:
    """The flags of each judge who has any."""
    found = {}
    for voter, answers in answers_by_voter(session):
        flags = flags_of(answers, protocol_of(session, voter.protocol).quality)
        if flags:
            found[voter.judge] = flags
    return found


def flags_of(answers: Answers, limits: Quality) -> list[Flag]:
    """What the answers of one voter are flagged for; each sign needs `limits.answers` answers of its kind.

    Golds and repeats are few by design: two of them are enough.
    """
    flags = []

    def flag(name: str, value: float, limit: float, above: bool) -> None:
        if value > limit if above else value < limit:
            flags.append(Flag(name, round(value, 4), limit))

    if len(answers.times) >= limits.answers:
        fast = sum(time < limits.too_fast_ms for time in answers.times)
        flag("too_fast", fast / len(answers.times), limits.too_fast, above=True)
        flag("hidden", sum(answers.hidden) / len(answers.hidden), limits.hidden, above=True)
    if len(answers.golds) >= 2:
        flag("failed_golds", sum(answers.golds) / len(answers.golds), limits.golds_right, above=False)
    if len(answers.repeats) >= 2:
        flag("inconsistent", sum(answers.repeats) / len(answers.repeats), limits.repeats_same, above=False)
    if answers.left + answers.right >= limits.answers:
        flag("one_side", binomial_p(answers.left, answers.right), limits.one_side_p, above=False)
    if len(answers.key_times) >= limits.answers:
        low, median, high = quantiles(answers.key_times, n=4)
        flag("rhythm", (high - low) / max(median, 1), limits.rhythm, above=False)
    if answers.bot_check in BOT_CHECKS:
        flags.append(Flag(BOT_CHECKS[answers.bot_check]))
    return flags


def binomial_p(left: int, right: int) -> float:
    """Two-sided exact p of so many left answers if left and right were equally likely."""
    n, k = left + right, min(left, right)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)


def answers_by_voter(session: Session, among: Collection[str] | None = None) -> Iterator[tuple[Any, Answers]]:
    """One voter after the other (a row with id, judge, protocol), with what they answered.

    Of all voters, or `among` those of these ids; whoever answered nothing is left out.
    """
    asked = (
        select(
            Voter.id, Voter.judge, Voter.protocol, Voter.bot_check, Assignment.trial_id, Assignment.kind,
            Assignment.first_left, Assignment.repeat_of, Vote.question, Vote.winner, Vote.rt_ms, Vote.display,
        )
        .join(Assignment, Assignment.voter_id == Voter.id)
        .join(Vote, Vote.trial_id == Assignment.trial_id)
        .where(Vote.undone_by.is_(None), Assignment.kind.in_(COUNTED))
        .order_by(Assignment.voter_id, Assignment.position, Vote.rt_ms)
        .execution_options(yield_per=5000)
    )  # fmt: skip
    if among is not None:
        asked = asked.where(Voter.id.in_(among))
    for _, theirs in groupby(session.execute(asked), key=lambda row: row.id):
        rows = list(theirs)
        yield rows[0], gather(rows)


def gather(rows: list[Any]) -> Answers:
    """The answers of one voter, from rows of votes with their assignments, in order."""
    answers = Answers(bot_check=rows[0].bot_check)
    preferred: dict[tuple[str, str], str] = {}
    seen: set[str] = set()
    for row in rows:
        if row.trial_id not in seen and row.rt_ms is not None:
            shown = json.loads(row.display) if row.display else {}
            answers.times.append(row.rt_ms)
            answers.hidden.append(bool(shown.get("hidden_ms")))
            if shown.get("input") == "key":
                answers.key_times.append(row.rt_ms)
        answers.trials += row.trial_id not in seen
        seen.add(row.trial_id)
        # Sides come and go with the counterbalance; the first image of a cell stays what it is.
        won = {"model_a": row.first_left, "model_b": not row.first_left}.get(row.winner)
        what = "neither" if won is None else "first" if won else "second"
        if row.kind == "main":
            answers.left += row.winner == "model_a"
            answers.right += row.winner == "model_b"
            preferred[row.trial_id, row.question] = what
        elif row.kind == "gold":
            answers.golds.append(what == "first")
        elif row.kind == "repeat" and (row.repeat_of, row.question) in preferred:
            answers.repeats.append(preferred[row.repeat_of, row.question] == what)
    return answers
