"""The end: what somebody gets for having taken part, and withdrawing."""

from flask import Blueprint, redirect, render_template, session, url_for
from werkzeug.wrappers import Response as AnyResponse

from study import visitor
from study.ballot import current
from study.invitations import NoEntryError
from study.participants import find_person, open_version
from study.platforms import farewell
from study.protocols import protocol_of
from study.schema import Person
from study.tokens import read
from study.visitor import secret_key, study
from study.withdrawal import withdraw as withdraw_person

bp = Blueprint("leaving", __name__)


@bp.get("/done")
def done() -> str | AnyResponse:
    """Thank somebody who is done, with the code of their outcome; others go where they were."""
    person = visitor.person()
    if person is None:
        return _declined() if "declined" in session else redirect(url_for("joining.welcome"))
    if person.screened_out:
        return _end(person, "screened_out")
    if person.voter_id is None:
        return redirect(url_for("joining.welcome"))
    if not current(study(), person.voter_id).finished:
        return redirect(url_for("voting.vote"))
    return _end(person, "finished")


def _end(person: Person, outcome: str) -> str:
    with study().read() as db:
        completion = protocol_of(db, person.protocol).completion
    return render_template(
        "done.html",
        outcome=outcome,
        farewell=farewell(getattr(completion, outcome), outcome, person.source, person.received),
        next_one=_next_one(person.source, person.received.get("seat")),
        withdrawal=visitor.withdrawal_address(person),
        outbox=visitor.outbox(person.voter_id) if person.voter_id else None,
    )


def _declined() -> str | AnyResponse:
    """The end of somebody who did not agree: known only to their own browser."""
    version, arrival = open_version(study()), visitor.arrival()
    if version is None or arrival is None:
        return redirect(url_for("joining.welcome"))
    ending = version.protocol.completion.no_consent
    return render_template(
        "done.html",
        outcome="no_consent",
        farewell=farewell(ending, "no_consent", arrival.source, arrival.received),
        next_one=_next_one(arrival.source, arrival.received.get("seat")),
    )


def _next_one(source: str, seat: str | None) -> str | None:
    """At a kiosk, the way to the next person's start."""
    return url_for("joining.kiosk", seat=seat) if source == "kiosk" else None


@bp.get("/withdraw/<token>")
def withdraw(token: str) -> str:
    """Say what withdrawing means, and ask once more."""
    person = _person_of(token)
    with study().read() as db:
        protocol = protocol_of(db, person.protocol)
    return render_template("withdraw.html", protocol=protocol)


@bp.post("/withdraw/<token>")
def withdraw_now(token: str) -> AnyResponse:
    """Delete what is known about a person; this browser forgets them, too."""
    person = _person_of(token)
    here = visitor.person()
    withdraw_person(study(), secret_key(), person.id)
    if here is not None and here.id == person.id:
        visitor.forget()
        session["withdrawn"] = True
    return redirect(url_for("leaving.withdraw", token=token), 303)


def _person_of(token: str) -> Person:
    person_id = read(secret_key(), "withdrawal", token)
    person = find_person(study(), person_id)
    if person is None:
        raise NoEntryError("unknown" if person_id is None else "withdrawn")
    return person
