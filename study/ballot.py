"""One voter's transactions: what is open, an answer coming in, an answer taken back.

An answer is one transaction: its event, the vote, the counters, the next assignments. What is returned is
committed.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from study.chain import record
from study.config import Protocol
from study.gate import OPEN, PAUSED, standing
from study.leases import reclaim, renew, settle, unsettle
from study.protocols import protocol_of
from study.schema import WAITING, Assignment, Cell, Event, ImageRow, PromptRow, Quota, Vote, Voter
from study.store import Store
from study.trials import Trial, hand_out

WINNER_OF_SIDE = {"left": "model_a", "right": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}
UNDO = 2  # a vote can be taken back while it is one of so many last ones


class RefusedError(Exception):
    """An answer that is not taken; `code` is for programs, `status` for HTTP."""

    def __init__(self, code: str, status: int) -> None:
        """Say why, in a word and in an HTTP status."""
        super().__init__(code)
        self.code, self.status = code, status


@dataclass(frozen=True)
class Ballot:
    """Where a voter stands: trials done, trials in all, and the open ones in order.

    `busy`: nothing is open only because others were changing every quota that has room; ask again.
    `paused`: the voter has not had all their trials, but gets no other one until the study is resumed.
    """

    done: int
    total: int
    trials: list[Trial]
    busy: bool = False
    paused: bool = False

    @property
    def finished(self) -> bool:
        """Nothing is open and nothing more will come."""
        return not self.trials and not self.busy and not self.paused


@dataclass(frozen=True)
class Answer:
    """A voter's answer to one question; `rt_ms` from the common reveal."""

    question: str
    side: str
    rt_ms: int | None


@dataclass(frozen=True)
class Answers:
    """A voter's answers to one trial; `vote_id` is chosen by the client and kept when it resends."""

    vote_id: str
    given: tuple[Answer, ...]
    display: dict[str, Any] | None = None

    def row_id(self, question: str) -> str:
        """The id of the vote on one question: the client's own where there is only one."""
        return self.vote_id if len(self.given) == 1 else f"{self.vote_id}.{question}"


def current(store: Store, voter_id: str) -> Ballot:
    """The voter's open trials, topped up, their lapsed leases renewed."""
    with store.write() as session:
        return ballot_of(session, hold(session, voter_id), wait=True)


def answer(store: Store, voter_id: str, trial_id: str, answers: Answers) -> Ballot:
    """Store the answers to a trial and return the ballot after it; the same again changes nothing.

    Raises
    ------
    RefusedError
        wrong_questions, answer_not_allowed (400), foreign_trial (403), unknown_trial (404);
        already_answered (409) when another vote stands for the trial; vote_id_taken (409) when the id
        names a vote on another trial.
    """
    try:
        with store.write() as session:
            voter = hold(session, voter_id)
            _store(session, voter, trial_id, answers)
            ballot = ballot_of(session, voter)
    except IntegrityError:
        # The id names a vote already: the database has the last word.
        if not _is_stored(store, trial_id, answers):
            raise
        ballot = current(store, voter_id)
    return current(store, voter_id) if ballot.busy else ballot


def undo(store: Store, voter_id: str, trial_id: str, vote_id: str) -> Ballot:
    """Take back a vote of the voter's last two and return the ballot, with its trial open again.

    Taking back a vote that was taken back changes nothing.

    Raises
    ------
    RefusedError
        foreign_trial, undo_not_allowed (403), unknown_trial, unknown_vote (404), too_late_to_undo (409).
    """
    with store.write() as session:
        voter = hold(session, voter_id)
        _take_back(session, voter, trial_id, vote_id)
        return ballot_of(session, voter)


def shown_image(store: Store, voter_id: str, trial_id: str, side: str) -> str | None:
    """The key of the file that stands on one side of the voter's own trial."""
    image = Assignment.left_image if side == "left" else Assignment.right_image
    with store.read() as session:
        return session.scalar(
            select(ImageRow.served_key)
            .join(Assignment, image == ImageRow.id)
            .where(Assignment.trial_id == trial_id, Assignment.voter_id == voter_id)
        )


def hold(session: Session, voter_id: str) -> Voter:
    """The voter's row, locked: two requests of one voter take turns."""
    return session.scalars(select(Voter).where(Voter.id == voter_id).with_for_update()).one()


def own_trial(session: Session, voter: Voter, trial_id: str) -> tuple[Assignment, Cell]:
    """The voter's own trial, locked against whoever gives lapsed leases back."""
    found = session.execute(
        select(Assignment, Cell)
        .join(Cell, Cell.id == Assignment.cell_id)
        .where(Assignment.trial_id == trial_id)
        .with_for_update(of=Assignment)
    ).first()
    if found is None:
        raise RefusedError("unknown_trial", 404)
    if found.Assignment.voter_id != voter.id:
        raise RefusedError("foreign_trial", 403)
    return found.Assignment, found.Cell


def _store(session: Session, voter: Voter, trial_id: str, answers: Answers) -> None:
    _check(protocol_of(session, voter.protocol), answers)
    assignment, cell = own_trial(session, voter, trial_id)
    if assignment.state not in WAITING:
        first = session.get(Vote, answers.row_id(answers.given[0].question))
        if first is not None and first.trial_id == trial_id:
            return  # sent again: it is stored already
        raise RefusedError("already_answered" if first is None else "vote_id_taken", 409)

    now = time.time()
    quota = quota_of(assignment, cell)
    late = settle(session, quota, assignment, now) if quota else False
    for given in answers.given:
        _add_vote(session, voter, assignment, answers, given, late, now)
    assignment.state = "voted"
    session.flush()
    _count(session, assignment, 1)


def _add_vote(
    session: Session,
    voter: Voter,
    assignment: Assignment,
    answers: Answers,
    given: Answer,
    late: bool,
    now: float,
) -> None:
    superseded = None
    if assignment.state == "reopened":
        superseded = session.scalar(
            select(Vote.vote_id)
            .join(Event, Event.id == Vote.event_id)
            .where(Vote.trial_id == assignment.trial_id, Vote.question == given.question)
            .order_by(Event.seq.desc())
            .limit(1)
        )
    body = {
        "vote_id": answers.row_id(given.question),
        "question": given.question,
        "winner": WINNER_OF_SIDE[given.side],
        "rt_ms": given.rt_ms,
        "display": answers.display,
        "late": late,
        "supersedes": superseded,
    }
    event = record(session, voter, assignment.trial_id, "voted", now, body)
    shown = None if answers.display is None else json.dumps(answers.display, sort_keys=True)
    vote = {**body, "display": shown, "trial_id": assignment.trial_id, "at": now}
    session.add(Vote(**vote, event=event))


def _check(protocol: Protocol, answers: Answers) -> None:
    questions = {question.id: question for question in protocol.questions}
    if sorted(given.question for given in answers.given) != sorted(questions):
        raise RefusedError("wrong_questions", 400)
    if any(given.side not in questions[given.question].sides for given in answers.given):
        raise RefusedError("answer_not_allowed", 400)


def _is_stored(store: Store, trial_id: str, answers: Answers) -> bool:
    """Whether a vote of that id was given to this very trial; RefusedError if to another."""
    with store.read() as session:
        vote = session.get(Vote, answers.row_id(answers.given[0].question))
    if vote is not None and vote.trial_id != trial_id:
        raise RefusedError("vote_id_taken", 409) from None
    return vote is not None


def _take_back(session: Session, voter: Voter, trial_id: str, vote_id: str) -> None:
    assignment, cell = own_trial(session, voter, trial_id)
    protocol = protocol_of(session, voter.protocol)
    if not protocol.page.undo:
        raise RefusedError("undo_not_allowed", 403)
    votes = session.scalars(select(Vote).where(Vote.trial_id == trial_id)).all()
    named = [vote for vote in votes if vote_id in (vote.vote_id, vote.vote_id.rpartition(".")[0])]
    if not named:
        raise RefusedError("unknown_vote", 404)
    if named[0].undone_by is not None:
        return  # sent again
    last = session.scalars(
        select(Vote.trial_id)
        .join(Event, Event.id == Vote.event_id)
        .where(Event.voter_id == voter.id, Vote.undone_by.is_(None))
        .group_by(Vote.trial_id)
        .order_by(func.max(Event.seq).desc())
        .limit(UNDO)
    ).all()
    if trial_id not in last:
        raise RefusedError("too_late_to_undo", 409)
    now = time.time()
    expires = None
    quota = quota_of(assignment, cell)
    if quota:
        expires = now + 60 * protocol.quota.lease_minutes
        unsettle(session, quota, assignment, expires)
    body = {"votes": [vote.vote_id for vote in named], "expires": expires}
    event = record(session, voter, trial_id, "undone", now, body)
    session.flush()
    for vote in named:
        vote.undone_by = event.id
    assignment.state = "reopened"
    session.flush()
    _count(session, assignment, -1)


def quota_of(assignment: Assignment, cell: Cell) -> int | None:
    """The quota that a trial counts in; repeats and checks count in none."""
    return cell.quota_id if assignment.kind == "main" else None


def _count(session: Session, assignment: Assignment, step: int) -> None:
    """Count an answer in its cell; a repeat is no further vote on it."""
    if assignment.kind != "repeat":
        session.execute(
            update(Cell)
            .where(Cell.id == assignment.cell_id)
            .values(votes=Cell.votes + step)
            .execution_options(synchronize_session=False)
        )


def ballot_of(session: Session, voter: Voter, wait: bool = False) -> Ballot:
    """The open trials of a voter whose row is held, topped up; `wait` as in `hand_out`."""
    protocol, now = protocol_of(session, voter.protocol), time.time()
    rows = session.execute(
        select(
            Assignment.trial_id, Assignment.position, PromptRow.text, ImageRow.width, ImageRow.height,
            Assignment.kind, Assignment.expires, Assignment.first_left, Cell.quota_id,
        )
        .join(Cell, Cell.id == Assignment.cell_id)
        .join(ImageRow, ImageRow.id == Assignment.left_image)
        .join(PromptRow, PromptRow.id == Cell.prompt_id)
        .where(Assignment.voter_id == voter.id, Assignment.state.in_(WAITING))
        .order_by(Assignment.position)
    ).all()  # fmt: skip
    trials = [Trial(*row[:5], practice=row.kind == "practice") for row in rows]
    gate = standing(session) if voter.given < voter.trials else OPEN
    if gate == OPEN:
        _top_up(session, voter, protocol, trials, now, wait)
    for row in rows:
        if row.kind == "main" and (row.expires is None or row.expires < now):
            _renew(session, voter, protocol, row, now)
    if reclaim(session, now) and not trials and gate == OPEN:
        _top_up(session, voter, protocol, trials, now)
    busy = not trials and gate == OPEN and voter.given < voter.trials and _has_room(session, voter, protocol)
    return Ballot(voter.given - len(trials), voter.trials, trials, busy, paused=gate == PAUSED)


def _top_up(
    session: Session, voter: Voter, protocol: Protocol, trials: list[Trial], now: float, wait: bool = False
) -> None:
    """Hand out trials up to the one on the screen and `prefetch` more."""
    while len(trials) < 1 + protocol.prefetch and voter.given < voter.trials:
        trial = hand_out(session, voter, protocol, now, wait)
        if trial is None:
            break
        wait = False  # from now on this transaction holds a quota
        trials.append(trial)


def _renew(session: Session, voter: Voter, protocol: Protocol, row: Any, now: float) -> None:
    """Let a trial that the voter still has hold a place again, if there is one; else it will be late."""
    if not renew(session, row.quota_id, row.first_left, row.expires is not None, protocol.quota.votes):
        return
    expires = now + 60 * protocol.quota.lease_minutes
    changed = session.execute(
        update(Assignment)
        .where(Assignment.trial_id == row.trial_id, Assignment.expires.is_not_distinct_from(row.expires))
        .values(expires=expires)
        .returning(Assignment.trial_id)
        .execution_options(synchronize_session=False)
    ).first()
    if changed:  # else somebody gave the place back just now; the next request will look again
        record(session, voter, row.trial_id, "renewed", now, {"expires": expires})
        session.flush()


def _has_room(session: Session, voter: Voter, protocol: Protocol) -> bool:
    """Whether a pair that the voter has not seen wants votes, whoever is changing its quota just now."""
    seen = exists().where(Assignment.voter_id == voter.id, Assignment.cell_id == Cell.id)
    room = (
        select(Cell.id).join(Quota, Quota.id == Cell.quota_id).where(Quota.protocol == voter.protocol, ~seen)
    )
    if protocol.quota.votes:
        room = room.where(Quota.load < protocol.quota.votes)
    return session.scalar(room.limit(1)) is not None
