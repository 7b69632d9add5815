"""From a link to the first pair: welcome, consent, questions about the person, instructions.

The pages in their order; each sends people who do not belong there to where they do.
"""

import time
from collections.abc import Mapping
from typing import Any, NoReturn

from flask import Blueprint, abort, current_app, g, redirect, render_template, request, session, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as AnyResponse

from study import visitor
from study.ballot import current
from study.bot_check import SERVICES, check
from study.config import Protocol
from study.gate import CLOSED, ShutError, must_admit, must_go_on
from study.invitations import NoEntryError, admits
from study.languages import spoken
from study.participants import (
    enrol,
    find_person,
    has_all_votes,
    join,
    open_version,
    recognise,
    screened_out,
    tell,
    trials_for_one,
)
from study.platforms import Arrival, BadLinkError, kiosk_arrival, platform_arrival
from study.protocols import Version, protocol_of
from study.schema import Person, Voter
from study.tokens import read
from study.visitor import secret_key, study

bp = Blueprint("joining", __name__)
Page = str | tuple[str, int] | AnyResponse

FULL = "full"  # beside the standings of the gate: each place is a voter's, though not each vote is there
SECONDS_A_PAIR = 6  # for the estimate on the welcome page
LONGEST_ANSWER = 200  # characters
STATUS = {"bad_link": 400, "not_open": 403, "link_needed": 403, "unknown": 404}  # others: 410, gone


@bp.app_errorhandler(NoEntryError)
def no_entry(error: NoEntryError) -> Page:
    """Tell somebody kindly why this link leads no further."""
    return render_template("no-entry.html", reason=error.reason), STATUS.get(error.reason, 410)


@bp.app_errorhandler(BadLinkError)
def bad_link(_error: BadLinkError) -> Page:
    """A link of a platform that is not whole."""
    return no_entry(NoEntryError("bad_link"))


@bp.app_errorhandler(ShutError)
def shut(error: ShutError) -> Page:
    """Tell somebody kindly that the study is paused, full or over."""
    return render_template("shut.html", standing=error.standing), 410 if error.standing == CLOSED else 503


# ---------------------------------------------------------------- entrances


@bp.get("/")
def welcome() -> Page:
    """Say what the study is and how long it takes; take note of how somebody came."""
    version = _open()
    arrival = platform_arrival(request.args.items(multi=True))
    if arrival is not None:
        known = None if arrival.preview else recognise(study(), secret_key(), arrival)
        if known is not None:
            visitor.remember(known)
            return redirect(url_for("joining.welcome"))
        _must_be_open(version, arrival.source)
        if arrival.preview:
            return _welcome(version.protocol, trials_for_one(study()), preview=True)
        visitor.arrive(arrival)
    person = visitor.person()
    if person is None:
        _must_be_let_in(version)
        return _welcome(version.protocol, _must_have_pairs(version))
    protocol = _protocol_of(person)
    if person.screened_out:
        return redirect(url_for("leaving.done"))
    if person.voter_id is None:
        must_admit(study())
        if protocol.demographics and not person.asked:
            return redirect(url_for("joining.about_you"))
        return _welcome(protocol, _must_have_pairs(version), person=person)
    ballot = current(study(), person.voter_id)
    if ballot.finished:
        return redirect(url_for("leaving.done"))
    must_go_on(study())
    return _welcome(protocol, ballot.total, person=person, answered=ballot.done)


def _welcome(
    protocol: Protocol,
    total: int,
    *,
    preview: bool = False,
    person: Person | None = None,
    answered: int | None = None,
) -> str:
    """The welcome page; `answered` trials of a voter who goes on, None before that."""
    arrival = Arrival("mturk") if preview else visitor.arrival()
    consent_next = person is None and protocol.consent.asked
    joins = person is None and not consent_next and not preview
    return render_template(
        "welcome.html",
        protocol=spoken(protocol),
        total=total,
        minutes=max(1, round(total * SECONDS_A_PAIR / 60)),
        preview=preview,
        source=person.source if person else arrival.source if arrival else "link",
        consent_next=consent_next,
        bot_check=_widget(protocol) if joins else None,
        told_later=_told_later(protocol),
        answered=answered,
        withdrawal=visitor.withdrawal_address(person) if person else None,
    )


@bp.get("/i/<token>")
def invited(token: str) -> Page:
    """Come by an invitation; only the start uses it up."""
    number = read(secret_key(), "invitation", token)
    if number is None:
        raise NoEntryError("unknown")
    version, person = _open(), visitor.person()
    if person is None or person.invitation != number:
        _must_be_open(version, "invitation")
        with study().read() as db:
            admits(db, number)
        visitor.arrive(Arrival("invitation", invitation=number))
    return redirect(url_for("joining.welcome"))


@bp.get("/kiosk")
def kiosk() -> Page:
    """Forget who sat here before, and welcome the next one."""
    _must_be_open(_open(), "kiosk")
    arrival = kiosk_arrival(request.args.get("seat", ""))
    visitor.forget()
    if "lang" not in request.args:
        session.pop("lang", None)  # the one before chose it
    visitor.arrive(arrival)
    return redirect(url_for("joining.welcome"))


@bp.get("/r/<token>")
def come_back(token: str) -> Page:
    """Go on, on whatever device."""
    person_id = read(secret_key(), "return", token)
    person = find_person(study(), person_id)
    if person is None:
        raise NoEntryError("unknown" if person_id is None else "withdrawn")
    visitor.remember(person)
    return redirect(url_for("joining.welcome"))


# ---------------------------------------------------------------- consent


@bp.get("/consent")
def consent() -> Page:
    """Ask for consent, where the study does."""
    version = _open()
    if visitor.person() is not None or not version.protocol.consent.asked:
        return redirect(url_for("joining.welcome"))
    _must_be_let_in(version)
    return _consent(version)


def _consent(version: Version, missing: str = "") -> str:
    return render_template(
        "consent.html",
        protocol=spoken(version.protocol),
        protocol_hash=version.hash,
        bot_check=_widget(version.protocol),
        missing=missing,
    )


def _widget(protocol: Protocol) -> dict[str, Any] | None:
    """What a page shows with the form by which somebody joins; that page's policy lets the service in."""
    service = SERVICES.get(protocol.bot_check.service)
    if service is None:
        return None
    g.bot_check = service
    return {"service": service, "site_key": protocol.bot_check.site_key}


@bp.post("/start")
def start() -> Page:
    """Make a person of whoever came and agreed, unless this browser is one's already."""
    person = visitor.person()
    if person is None:
        version = _open()
        _must_be_let_in(version)
        consented = None
        if version.protocol.consent.asked:
            if request.form.get("answer") == "decline":
                session["declined"] = True
                return redirect(url_for("leaving.done"), 303)
            missing = _not_agreed(version)
            if missing:
                return _consent(version, missing), 400
            consented = time.time()
        _must_have_pairs(version)
        found = check(version.protocol.bot_check, current_app.config["BOT_CHECK_SECRET"], request.form)
        person = join(study(), secret_key(), visitor.joining(version.hash, consented, found))
        visitor.remember(person)
    return _onward(person)


def _not_agreed(version: Version) -> str:
    """What the form lacks: the text it was made for may have changed meanwhile."""
    if request.form.get("protocol") != version.hash:
        return "changed"
    if request.form.get("answer") != "agree":
        return "answer"
    if version.protocol.consent.age and request.form.get("age") != "yes":
        return "age"
    return ""


# ---------------------------------------------------------------- the person, and the first pair


@bp.get("/about-you")
def about_you() -> Page:
    """Ask what the study wants to know about people; each question can be skipped."""
    person = visitor.person()
    if person is None or person.asked or not (protocol := _protocol_of(person)).demographics:
        return redirect(url_for("joining.welcome"))
    # The form sends a choice in the study's first language, whatever language it is shown in.
    pairs = zip(protocol.demographics, spoken(protocol).demographics, strict=True)
    questions = [(shown, list(zip(asked.choices, shown.choices, strict=True))) for asked, shown in pairs]
    return render_template("about-you.html", questions=questions, longest=LONGEST_ANSWER)


@bp.post("/about-you")
def tell_about_you() -> Page:
    """Keep what somebody said about themselves, and see whether the study is for them."""
    person = visitor.person()
    if person is None:
        return redirect(url_for("joining.welcome"), 303)
    protocol = _protocol_of(person)
    answers = _answers(protocol, request.form)
    tell(study(), person.id, answers, screened_out(protocol, answers))
    person = visitor.person()
    return redirect(url_for("joining.welcome"), 303) if person is None else _onward(person)


def _answers(protocol: Protocol, form: Mapping[str, str]) -> dict[str, str]:
    """What was answered; skipped questions are left out."""
    answers = {}
    for question in protocol.demographics:
        answer = form.get(f"about-{question.id}", "").strip()
        if len(answer) > LONGEST_ANSWER or (answer and question.choices and answer not in question.choices):
            abort(400)
        if answer:
            answers[question.id] = answer
    return answers


@bp.get("/instructions")
def instructions() -> Page:
    """Say how to answer, right before the first pair."""
    person = visitor.person()
    if person is None or person.voter_id is None:
        return redirect(url_for("joining.welcome"))
    return render_template("instructions.html", protocol=spoken(_protocol_of(person)))


def _onward(person: Person) -> AnyResponse:
    """Where a person goes after a form."""
    protocol = _protocol_of(person)
    if person.screened_out:
        return redirect(url_for("leaving.done"), 303)
    if person.voter_id is None and protocol.demographics and not person.asked:
        return redirect(url_for("joining.about_you"), 303)
    new = person.voter_id is None
    if new:
        must_admit(study())
        voter = enrol(study(), secret_key(), person.id)
        if voter is None:
            _no_room(person.protocol)
        person.voter_id = voter.id
        visitor.remember(person)
    return redirect(url_for("joining.instructions" if new and _told_later(protocol) else "voting.vote"), 303)


def _told_later(protocol: Protocol) -> bool:
    """Whether other pages come between the welcome and the pairs, so that instructions stand after them."""
    return protocol.consent.asked or bool(protocol.demographics)


# ---------------------------------------------------------------- who may go on


def _open() -> Version:
    version = open_version(study())
    if version is None:
        abort(503, _("This study has no pictures to vote on now."))
    return version


def _protocol_of(person: Person) -> Protocol:
    with study().read() as db:
        return protocol_of(db, person.protocol)


def _must_be_open(version: Version, entrance: str) -> None:
    if not getattr(version.protocol.entrances, entrance):
        raise NoEntryError("not_open")


def _must_be_let_in(version: Version) -> None:
    """Whoever is nobody yet came by a link that is still open; without one it is the study's address."""
    if _withdrew():
        raise NoEntryError("withdrawn")
    must_admit(study())
    arrival = visitor.arrival()
    if arrival is None:
        if not version.protocol.entrances.link:
            raise NoEntryError("link_needed")
        visitor.arrive(Arrival("link"))
    else:
        _must_be_open(version, arrival.source)


def _withdrew() -> bool:
    if "voter" not in session:
        return "withdrawn" in session
    with study().read() as db:
        voter = db.get(Voter, session["voter"])
    return voter is not None and voter.withdrawn is not None


def _must_have_pairs(version: Version) -> int:
    total = trials_for_one(study())
    if total == 0:
        _no_room(version.hash)
    return total


def _no_room(hash_: str) -> NoReturn:
    """Tell somebody new that all votes are there, or that others are about to give the last ones."""
    raise ShutError(CLOSED if has_all_votes(study(), hash_) else FULL)
