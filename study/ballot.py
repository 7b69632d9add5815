"""One voter's transactions: what is open, and an answer coming in.

An answer is one transaction: its event, the vote, the cell's counter, the next assignments. What is
returned is committed.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from study.config import Protocol
from study.schema import Assignment, Cell, Event, ImageRow, Vote, Voter
from study.store import Store
from study.trials import Trial, open_trials

QUESTION = "preference"  # one question a pair, for now
WINNER_OF_SIDE = {"left": "model_a", "right": "model_b", "tie": "tie"}


class RefusedError(Exception):
    """An answer that is not taken; `code` is for programs, `status` for HTTP."""

    def __init__(self, code: str, status: int) -> None:
        """Say why, in a word and in an HTTP status."""
        super().__init__(code)
        self.code, self.status = code, status


@dataclass(frozen=True)
class Ballot:
    """Where a voter stands: answered trials, trials in all, and the open ones in order."""

    done: int
    total: int
    trials: list[Trial]

    @property
    def finished(self) -> bool:
        """Nothing is open and nothing more will come."""
        return not self.trials


@dataclass(frozen=True)
class Answer:
    """A voter's answer to one trial; `vote_id` is chosen by the client and kept when it resends."""

    vote_id: str
    side: str
    rt_ms: int | None
    display: dict[str, Any] | None


def current(store: Store, voter_id: str, protocol: Protocol) -> Ballot:
    """The voter's open trials, topped up."""
    with store.write() as session:
        return _ballot(session, _hold(session, voter_id), protocol)


def answer(store: Store, voter_id: str, trial_id: str, given: Answer, protocol: Protocol) -> Ballot:
    """Store an answer and return the ballot after it; the same vote again changes nothing.

    Raises
    ------
    RefusedError
        tie_not_allowed (400), unknown_trial (404), foreign_trial (403); already_answered (409) when another
        vote stands for the trial; vote_id_taken (409) when the id names a vote on another trial.
    """
    if given.side == "tie" and not protocol.ties:
        raise RefusedError("tie_not_allowed", 400)
    try:
        with store.write() as session:
            voter = _hold(session, voter_id)
            _store(session, voter, trial_id, given)
            return _ballot(session, voter, protocol)
    except IntegrityError:
        # Somebody else took the vote id between our look and our write: the database has the last word.
        with store.read() as session:
            if session.get(Vote, given.vote_id) is None:
                raise
        raise RefusedError("vote_id_taken", 409) from None


def shown_image(store: Store, voter_id: str, trial_id: str, side: str) -> str | None:
    """The key of the file that stands on one side of the voter's own trial."""
    image = Assignment.left_image if side == "left" else Assignment.right_image
    with store.read() as session:
        return session.scalar(
            select(ImageRow.served_key)
            .join(Assignment, image == ImageRow.id)
            .where(Assignment.trial_id == trial_id, Assignment.voter_id == voter_id)
        )


def _hold(session: Session, voter_id: str) -> Voter:
    """The voter's row, locked: two requests of one voter take turns."""
    return session.scalars(select(Voter).where(Voter.id == voter_id).with_for_update()).one()


def _store(session: Session, voter: Voter, trial_id: str, given: Answer) -> None:
    assignment = session.get(Assignment, trial_id)
    if assignment is None:
        raise RefusedError("unknown_trial", 404)
    if assignment.voter_id != voter.id:
        raise RefusedError("foreign_trial", 403)
    named = session.get(Vote, given.vote_id)
    if named is not None and named.trial_id == trial_id:
        return  # sent again: it is stored already
    if named is not None:
        raise RefusedError("vote_id_taken", 409)
    if assignment.state != "open":
        raise RefusedError("already_answered", 409)

    now, winner = time.time(), WINNER_OF_SIDE[given.side]
    event = Event(
        voter_id=voter.id,
        trial_id=trial_id,
        event="voted",
        at=now,
        body={
            "vote_id": given.vote_id,
            "question": QUESTION,
            "winner": winner,
            "rt_ms": given.rt_ms,
            "display": given.display,
        },
    )
    session.add(event)
    session.flush()
    session.add(
        Vote(
            vote_id=given.vote_id,
            trial_id=trial_id,
            event_id=event.id,
            question=QUESTION,
            winner=winner,
            rt_ms=given.rt_ms,
            display=None if given.display is None else json.dumps(given.display, sort_keys=True),
            at=now,
        )
    )
    assignment.state = "voted"
    session.flush()
    session.execute(update(Cell).where(Cell.id == assignment.cell_id).values(votes=Cell.votes + 1))


def _ballot(session: Session, voter: Voter, protocol: Protocol) -> Ballot:
    done, trials = open_trials(session, voter, protocol)
    return Ballot(done, voter.trials, trials)
