"""One voter's transactions: what is open, an answer coming in, an answer taken back.

An answer is one transaction: its event, the vote, the counters, the next assignments. What is returned is
committed. Statements that each answer needs are built once (see study.chain).
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, case, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from study.chain import Held, holding, record
from study.config import Protocol
from study.gate import OPEN, PAUSED, after
from study.leases import reclaim, renew, settle, unsettle
from study.own_trials import RefusedError, open_trials, own_trial, quota_of, set_state
from study.protocols import protocol_of
from study.schema import table
from study.store import Store
from study.trials import Trial, hand_out

WINNER_OF_SIDE = {"left": "model_a", "right": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}
UNDO = 2  # a vote can be taken back while it is one of so many last ones
RECLAIM = 10  # a voter's page looks for lapsed leases, and so does each tenth trial given to them

assignments, cells, events = table("assignments"), table("cells"), table("events")
quotas, votes = table("quotas"), table("votes")

ADD_VOTE = insert(votes)
TRIAL_OF_VOTE = select(votes.c.trial_id).where(votes.c.vote_id == bindparam("vote"))
# The trials that were answered last, also those whose vote was taken back: else, by taking back the last ones
# again and again, a voter would get to their first one. `vote_id` is the vote that stands, if any.
LAST_VOTES = (
    select(votes.c.trial_id, func.min(case((votes.c.undone_by.is_(None), votes.c.vote_id))).label("vote_id"))
    .join(events, events.c.id == votes.c.event_id)
    .where(events.c.voter_id == bindparam("voter"))
    .group_by(votes.c.trial_id)
    .order_by(func.max(events.c.seq).desc())
    .limit(UNDO)
)
COUNT = update(cells).where(cells.c.id == bindparam("cell")).values(votes=cells.c.votes + bindparam("step"))


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
    with holding(store, voter_id) as (db, voter):
        return ballot_of(db, voter, open_trials(db, voter), fresh=True)


def last_votes(store: Store, voter_id: str) -> list[tuple[Trial, str]]:
    """What the voter may take back, in the order in which it was answered: trials and their vote's id.

    Nothing from before a skip or a report, which the page does not go behind.
    """
    with holding(store, voter_id) as (db, voter):
        if not protocol_of(db, voter.protocol).page.undo:
            return []
        ended = (
            select(func.coalesce(func.max(events.c.seq), 0))
            .where(events.c.voter_id == voter.id, events.c.event.in_(("skipped", "reported")))
            .scalar_subquery()
        )
        rows = db.execute(LAST_VOTES.where(events.c.seq > ended), {"voter": voter.id}).all()
        # With several questions, a vote's row is called after the question, too.
        return [
            (_trial(own_trial(db, voter, row.trial_id)), row.vote_id.partition(".")[0])
            for row in reversed(rows)
            if row.vote_id is not None
        ]


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
        with holding(store, voter_id) as (db, voter):
            _check(protocol_of(db, voter.protocol), answers)
            waiting = open_trials(db, voter)
            trial = waiting.pop(trial_id, None)
            if trial is None:
                _must_be_stored(db, voter, trial_id, answers)
            else:
                _store(db, voter, trial, answers)
            ballot = ballot_of(db, voter, waiting)
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
    with holding(store, voter_id) as (db, voter):
        _take_back(db, voter, trial_id, vote_id)
        return ballot_of(db, voter, open_trials(db, voter))


def _must_be_stored(db: Connection, voter: Held, trial_id: str, answers: Answers) -> None:
    """Answers to a trial that waits for none: sent again, or refused."""
    own_trial(db, voter, trial_id)
    voted_on = db.scalar(TRIAL_OF_VOTE, {"vote": answers.row_id(answers.given[0].question)})
    if voted_on != trial_id:
        raise RefusedError("already_answered" if voted_on is None else "vote_id_taken", 409)


def _store(db: Connection, voter: Held, trial: Any, answers: Answers) -> None:
    now = time.time()
    quota = quota_of(trial)
    late = settle(db, quota, trial, now) if quota else False
    for given in answers.given:
        _add_vote(db, voter, trial, answers, given, late, now)
    set_state(db, trial.trial_id, "voted")
    _count(db, trial, 1)


def _add_vote(
    db: Connection, voter: Held, trial: Any, answers: Answers, given: Answer, late: bool, now: float
) -> None:
    body = {
        "vote_id": answers.row_id(given.question),
        "question": given.question,
        "winner": WINNER_OF_SIDE[given.side],
        "rt_ms": given.rt_ms,
        "display": answers.display,
        "late": late,
        "supersedes": _superseded(db, trial.trial_id, given) if trial.state == "reopened" else None,
    }
    event = record(db, voter, trial.trial_id, "voted", now, body)
    shown = None if answers.display is None else json.dumps(answers.display, sort_keys=True)
    row = {**body, "display": shown, "trial_id": trial.trial_id, "event_id": event, "at": now}
    db.execute(ADD_VOTE, row)


def _superseded(db: Connection, trial_id: str, given: Answer) -> str | None:
    """The vote that was taken back before this one."""
    return db.scalar(
        select(votes.c.vote_id)
        .join(events, events.c.id == votes.c.event_id)
        .where(votes.c.trial_id == trial_id, votes.c.question == given.question)
        .order_by(events.c.seq.desc())
        .limit(1)
    )


def _check(protocol: Protocol, answers: Answers) -> None:
    questions = {question.id: question for question in protocol.questions}
    if sorted(given.question for given in answers.given) != sorted(questions):
        raise RefusedError("wrong_questions", 400)
    if any(given.side not in questions[given.question].sides for given in answers.given):
        raise RefusedError("answer_not_allowed", 400)


def _is_stored(store: Store, trial_id: str, answers: Answers) -> bool:
    """Whether a vote of that id was given to this very trial; RefusedError if to another."""
    with store.read() as session:
        voted_on = session.scalar(TRIAL_OF_VOTE, {"vote": answers.row_id(answers.given[0].question)})
    if voted_on not in (None, trial_id):
        raise RefusedError("vote_id_taken", 409) from None
    return voted_on is not None


def _take_back(db: Connection, voter: Held, trial_id: str, vote_id: str) -> None:
    trial = own_trial(db, voter, trial_id)
    protocol = protocol_of(db, voter.protocol)
    if not protocol.page.undo:
        raise RefusedError("undo_not_allowed", 403)
    cast = db.execute(select(votes.c.vote_id, votes.c.undone_by).where(votes.c.trial_id == trial_id))
    named = [vote for vote in cast if vote_id in (vote.vote_id, vote.vote_id.rpartition(".")[0])]
    if not named:
        raise RefusedError("unknown_vote", 404)
    if named[0].undone_by is not None:
        return  # sent again
    if trial_id not in db.scalars(LAST_VOTES, {"voter": voter.id}).all():
        raise RefusedError("too_late_to_undo", 409)
    now = time.time()
    expires = None
    quota = quota_of(trial)
    if quota:
        expires = now + 60 * protocol.quota.lease_minutes
        unsettle(db, quota)
    taken_back = [vote.vote_id for vote in named]
    body = {"votes": taken_back, "expires": expires}
    event = record(db, voter, trial_id, "undone", now, body)
    db.execute(update(votes).where(votes.c.vote_id.in_(taken_back)).values(undone_by=event))
    set_state(db, trial_id, "reopened", expires)
    _count(db, trial, -1)


def _count(db: Connection, trial: Any, step: int) -> None:
    """Count an answer in its cell; a repeat is no further vote on it."""
    if trial.kind != "repeat":
        db.execute(COUNT, {"cell": trial.cell_id, "step": step})


def ballot_of(db: Connection, voter: Held, waiting: dict[str, Any], fresh: bool = False) -> Ballot:
    """The ballot of a voter whose trials `waiting` are open, topped up, lapsed leases renewed.

    fresh  whether no quota was changed in this transaction before, so that one may be waited for
    """
    protocol, now = protocol_of(db, voter.protocol), time.time()
    trials = [_trial(row) for row in waiting.values()]
    gate, before = after(voter.turn) if voter.given < voter.trials else OPEN, voter.given
    if gate == OPEN:
        _top_up(db, voter, protocol, trials, now, wait=fresh)
    for row in waiting.values():
        if row.kind == "main" and (row.expires is None or row.expires < now):
            _renew(db, voter, protocol, row, now)
    look = fresh or not trials or before // RECLAIM < voter.given // RECLAIM
    if look and reclaim(db, now) and not trials and gate == OPEN:
        _top_up(db, voter, protocol, trials, now)
    busy = not trials and gate == OPEN and voter.given < voter.trials and _has_room(db, voter, protocol)
    return Ballot(voter.given - len(trials), voter.trials, trials, busy, paused=gate == PAUSED)


def _trial(row: Any) -> Trial:
    return Trial(row.trial_id, row.position, row.text, row.width, row.height, row.kind == "practice")


def _top_up(
    db: Connection, voter: Held, protocol: Protocol, trials: list[Trial], now: float, wait: bool = False
) -> None:
    """Hand out trials up to the one on the screen and `prefetch` more."""
    while len(trials) < 1 + protocol.prefetch and voter.given < voter.trials:
        trial = hand_out(db, voter, protocol, now, wait)
        if trial is None:
            break
        wait = False  # from now on this transaction holds a quota
        trials.append(trial)


def _renew(db: Connection, voter: Held, protocol: Protocol, row: Any, now: float) -> None:
    """Let a trial that the voter still has hold a place again, if there is one; else it will be late."""
    if not renew(db, row.quota_id, row.first_left, row.expires is not None, protocol.quota.votes):
        return
    expires = now + 60 * protocol.quota.lease_minutes
    changed = db.execute(
        update(assignments)
        .where(
            assignments.c.trial_id == row.trial_id, assignments.c.expires.is_not_distinct_from(row.expires)
        )
        .values(expires=expires)
        .returning(assignments.c.trial_id)
    ).first()
    if changed:  # else somebody gave the place back just now; the next request will look again
        record(db, voter, row.trial_id, "renewed", now, {"expires": expires})


def _has_room(db: Connection, voter: Held, protocol: Protocol) -> bool:
    """Whether a pair that the voter has not seen wants votes, whoever is changing its quota just now."""
    seen = exists().where(assignments.c.voter_id == voter.id, assignments.c.cell_id == cells.c.id)
    room = (
        select(cells.c.id)
        .join(quotas, quotas.c.id == cells.c.quota_id)
        .where(quotas.c.protocol == voter.protocol, ~seen)
    )
    if protocol.quota.votes:
        room = room.where(quotas.c.load < protocol.quota.votes)
    return db.scalar(room.limit(1)) is not None
