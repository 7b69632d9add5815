"""Who votes: a person with a key of their own, and the voter that everybody else knows.

A person stands in `persons` with what their platform sent; their voter is a random id. The pseudonym under
which votes are published hangs on the person's key: once that is destroyed, nothing leads from one to the
other.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from study.chain import record
from study.config import Protocol
from study.invitations import NoEntryError, use
from study.platforms import Arrival
from study.protocols import Version, count_cells, newest, protocol_of
from study.schema import Assignment, DemographicAnswer, Person, Quota, Tombstone, Voter
from study.script import session_length
from study.store import Store


@dataclass(frozen=True)
class Joining:
    """Somebody about to become a person: who they are, to which texts, and when, they agreed.

    person_id  chosen beforehand, so that a form that is sent twice makes one person
    protocol   hash of the version whose texts they read
    consented  unix seconds; None if the study asks for no consent
    bot_check  what `study.bot_check.check` found; None if the study has no such check
    """

    person_id: str
    arrival: Arrival
    protocol: str
    consented: float | None = None
    bot_check: Mapping[str, str] | None = None


def trials_for_one(store: Store) -> int:
    """How many trials a new voter gets; 0 if nothing is open, or nothing wants votes any more."""
    with store.read() as session:
        version = newest(session)
        return 0 if version is None else _trials(session, version.hash)


def _trials(session: Session, hash_: str) -> int:
    protocol = protocol_of(session, hash_)
    if not _has_room(session, hash_, protocol.quota.votes):
        return 0
    return session_length(protocol, count_cells(session, hash_))


def _has_room(session: Session, hash_: str, wanted: int) -> bool:
    """Whether a pair wants votes; the place of a lapsed lease is free, though it still counts in the load."""
    quota = select(Quota.id).where(Quota.protocol == hash_)
    if wanted:
        quota = quota.where(Quota.load < wanted)
    lapsed = select(Assignment.trial_id).where(Assignment.protocol == hash_, Assignment.expires < time.time())
    return any(session.scalar(one.limit(1)) is not None for one in (quota, lapsed))


def has_all_votes(store: Store, hash_: str) -> bool:
    """Whether each pair of a version has the votes that are wanted on it."""
    with store.read() as session:
        wanted = protocol_of(session, hash_).quota.votes
        lacking = select(Quota.id).where(Quota.protocol == hash_, Quota.votes < wanted)
        return bool(wanted) and session.scalar(lacking.limit(1)) is None


def open_version(store: Store) -> Version | None:
    """The version of the protocol that a new voter comes under."""
    with store.read() as session:
        return newest(session)


# ---------------------------------------------------------------- persons


def recognise(store: Store, secret_key: str, arrival: Arrival) -> Person | None:
    """The person whose platform id this is; what came with it this time is kept.

    Raises
    ------
    NoEntryError
        withdrawn, if that person withdrew.
    """
    with store.write() as session:
        return _known(session, secret_key, arrival)


def join(store: Store, secret_key: str, joining: Joining) -> Person:
    """Make a person; the same one again, or the same platform id, is the person who is there already.

    Raises
    ------
    NoEntryError
        withdrawn; unknown, revoked, expired or used_up for an invitation.
    """
    try:
        with store.write() as session:
            return _join(session, secret_key, joining)
    except IntegrityError:  # two at once: now the other one is there
        with store.write() as session:
            return _join(session, secret_key, joining)


def _join(session: Session, secret_key: str, joining: Joining) -> Person:
    arrival = joining.arrival
    known = session.get(Person, joining.person_id) or _known(session, secret_key, arrival)
    if known is not None:
        return known
    if arrival.invitation is not None:
        use(session, arrival.invitation)
    person = Person(
        id=joining.person_id,
        key=secrets.token_hex(32),
        source=arrival.source,
        platform_id=arrival.platform_id,
        received=dict(arrival.received),
        invitation=arrival.invitation,
        protocol=joining.protocol,
        consented=joining.consented,
        bot_check=dict(joining.bot_check) if joining.bot_check else None,
        asked=False,
        screened_out=False,
        voter_id=None,
        created=time.time(),
    )
    session.add(person)
    session.flush()
    return person


def _known(session: Session, secret_key: str, arrival: Arrival) -> Person | None:
    if arrival.platform_id is None:
        return None
    if session.get(Tombstone, tombstone(secret_key, arrival.source, arrival.platform_id)):
        raise NoEntryError("withdrawn")
    person = session.scalars(
        select(Person).where(Person.source == arrival.source, Person.platform_id == arrival.platform_id)
    ).first()
    if person is not None and person.received != arrival.received:
        person.received = dict(arrival.received)  # of another assignment, another session
    return person


def find_person(store: Store, person_id: str | None = None, voter_id: str | None = None) -> Person | None:
    """A person by their own id, or by that of their voter."""
    if person_id is None and voter_id is None:
        return None
    key = Person.id == person_id if person_id is not None else Person.voter_id == voter_id
    with store.read() as session:
        return session.scalars(select(Person).where(key)).first()


def tell(store: Store, person_id: str, answers: Mapping[str, str], screened_out: bool) -> None:
    """Keep what a person says about themselves, once."""
    with store.write() as session:
        person = session.scalars(select(Person).where(Person.id == person_id).with_for_update()).one()
        if person.asked:
            return
        person.asked, person.screened_out = True, screened_out
        session.add_all(
            DemographicAnswer(person_id=person_id, question=q, answer=a) for q, a in answers.items()
        )


# ---------------------------------------------------------------- voters


def enrol(store: Store, secret_key: str, person_id: str) -> Voter | None:
    """The voter of a person, made the first time; None if the study has nothing to show."""
    with store.read() as session:
        hash_ = session.scalars(select(Person.protocol).where(Person.id == person_id)).one()
        trials = _trials(session, hash_)
    with store.write() as session:
        person = session.scalars(select(Person).where(Person.id == person_id).with_for_update()).one()
        if person.voter_id is not None:
            return session.get(Voter, person.voter_id)
        if trials == 0:
            return None
        voter = Voter(
            id=secrets.token_hex(16),
            judge=pseudonym(secret_key, person.key),
            protocol=hash_,
            trials=trials,
            given=0,
            seq=0,
            head="",
            source=person.source,
            bot_check=person.bot_check["verdict"] if person.bot_check else None,
            created=time.time(),
            withdrawn=None,
        )
        session.add(voter)
        session.flush()
        if person.bot_check:
            record(session.connection(), voter, None, "checked", voter.created, person.bot_check)
        person.voter_id = voter.id
    return voter


def add_voter(store: Store, secret_key: str, source: str = "link") -> Voter | None:
    """A new person and their voter, where nothing is asked of them; None if the study has nothing to show."""
    version = open_version(store)
    if version is None or trials_for_one(store) == 0:
        return None
    joining = Joining(secrets.token_hex(16), Arrival(source), version.hash)
    return enrol(store, secret_key, join(store, secret_key, joining).id)


def find_voter(store: Store, voter_id: str | None) -> Voter | None:
    """The voter of a session cookie, if this study knows it and they did not withdraw."""
    if not voter_id:
        return None
    with store.read() as session:
        voter = session.get(Voter, voter_id)
    return None if voter is None or voter.withdrawn is not None else voter


# ---------------------------------------------------------------- names


def pseudonym(secret_key: str, person_key: str) -> str:
    """The name under which a person's votes are published: stable, and not to be made without both keys."""
    return _keyed(secret_key, f"judge:{person_key}")[:16]


def tombstone(secret_key: str, source: str, platform_id: str) -> str:
    """What is left of a platform id whose person withdrew."""
    return _keyed(secret_key, f"withdrawn:{source}:{platform_id}")


def _keyed(secret_key: str, text: str) -> str:
    return hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def screened_out(protocol: Protocol, answers: Mapping[str, str]) -> bool:
    """Whether an answer is one of people whom the study is not for."""
    return any(answers.get(question.id) in question.screen_out for question in protocol.demographics)
