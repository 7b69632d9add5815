"""Somebody withdraws: who they are is deleted, and nothing leads to their judge any more.

Votes are evidence and stay in the chain; by the protocol they are left out of all tables from now on, or
kept. What remains of the person is that their voter withdrew, and, of a platform id, a keyed digest.
"""

import time

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from study.exclusions import WITHDRAWN, add_rules
from study.participants import tombstone
from study.protocols import protocol_of
from study.schema import Assignment, DemographicAnswer, Person, Report, Tombstone, Voter
from study.store import BUSY_SECONDS, Store

PATIENCE_MS = 100  # voters wait while SQLite waits


def withdraw(store: Store, secret_key: str, person_id: str) -> None:
    """Delete a person and their key; nobody is no error."""
    with store.write() as session:
        _withdraw(session, secret_key, person_id)
    if store.engine.dialect.name == "sqlite":
        _empty_log(store)


def _empty_log(store: Store) -> None:
    """Empty SQLite's log, which still holds what was deleted; while somebody reads, SQLite does so later."""
    with store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")


def _withdraw(session: Session, secret_key: str, person_id: str) -> None:
    if session.get_bind().dialect.name == "sqlite":
        session.connection().exec_driver_sql("PRAGMA secure_delete = ON")  # zeros, not free pages
    person = session.scalars(select(Person).where(Person.id == person_id).with_for_update()).first()
    if person is None:
        return
    if person.platform_id is not None:
        session.add(Tombstone(digest=tombstone(secret_key, person.source, person.platform_id)))
    voter_id, kept = person.voter_id, protocol_of(session, person.protocol).consent.withdrawn_votes == "keep"
    session.execute(delete(DemographicAnswer).where(DemographicAnswer.person_id == person_id))
    session.delete(person)
    session.flush()
    if voter_id is not None:
        voter = session.scalars(select(Voter).where(Voter.id == voter_id).with_for_update()).one()
        voter.withdrawn = time.time()
        _erase_words(session, voter_id)
        if not kept:
            add_rules(session, "judge", [voter.judge], WITHDRAWN)


def _erase_words(session: Session, voter_id: str) -> None:
    """What the person wrote about images; that they reported them stays."""
    theirs = select(Assignment.trial_id).where(Assignment.voter_id == voter_id)
    session.execute(update(Report).where(Report.trial_id.in_(theirs)).values(reason=None))
