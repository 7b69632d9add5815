"""Whether the study is open, paused or closed: what the researcher decided last, in the chain of decisions.

Paused: nobody gets a new pair, and everybody but who is done is told to come back. Closed: nobody new is let
in, and voters get no further pair. Either way, answers to pairs that were given out are stored.
"""

import time

from sqlalchemy.orm import Session

from study.chain import LAST_TURN, TURNS, decide, hold_decisions
from study.store import Store

OPEN, PAUSED, CLOSED = "open", "paused", "closed"
AFTER = dict(zip(TURNS, (PAUSED, OPEN, CLOSED), strict=True))  # decision → what the study is then


class ShutError(Exception):
    """Somebody meets a study that is not open to them; `standing` says what it is."""

    def __init__(self, standing: str) -> None:
        """Say whether it is paused or closed."""
        super().__init__(standing)
        self.standing = standing


def standing(session: Session) -> str:
    """OPEN, PAUSED or CLOSED."""
    return after(session.scalar(LAST_TURN))


def after(turn: str | None) -> str:
    """What the study is after the last decision about it, or after none."""
    return OPEN if turn is None else AFTER[turn]


def turn(store: Store, decision: str) -> bool:
    """Decide that the study is `paused`, `resumed` (from a pause or from its end) or `closed`.

    False if it is that already: then nothing is recorded.
    """
    with store.write() as session:
        hold_decisions(session)
        if standing(session) == AFTER[decision]:
            return False
        decide(session, decision, time.time(), {})
    return True


def must_admit(store: Store) -> None:
    """Whether somebody new may come in; ShutError if not."""
    with store.read() as session:
        found = standing(session)
    if found != OPEN:
        raise ShutError(found)


def must_go_on(store: Store) -> None:
    """Whether a voter may go on now; ShutError if not."""
    with store.read() as session:
        if standing(session) == PAUSED:
            raise ShutError(PAUSED)
