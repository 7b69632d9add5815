"""Hash chains: each event carries the hash of the event before it, so that none can be changed unseen.

A voter has a chain of their own, whose end stands in the voter's row; the researcher's decisions are one
more chain.

Statements that each vote needs are built once, on the tables: by way of their classes each costs twice as
much, built anew five times (bench/cost.py counts what a vote costs).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update
from sqlalchemy.orm import Session

from study.schema import Decision, Event, Voter, table
from study.store import Store

START = ""  # what stands before the first link
DECIDING = 0x64656369  # the number of the lock on the end of the decisions, in one study's database

decisions, events, voters = table("decisions"), table("events"), table("voters")


class NoVoterError(LookupError):
    """Somebody whom this study does not know, or who withdrew."""


@dataclass
class Held:
    """A voter whose row a transaction has locked, as it will be written back."""

    id: str
    protocol: str  # its hash
    trials: int
    given: int
    seq: int
    head: str
    turn: str | None = None  # what the researcher decided last about who may go on (study.gate)


TURNS = ("paused", "resumed", "closed")
LAST_TURN = (
    select(decisions.c.decision)
    .where(or_(*(decisions.c.decision == turn for turn in TURNS)))
    .order_by(decisions.c.seq.desc())
    .limit(1)
)
HOLD = (
    select(
        *(voters.c[name] for name in ("id", "protocol", "trials", "given", "seq", "head")),
        LAST_TURN.scalar_subquery().label("turn"),
    )
    .where(voters.c.id == bindparam("voter"), voters.c.withdrawn.is_(None))
    .with_for_update(of=voters)
)
WRITE_BACK = update(voters).where(voters.c.id == bindparam("voter"))
APPEND = insert(events).returning(events.c.id)


@contextmanager
def holding(store: Store, voter_id: str) -> Iterator[tuple[Connection, Held]]:
    """A transaction that begins with a voter's row locked: two requests of one voter take turns.

    Raises
    ------
    NoVoterError
        If there is no such voter, or they withdrew.
    """
    with store.change() as db:
        row = db.execute(HOLD, {"voter": voter_id}).first()
        if row is None:
            raise NoVoterError(voter_id)
        voter = Held(**row._mapping)
        before = voter.seq
        yield db, voter
        if voter.seq != before:
            now = {"given": voter.given, "seq": voter.seq, "head": voter.head}
            db.execute(WRITE_BACK, {"voter": voter_id, **now})


def canonical(value: Any) -> str:
    """The one way in which a value is written down to be hashed: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """The sha256 of a value in its canonical form."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def event_hash(event: Event) -> str:
    """The hash that the voter's next event will carry."""
    names = ("voter_id", "seq", "trial_id", "event", "at", "body", "previous")
    return digest({name: getattr(event, name) for name in names})


def decision_hash(decision: Decision) -> str:
    """The hash that the next decision will carry."""
    return digest({name: getattr(decision, name) for name in ("seq", "decision", "at", "body", "previous")})


def record(
    db: Connection, voter: Held | Voter, trial_id: str | None, event: str, at: float, body: Mapping[str, Any]
) -> int:
    """Append an event to the chain of a voter who is held, or just made; returns its id."""
    voter.seq += 1
    row = {
        "voter_id": voter.id,
        "seq": voter.seq,
        "trial_id": trial_id,
        "event": event,
        "at": at,
        "body": dict(body),
        "previous": voter.head,
    }
    voter.head = digest(row)
    return int(db.execute(APPEND, row).scalar_one())


def hold_decisions(session: Session) -> None:
    """Wait until nobody else decides, and let nobody until the transaction ends: the chain has one end."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        session.execute(select(func.pg_advisory_xact_lock(DECIDING)))


def decide(session: Session, decision: str, at: float, body: Mapping[str, Any]) -> Decision:
    """Append a decision."""
    hold_decisions(session)
    last = session.scalars(select(Decision).order_by(Decision.seq.desc()).limit(1)).first()
    row = Decision(
        seq=last.seq + 1 if last else 1,
        decision=decision,
        at=at,
        body=dict(body),
        previous=decision_hash(last) if last else START,
    )
    session.add(row)
    session.flush()
    return row
