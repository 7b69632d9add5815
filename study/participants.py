"""Who votes: a random id inside, a keyed pseudonym outside, no name and no address."""

import hashlib
import hmac
import secrets
import time

from sqlalchemy import func, select

from study.config import Protocol
from study.schema import Cell, Voter
from study.store import Store


def add_voter(store: Store, protocol: Protocol, secret_key: str, source: str = "link") -> Voter:
    """A new voter with as many trials as the protocol asks for and the gallery holds.

    Raises
    ------
    LookupError
        If the study has nothing to show yet.
    """
    with store.write() as session:
        cells = session.scalar(select(func.count()).select_from(Cell)) or 0
        if not cells:
            raise LookupError("no gallery has been ingested")
        voter_id = secrets.token_hex(16)
        voter = Voter(
            id=voter_id,
            judge=pseudonym(secret_key, voter_id),
            trials=min(protocol.trials_per_voter, cells),
            source=source,
            created=time.time(),
        )
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
