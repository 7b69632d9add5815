"""`study verify`: does everything that is stored fit together?

The chains of events and decisions are walked; what the events say happened is worked out again and
compared with the tables; the files that voters got are hashed. The first thing that does not fit is named.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from study.chain import START, decision_hash, digest, event_hash
from study.protocols import protocol_of
from study.replay import replay
from study.schema import (
    WAITING,
    Assignment,
    Cell,
    Decision,
    Event,
    Exclusion,
    ImageRow,
    ProtocolRow,
    Quota,
    Report,
    Vote,
    Voter,
)
from study.store import Store

BATCH = 2000
# What the event of an assignment and its row call alike.
TOLD = ("position", "kind", "protocol", "repeat_of", "first_left", "expires")


class VerifyError(Exception):
    """The first thing that does not fit; one line."""


@dataclass
class Rebuilt:
    """What the events of one voter say: their trials, their votes, what they reported, a bot check."""

    trials: dict[str, dict[str, Any]] = field(default_factory=dict)
    votes: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    bot_check: str | None = None


def verify(store: Store, gallery: Path | None = None) -> list[str]:
    """Check a whole study and return what was found in order, a line for each part.

    gallery  the folder that was ingested, to compare the images with as well

    Raises
    ------
    VerifyError
        Naming the first thing that does not fit.
    """
    with store.read() as session:
        if store.engine.dialect.name == "postgresql":  # one moment of a study that goes on meanwhile
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        return [
            _protocols(session),
            _decisions(session),
            *_events(session),
            _counters(session),
            _images(session, store.served, gallery),
        ]


# ---------------------------------------------------------------- what was decided


def _protocols(session: Session) -> str:
    rows = session.scalars(select(ProtocolRow).order_by(ProtocolRow.version)).all()
    for row in rows:
        if hashlib.sha256(row.body.encode()).hexdigest() != row.hash:
            raise VerifyError(f"protocol version {row.version}: its text does not have the hash {row.hash}")
    return f"{len(rows)} protocol versions have their hashes"


def _decisions(session: Session) -> str:
    head, number = START, 0
    rules: dict[int, dict[str, Any]] = {}
    opened: set[str] = set()
    for row in session.scalars(select(Decision).order_by(Decision.seq)):
        number += 1
        if row.seq != number or row.previous != head:
            raise VerifyError(f"decision {row.seq}: does not follow the one before it")
        head = decision_hash(row)
        if row.decision == "opened":
            opened.add(row.body["protocol"])
        elif row.decision == "excluded":
            rules[row.body["rule"]] = {**row.body, "made": row.seq, "lifted": None}
        elif row.decision == "lifted":
            rules[row.body["rule"]]["lifted"] = row.seq
    for rule in session.scalars(select(Exclusion).order_by(Exclusion.id)):
        said = rules.pop(rule.id, None)
        if said is None or any(
            said[name] != getattr(rule, name) for name in ("field", "value", "reason", "made", "lifted")
        ):
            raise VerifyError(f"exclusion {rule.id}: differs from what was decided")
    if rules:
        raise VerifyError(f"exclusion {min(rules)}: was decided, but is missing")
    for hash_ in opened - set(session.scalars(select(ProtocolRow.hash))):
        raise VerifyError(f"protocol {hash_}: was opened, but is missing")
    return f"{number} decisions are a chain, and the exclusions are as decided"


# ---------------------------------------------------------------- what happened


def _events(session: Session) -> Iterator[str]:
    heads, events, trials, votes = [], 0, 0, 0
    cells = {
        row.id: row for row in session.execute(select(Cell.id, Cell.kind, Cell.image_1, Cell.image_2)).all()
    }
    for voter in session.scalars(select(Voter).order_by(Voter.id)).all():
        theirs = session.scalars(select(Event).where(Event.voter_id == voter.id).order_by(Event.seq)).all()
        _walk(voter, theirs)
        heads.append([voter.id, voter.head])
        rebuilt = _rebuild(session, voter, theirs, cells)
        _same(f"voter {voter.id}", voter, {"bot_check": rebuilt.bot_check})
        _compare_trials(session, voter, rebuilt)
        _compare_votes(session, voter, rebuilt, theirs)
        _compare_reports(session, voter, rebuilt)
        events += len(theirs)
        trials += len(rebuilt.trials)
        votes += len(rebuilt.votes)
        session.expunge_all()  # one voter at a time in memory
    yield f"{events} events of {len(heads)} voters are chains; all their ends together: {digest(heads)}"
    yield f"{trials} trials and {votes} votes are what the events say; each draw is the script's"


def _walk(voter: Voter, events: Iterable[Event]) -> None:
    head, number = START, 0
    for event in events:
        number += 1
        if event.seq != number or event.previous != head:
            raise VerifyError(f"voter {voter.id}, event {event.seq}: does not follow the one before it")
        head = event_hash(event)
    if voter.seq != number or voter.head != head:
        raise VerifyError(f"voter {voter.id}: the chain ends after event {number}, not where it should")


def _rebuild(session: Session, voter: Voter, events: Iterable[Event], cells: dict[int, Any]) -> Rebuilt:
    built = Rebuilt()
    for event in events:
        body, place = event.body, f"voter {voter.id}, event {event.seq}"
        if event.trial_id is None:  # checked, before there was a trial
            built.bot_check = body["verdict"]
            continue
        if event.event == "assigned":
            cell = cells.get(body["cell"])
            if cell is None or {body["left"], body["right"]} != {cell.image_1, cell.image_2}:
                raise VerifyError(f"{place}: its images are not those of cell {body['cell']}")
            built.trials[event.trial_id] = {
                **{name: body[name] for name in TOLD},
                "cell_id": body["cell"],
                "left_image": body["left"],
                "right_image": body["right"],
                "state": "open",
            }
            fault = replay(protocol_of(session, voter.protocol), voter.id, voter.trials, body)
            if fault:
                raise VerifyError(f"{place}: {fault}")
            continue
        trial = built.trials.get(event.trial_id)
        if trial is None:
            raise VerifyError(f"{place}: of trial {event.trial_id}, which this voter was not given")
        if event.event == "renewed":
            trial["expires"] = body["expires"]
        elif event.event == "voted":
            if trial["expires"] is not None and body["late"] != (event.at > trial["expires"]):
                raise VerifyError(f"{place}: late is {body['late']}, but the lease says otherwise")
            trial["state"] = "voted"
            built.votes[body["vote_id"]] = _vote(event)
        elif event.event == "undone":
            trial.update(state="reopened", expires=body["expires"])
            for vote in body["votes"]:
                built.votes[vote]["undone_by"] = event.id
        elif event.event in ("skipped", "reported"):
            if trial["state"] not in WAITING:
                raise VerifyError(f"{place}: {event.event}, but the trial had ended before")
            trial["state"] = event.event
            if event.event == "reported":
                built.reports[event.trial_id] = {
                    "event_id": event.id,
                    "image_id": body["image"],
                    "side": body["side"],
                    "at": event.at,
                    "reason": body["reason"],
                }
    return built


def _vote(event: Event) -> dict[str, Any]:
    """The row of a vote, as its event has it."""
    shown = event.body["display"]
    return {
        **{name: event.body[name] for name in ("question", "winner", "rt_ms", "late", "supersedes")},
        "trial_id": event.trial_id,
        "display": None if shown is None else json.dumps(shown, sort_keys=True),
        "at": event.at,
        "undone_by": None,
        "event_id": event.id,
    }


def _compare_trials(session: Session, voter: Voter, rebuilt: Rebuilt) -> None:
    said = dict(rebuilt.trials)
    if voter.given != len(said):
        raise VerifyError(f"voter {voter.id}: was given {len(said)} trials, not {voter.given}")
    for row in session.scalars(select(Assignment).where(Assignment.voter_id == voter.id)):
        expected = said.pop(row.trial_id, None)
        if expected is None:
            raise VerifyError(f"trial {row.trial_id}: no event of voter {voter.id} gave it")
        expires = expected.pop("expires")
        _same(f"trial {row.trial_id}", row, expected)
        # A lease may have been given back; nothing may hold another one.
        if row.expires is not None and (row.expires != expires or row.state not in WAITING):
            raise VerifyError(f"trial {row.trial_id}: holds a lease until {row.expires}, not {expires}")
    for trial in said:
        raise VerifyError(f"trial {trial}: was given to voter {voter.id}, but is missing")


def _compare_votes(session: Session, voter: Voter, rebuilt: Rebuilt, events: Iterable[Event]) -> None:
    said = dict(rebuilt.votes)
    rows = session.scalars(
        select(Vote)
        .join(Assignment, Assignment.trial_id == Vote.trial_id)
        .where(Assignment.voter_id == voter.id)
    )
    for row in rows:
        expected = said.pop(row.vote_id, None)
        if expected is None:
            raise VerifyError(f"vote {row.vote_id}: no event of voter {voter.id} says so")
        _same(f"vote {row.vote_id}", row, expected)
    for vote in said:
        raise VerifyError(f"vote {vote}: was given by voter {voter.id}, but is missing")


def _compare_reports(session: Session, voter: Voter, rebuilt: Rebuilt) -> None:
    said = dict(rebuilt.reports)
    rows = session.scalars(
        select(Report)
        .join(Assignment, Assignment.trial_id == Report.trial_id)
        .where(Assignment.voter_id == voter.id)
    )
    for row in rows:
        place, expected = f"report on trial {row.trial_id}", said.pop(row.trial_id, None)
        if expected is None:
            raise VerifyError(f"{place}: no event of voter {voter.id} says so")
        words = expected.pop("reason")
        _same(place, row, expected)
        if row.reason is not None and digest(row.reason) != words:  # None: erased since, or never given
            raise VerifyError(f"{place}: its reason is not what the voter wrote")
    for trial in said:
        raise VerifyError(f"report on trial {trial}: was made by voter {voter.id}, but is missing")


def _same(place: str, row: Any, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if getattr(row, name) != value:
            raise VerifyError(f"{place}: {name} is {getattr(row, name)!r}, the events say {value!r}")


# ---------------------------------------------------------------- what was counted


def _counters(session: Session) -> str:
    """Count answers and live leases again, from the trials that were just compared with the events."""
    quotas: dict[int, Counter[str]] = {}
    cells: Counter[int] = Counter()
    trials = select(
        Assignment.kind, Assignment.state, Assignment.expires, Assignment.first_left,
        Assignment.cell_id, Cell.quota_id,
    ).join(Cell, Cell.id == Assignment.cell_id)  # fmt: skip
    with _stream(session, trials) as rows:
        for row in rows:
            voted = row.state == "voted"
            if voted and row.kind != "repeat":
                cells[row.cell_id] += 1
            if row.kind == "main" and (voted or row.expires is not None):
                count = quotas.setdefault(row.quota_id, Counter())
                count["load"] += 1
                count["votes"] += voted
                count["lefts"] += row.first_left
    number = 0
    with _stream(session, select(*Quota.__table__.columns)) as rows:
        for quota in rows:
            number += 1
            count = quotas.get(quota.id, Counter())
            for name in ("votes", "load", "lefts"):
                if getattr(quota, name) != count[name]:
                    raise VerifyError(
                        f"quota {quota.method_1} | {quota.method_2} | {quota.stratum}: "
                        f"{name} is {getattr(quota, name)}, counted are {count[name]}"
                    )
    with _stream(session, select(Cell.id, Cell.votes)) as rows:
        for id_, votes in rows:
            if votes != cells[id_]:
                raise VerifyError(f"cell {id_}: votes is {votes}, counted are {cells[id_]}")
    return f"{number} quotas hold the votes and leases that are there"


def _stream(session: Session, statement: Any) -> Any:
    """Rows of which only some are in memory; to be closed, by `with`."""
    return session.execute(statement.execution_options(yield_per=BATCH))


# ---------------------------------------------------------------- what was shown


def _images(session: Session, served: Path, gallery: Path | None) -> str:
    number = 0
    with _stream(session, select(*ImageRow.__table__.columns).order_by(ImageRow.id)) as rows:
        for image in rows:
            number += 1
            name = f"image {image.method_id} {image.prompt_id} {image.replicate} {image.variant}".rstrip()
            file = served / f"{image.served_key}.png"
            _hash(file, image.served_sha256, f"{name}: the file that voters get")
            if gallery is not None and not image.variant:
                _hash(gallery / image.body["file"], image.sha256, f"{name}: the gallery's file")
    return f"{number} images are what voters got" + (" and what the gallery holds" if gallery else "")


def _hash(path: Path, expected: str, what: str) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise VerifyError(f"{what}, {path}, cannot be read: {error.strerror}") from None
    if found != expected:
        raise VerifyError(f"{what}, {path}, has the sha256 {found[:12]}…, expected {expected[:12]}…")
