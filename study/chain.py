"""Hash chains: each event carries the hash of the event before it, so that none can be changed unseen.

A voter has a chain of their own, whose end stands in the voter's row; the researcher's decisions are one
more chain.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from study.schema import Decision, Event, Voter

START = ""  # what stands before the first link
DECIDING = 0x64656369  # the number of the lock on the end of the decisions, in one study's database


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
    session: Session, voter: Voter, trial_id: str, event: str, at: float, body: Mapping[str, Any]
) -> Event:
    """Append an event to a voter's chain; within a transaction that holds the voter's row."""
    voter.seq += 1
    row = Event(
        voter_id=voter.id,
        seq=voter.seq,
        trial_id=trial_id,
        event=event,
        at=at,
        body=dict(body),
        previous=voter.head,
    )
    voter.head = event_hash(row)
    session.add(row)
    return row


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
