"""How far a study is: counted from the quotas and from indexes, so that a look costs little at any size."""

import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from study.gate import standing
from study.protocols import Version, newest
from study.schema import VERDICTS, WAITING, Assignment, PromptRow, Quota, Report, Vote, Voter

HOUR, DAY = 3600.0, 86400.0
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Fill:
    """Some quotas together.

    votes    there are, those over the number wanted included
    wanted   in all; 0 if there is no end
    missing  of these
    load     votes and live leases, of which `lefts` show the first method on the left
    """

    votes: int = 0
    wanted: int = 0
    missing: int = 0
    load: int = 0
    lefts: int = 0

    def __add__(self, other: "Fill") -> "Fill":
        """Both together."""
        return Fill(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def share(self) -> float | None:
        """How much of what is wanted is there, 0 to 1; None if there is no end."""
        return 1 - self.missing / self.wanted if self.wanted else None


@dataclass(frozen=True)
class Progress:
    """How far the newest version of the protocol is.

    standing  open, paused or closed (study.gate)
    fills     (first method, second method, category) → its quotas; "" is no category
    methods   in the gallery's order
    older     votes on pairs that count under older versions
    voters    of all versions, and how many of them are `finished`
    leases    trials that are before somebody's eyes, or soon
    reports   on images, that the researcher has not seen
    per_hour  trials answered in the last hour, and in the last 24 hours by hour
    bot_checks  verdict → voters of whom it was said; empty if of none
    """

    version: Version | None
    standing: str
    fills: dict[tuple[str, str, str], Fill]
    methods: list[str]
    older: int
    voters: int
    finished: int
    leases: int
    reports: int
    per_hour: tuple[float, float]
    bot_checks: dict[str, int]

    def total(self, category: str | None = None) -> Fill:
        """Everything together, or one category."""
        return sum((fill for key, fill in self.fills.items() if category in (None, key[2])), Fill())

    def pairs(self, category: str | None = None) -> dict[tuple[str, str], Fill]:
        """The quotas of each method pair, in all categories or in one."""
        chosen = [(key[:2], fill) for key, fill in self.fills.items() if category in (None, key[2])]
        return _together(chosen)

    def categories(self) -> dict[str, Fill]:
        """The quotas of each category of prompts, by name."""
        return dict(sorted(_together((key[2], fill) for key, fill in self.fills.items()).items()))

    @property
    def pace(self) -> float:
        """Trials an hour: of the last hour if there were any, else of the last 24."""
        return self.per_hour[0] or self.per_hour[1]

    @property
    def hours_left(self) -> float | None:
        """How long the missing votes take at this pace; None if there is no end, or no pace."""
        total = self.total()
        if not total.wanted or (total.missing and not self.pace):
            return None
        return total.missing / self.pace if total.missing else 0.0


def _together(fills: Iterable[tuple[K, Fill]]) -> dict[K, Fill]:
    found: dict[K, Fill] = {}
    for key, fill in fills:
        found[key] = found.get(key, Fill()) + fill
    return found


def progress(session: Session, now: float | None = None) -> Progress:
    """Count how far the study is."""
    now = time.time() if now is None else now
    version = newest(session)
    hash_ = version.hash if version else ""
    fills = _fills(session, version) if version else {}
    older = session.scalar(select(func.sum(Quota.votes)).where(Quota.protocol != hash_))
    return Progress(
        version=version,
        standing=standing(session),
        fills=fills,
        methods=list(dict.fromkeys(method for pair in fills for method in pair[:2])),
        older=int(older or 0),
        voters=session.scalar(select(func.count()).select_from(Voter)) or 0,
        finished=_finished(session),
        leases=session.scalar(select(func.count()).where(Assignment.expires >= now)) or 0,
        reports=session.scalar(select(func.count()).where(Report.seen.is_(None))) or 0,
        per_hour=_pace(session, version, now) if version else (0, 0),
        bot_checks=_bot_checks(session),
    )


def _fills(session: Session, version: Version) -> dict[tuple[str, str, str], Fill]:
    wanted = version.protocol.quota.votes
    by_prompt = version.protocol.quota.per == "prompt"
    category = func.coalesce(PromptRow.category, "") if by_prompt else Quota.stratum
    rows = select(
        Quota.method_1, Quota.method_2, category.label("category"), func.sum(Quota.votes),
        func.count() * wanted, func.sum(case((Quota.votes < wanted, wanted - Quota.votes), else_=0)),
        func.sum(Quota.load), func.sum(Quota.lefts),
    )  # fmt: skip
    if by_prompt:
        rows = rows.join(PromptRow, PromptRow.id == Quota.stratum)
    rows = rows.where(Quota.protocol == version.hash)
    grouped = session.execute(
        rows.group_by(Quota.method_1, Quota.method_2, category).order_by(func.min(Quota.id))
    )
    return {(one, other, name): Fill(*map(int, numbers)) for one, other, name, *numbers in grouped}


def _finished(session: Session) -> int:
    """Voters who were given all their trials and have none open."""
    opened = select(Assignment.voter_id).where(Assignment.voter_id == Voter.id, Assignment.state.in_(WAITING))
    done = select(func.count()).where(Voter.given >= Voter.trials, ~opened.exists())
    return session.scalar(done) or 0


def _bot_checks(session: Session) -> dict[str, int]:
    said = select(Voter.bot_check, func.count()).where(Voter.bot_check.is_not(None)).group_by(Voter.bot_check)
    found = {row[0]: row[1] for row in session.execute(said)}
    return {verdict: found.get(verdict, 0) for verdict in VERDICTS} if found else {}


def _pace(session: Session, version: Version, now: float) -> tuple[float, float]:
    """Main trials an hour, of the last hour and of the last 24: those that were answered, once each."""
    recent = func.sum(case((Vote.at >= now - HOUR, 1), else_=0))
    hour, day = session.execute(
        select(func.coalesce(recent, 0), func.count())
        .join(Assignment, Assignment.trial_id == Vote.trial_id)
        .where(Vote.at >= now - DAY, Vote.undone_by.is_(None))
        .where(Vote.question == version.protocol.questions[0].id)
        .where(Assignment.kind == "main", Assignment.protocol == version.hash)
    ).one()
    return int(hour), day / 24
