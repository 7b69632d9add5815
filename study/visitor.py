"""The person at the other end of a request: what their cookie says, and what it is made to say.

arrival     how they came, before they are anybody: a person id to be, and an `Arrival`
person      a person who has not got to the pairs
voter       a person's voter, from then on
declined    somebody who did not agree; nothing of them is stored
withdrawn   somebody who withdrew here; nothing leads from this cookie to what they were
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict

from flask import current_app, g, session, url_for
from sqlalchemy.exc import SQLAlchemyError

from study.config import Protocol
from study.participants import Joining, find_person, open_version
from study.platforms import Arrival
from study.schema import Person
from study.store import Store
from study.tokens import sign

KEYS = ("arrival", "person", "voter", "declined", "withdrawn")


def study() -> Store:
    """The store of the study that is served."""
    return current_app.config["STORE"]


def secret_key() -> str:
    """The key that signs cookies and links."""
    return current_app.config["SECRET_KEY"]


def open_protocol() -> Protocol | None:
    """The protocol that is open, asked once a request; None also while the database does not answer.

    The page that tells of the trouble needs none.
    """
    if "open_protocol" not in g:
        try:
            version = open_version(study())
        except SQLAlchemyError:
            return None
        g.open_protocol = version.protocol if version else None
    return g.open_protocol


def person() -> Person | None:
    """The person of this cookie, if this study knows them."""
    return find_person(study(), session.get("person"), session.get("voter"))


def remember(person: Person) -> None:
    """From now on this browser is that person's."""
    forget()
    if person.voter_id is None:
        session["person"] = person.id
    else:
        session["voter"] = person.voter_id
    session.permanent = True


def forget() -> None:
    """From now on this browser is nobody's."""
    for key in KEYS:
        session.pop(key, None)


def arrive(arrival: Arrival) -> None:
    """Somebody came who is nobody yet; coming the same way once more changes nothing."""
    came = asdict(arrival)
    if {**session.get("arrival", {}), "id": None} != {**came, "id": None}:
        forget()
        session["arrival"] = {**came, "id": secrets.token_hex(16)}


def arrival() -> Arrival | None:
    """How the one who is nobody yet came, if it was not just by the study's address."""
    came = {name: value for name, value in session.get("arrival", {}).items() if name != "id"}
    return Arrival(**came) if came else None


def joining(protocol: str, consented: float | None, bot_check: Mapping[str, str] | None) -> Joining:
    """What makes a person of whoever arrived."""
    came = arrival()
    assert came is not None  # noqa: S101 - `arrive` was called
    return Joining(session["arrival"]["id"], came, protocol, consented, bot_check)


def return_address(person: Person) -> str:
    """The link by which a person goes on elsewhere, whole, to be copied; whoever has it is that person."""
    token = sign(secret_key(), "return", person.id)
    return url_for("joining.come_back", token=token, _external=True)


def withdrawal_address(person: Person) -> str:
    """The link by which a person withdraws, whenever and wherever they like."""
    return url_for("leaving.withdraw", token=sign(secret_key(), "withdrawal", person.id))


def outbox(voter_id: str) -> str:
    """A name for a voter's answers in a browser that several people may use; it tells nothing else."""
    return hashlib.sha256(f"outbox:{voter_id}".encode()).hexdigest()[:16]
