"""What voters said about images that should not be shown, for the researcher to look at."""

import time
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from study.schema import Assignment, ImageRow, PromptRow, Report, Voter
from study.store import Store


@dataclass(frozen=True)
class Told:
    """A report, the image that it is about, and who made it."""

    report: Report
    image: ImageRow
    prompt: str
    judge: str


def reports(session: Session) -> list[Told]:
    """All reports: those that were not seen first, the latest of them at the top."""
    rows = session.execute(
        select(Report, ImageRow, PromptRow.text, Voter.judge)
        .join(ImageRow, ImageRow.id == Report.image_id)
        .join(PromptRow, PromptRow.id == ImageRow.prompt_id)
        .join(Assignment, Assignment.trial_id == Report.trial_id)
        .join(Voter, Voter.id == Assignment.voter_id)
        .order_by(Report.seen.is_not(None), Report.at.desc())
    )
    return [Told(*row) for row in rows]


def mark_seen(store: Store, trial_id: str) -> bool:
    """Take note that a report was seen; False if there is none on that trial."""
    with store.write() as session:
        there = session.get(Report, trial_id) is not None
        unseen = update(Report).where(Report.trial_id == trial_id, Report.seen.is_(None))
        session.execute(unseen.values(seen=time.time()))
    return there
