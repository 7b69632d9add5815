"""Who took part, for the researcher alone: a file apart from the votes, keyed by judge."""

import csv
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from study.export import ExportError
from study.platforms import MTURK, PROLIFIC
from study.schema import Assignment, DemographicAnswer, Invitation, Person, Vote, Voter
from study.store import Store

BATCH = 1_000
FORMULA = ("=", "+", "-", "@", "\t", "\r")
RECEIVED = (*PROLIFIC, *MTURK, "seat")
ABOUT = ("judge", "source", "outcome", "answers", "joined", "consented", "protocol", "invitation")


def export_persons(store: Store, path: Path) -> int:
    """Write everybody who takes part to a CSV file that only its owner can read; returns how many they are.

    A column for each thing that a platform sends, and one, `about_…`, for each question about the person.
    Without a judge are those who have not got to the pairs, or were screened out. What people typed is not
    to run in a spreadsheet: a value that would be a formula there begins with an apostrophe here.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    with store.read() as session:
        questions = sorted(session.scalars(select(DemographicAnswer.question).distinct()))
        header = [*ABOUT, *RECEIVED, *(f"about_{question}" for question in questions)]
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        number = 0
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, header, restval="", lineterminator="\n")
                writer.writeheader()
                for row in _rows(session):
                    writer.writerow({name: _cell(value) for name, value in row.items()})
                    number += 1
            temporary.replace(path)
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {error.strerror}") from None
        finally:
            temporary.unlink(missing_ok=True)
    return number


def _rows(session: Session) -> Iterator[dict[str, object]]:
    answered = (
        select(Assignment.voter_id, func.count().label("answers"))
        .join(Vote, Vote.trial_id == Assignment.trial_id)
        .where(Vote.undone_by.is_(None))
        .group_by(Assignment.voter_id)
        .subquery()
    )
    people = (
        select(Person, Voter.judge, answered.c.answers, Invitation.label)
        .outerjoin(Voter, Voter.id == Person.voter_id)
        .outerjoin(answered, answered.c.voter_id == Person.voter_id)
        .outerjoin(Invitation, Invitation.id == Person.invitation)
        .order_by(Person.created, Person.id)
        .execution_options(yield_per=BATCH)
    )
    for people_ in session.execute(people).partitions():
        ids = [person.id for person, *_ in people_]
        told: dict[str, dict[str, str]] = {}
        for row in session.scalars(select(DemographicAnswer).where(DemographicAnswer.person_id.in_(ids))):
            told.setdefault(row.person_id, {})[f"about_{row.question}"] = row.answer
        for person, judge, answers, label in people_:
            yield {
                "judge": judge,
                "source": person.source,
                "outcome": "screened_out" if person.screened_out else "",
                "answers": answers or 0,
                "joined": _time(person.created),
                "consented": _time(person.consented),
                "protocol": person.protocol,
                "invitation": label or person.invitation,
                **{name: person.received[name] for name in RECEIVED if name in person.received},
                **told.get(person.id, {}),
            }


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
