"""Who votes: a random id inside, a keyed pseudonym outside, no name and no address."""

import hashlib
import hmac
import secrets
import time

from sqlalchemy import func, select

from study.config import Protocol
from study.schema import Cell, Voter
from study.store import Store


def trials_for_one(store: Store, protocol: Protocol) -> int:
    """How many trials a new voter gets: what the protocol asks for, as far as the gallery holds them."""
    with store.read() as session:
        cells = session.scalar(select(func.count()).select_from(Cell)) or 0
    return min(protocol.trials_per_voter, cells)


def add_voter(store: Store, protocol: Protocol, secret_key: str, source: str = "link") -> Voter | None:
    """A new voter; None if the study has nothing to show yet."""
    trials = trials_for_one(store, protocol)
    if trials == 0:
        return None
    voter_id = secrets.token_hex(16)
    voter = Voter(
        id=voter_id,
        judge=pseudonym(secret_key, voter_id),
        trials=trials,
        source=source,
        created=time.time(),
    )
    with store.write() as session:
        session.add(voter)
    return voter


def find_voter(store: Store, voter_id: str | None) -> Voter | None:
    """The voter of a session cookie, if this study knows it."""
    if not voter_id:
        return None
    with store.read() as session:
        return session.get(Voter, voter_id)


def pseudonym(secret_key: str, voter_id: str) -> str:
    """The name under which a voter's votes are published: stable, and not to be reversed without the key."""
    return hmac.new(secret_key.encode(), f"judge:{voter_id}".encode(), hashlib.sha256).hexdigest()[:16]
