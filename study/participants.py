"""Who votes: a random id inside, a keyed pseudonym outside, no name and no address."""

import hashlib
import hmac
import secrets
import time

from sqlalchemy import exists, select

from study.protocols import Version, count_cells, newest
from study.schema import Quota, Voter
from study.script import session_length
from study.store import Store


def trials_for_one(store: Store) -> int:
    """How many trials a new voter gets; 0 if nothing is open, or nothing wants votes any more."""
    with store.read() as session:
        version = newest(session)
        if version is None:
            return 0
        room = exists().where(Quota.protocol == version.hash)
        if wanted := version.protocol.quota.votes:
            room = room.where(Quota.load < wanted)
        if not session.scalar(select(room)):
            return 0
        return session_length(version.protocol, count_cells(session, version.hash))


def open_version(store: Store) -> Version | None:
    """The version of the protocol that a new voter comes under."""
    with store.read() as session:
        return newest(session)


def add_voter(store: Store, secret_key: str, source: str = "link") -> Voter | None:
    """A new voter; None if the study has nothing to show."""
    version, trials = open_version(store), trials_for_one(store)
    if version is None or trials == 0:
        return None
    voter_id = secrets.token_hex(16)
    voter = Voter(
        id=voter_id,
        judge=pseudonym(secret_key, voter_id),
        protocol=version.hash,
        trials=trials,
        given=0,
        seq=0,
        head="",
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
