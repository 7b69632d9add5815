"""Voters as the researcher sees them: a pseudonym, what they did, and the signs that they did not look."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session, aliased

from study.protocols import protocol_of
from study.quality import Flag, answers_by_voter, flags_of
from study.schema import Assignment, Event, Exclusion, ImageRow, PromptRow, ProtocolRow, Vote, Voter

FEW = 500  # so many voters are asked for by name; more, and all are read at once


@dataclass(frozen=True)
class Known:
    """What a voter's answers say, as of the event `seq` of their chain."""

    seq: int = 0
    answered: int = 0
    median_ms: float | None = None
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Line:
    """One line of the list of voters; `trials` and `answered` leave practice out, `rule` excludes them."""

    judge: str
    source: str
    version: int
    trials: int
    created: float
    last: float | None
    answered: int
    median_ms: float | None
    flags: tuple[Flag, ...]
    rule: Exclusion | None


# What the list can be sorted by, largest first; of equals, whoever came last comes first.
ORDERS: dict[str, Callable[[Line], Any]] = {
    "flags": lambda line: len(line.flags),
    "answered": lambda line: line.answered,
    "median": lambda line: -math.inf if line.median_ms is None else -line.median_ms,
    "came": lambda line: line.created,
    "last": lambda line: line.last or 0,
}


class Voters:
    """All voters; of those who did nothing since the last look, nothing is read again."""

    def __init__(self) -> None:
        """Nobody is known yet."""
        self._known: dict[str, Known] = {}

    def lines(self, session: Session, judge: str | None = None) -> list[Line]:
        """A line for each voter, in the order in which they came; or for one `judge`, if there is such."""
        asked = (
            select(Voter.id, Voter.judge, Voter.source, Voter.trials, Voter.created, Voter.seq,
                   Voter.protocol, ProtocolRow.version, Event.at)
            .join(ProtocolRow, ProtocolRow.hash == Voter.protocol)
            .outerjoin(Event, and_(Event.voter_id == Voter.id, Event.seq == Voter.seq))
            .order_by(Voter.created, Voter.id)
        )  # fmt: skip
        voters = session.execute(asked if judge is None else asked.where(Voter.judge == judge)).all()
        self._learn(session, {voter.id: voter.seq for voter in voters})
        rules = session.scalars(
            select(Exclusion).where(Exclusion.field == "judge", Exclusion.lifted.is_(None))
        )
        excluded = {rule.value: rule for rule in rules}
        return [
            Line(
                judge=voter.judge,
                source=voter.source,
                version=voter.version,
                trials=voter.trials - protocol_of(session, voter.protocol).checks.practice,
                created=voter.created,
                last=voter.at,
                answered=known.answered,
                median_ms=known.median_ms,
                flags=known.flags,
                rule=excluded.get(voter.judge),
            )
            for voter in voters
            for known in [self._known[voter.id]]
        ]

    def _learn(self, session: Session, ends: dict[str, int]) -> None:
        """Read the answers of those whose chain ends elsewhere than at the last look."""
        changed = {
            id_: seq for id_, seq in ends.items() if id_ not in self._known or self._known[id_].seq != seq
        }
        known = self._known | {id_: Known(seq) for id_, seq in changed.items()}
        if changed:
            for voter, answers in answers_by_voter(session, changed if len(changed) <= FEW else None):
                if voter.id in changed:
                    known[voter.id] = Known(
                        changed[voter.id],
                        answers.trials,
                        median(answers.times) if answers.times else None,
                        tuple(flags_of(answers, protocol_of(session, voter.protocol).quality)),
                    )
        self._known = known  # at once: other threads may be looking


@dataclass(frozen=True)
class Given:
    """An answer: to which question, which side or none, in how many ms; late, taken back."""

    question: str
    winner: str
    rt_ms: int | None
    at: float
    late: bool
    undone: bool


@dataclass
class Shown:
    """One trial of a voter: what stood left and right, and the answers in the order in which they came."""

    trial_id: str
    position: int
    kind: str
    state: str
    prompt: str
    left: ImageRow
    right: ImageRow
    answers: list[Given]


def find_judge(session: Session, judge: str) -> Voter | None:
    """The voter of a pseudonym."""
    return session.scalars(select(Voter).where(Voter.judge == judge)).first()


def trials_of(session: Session, voter: Voter) -> list[Shown]:
    """All trials that a voter was given, in order, with all their answers."""
    left, right = aliased(ImageRow), aliased(ImageRow)
    rows = session.execute(
        select(Assignment, PromptRow.text, left, right)
        .join(left, left.id == Assignment.left_image)
        .join(right, right.id == Assignment.right_image)
        .join(PromptRow, PromptRow.id == left.prompt_id)
        .where(Assignment.voter_id == voter.id)
        .order_by(Assignment.position)
    ).all()
    trials = {
        row[0].trial_id: Shown(
            row[0].trial_id, row[0].position, row[0].kind, row[0].state, *row[1:], answers=[]
        )
        for row in rows
    }
    votes = session.scalars(
        select(Vote)
        .join(Assignment, Assignment.trial_id == Vote.trial_id)
        .where(Assignment.voter_id == voter.id)
        .order_by(Vote.event_id)
    )
    for vote in votes:
        given = Given(vote.question, vote.winner, vote.rt_ms, vote.at, vote.late, vote.undone_by is not None)
        trials[vote.trial_id].answers.append(given)
    return list(trials.values())
