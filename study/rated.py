"""Which votes a dump holds, and how many of what kind there are: for the dump and for its card.

Rated are votes of kind main (or none) that are not excluded and that no later vote takes back.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, false, func, or_, select

from study.layouts import OURS, Layout
from study.schema import votes_v1

# What the card tells apart. Two votes that agree in all of it are one group.
ALIKE = (
    "model_a",
    "model_b",
    "kind",
    "question",
    "winner",
    "excluded",
    "exclude_reason",
    "protocol",
    "source",
    "category",
)


@dataclass(frozen=True)
class Group:
    """Votes that are alike in all that the card tells apart, and how many they are."""

    model_a: str
    model_b: str
    kind: str | None
    question: str | None
    winner: str
    excluded: bool
    exclude_reason: str | None
    protocol: str
    source: str | None
    category: str | None
    superseded: bool
    votes: int

    @property
    def unrated(self) -> str | None:
        """Why the votes are not rated; None if they are."""
        if self.superseded:
            return "superseded by a later vote"
        if self.kind not in (None, "main"):
            return f"kind={self.kind}"
        if self.excluded:
            return f"excluded: {self.exclude_reason}" if self.exclude_reason else "excluded"
        return None


@dataclass(frozen=True)
class Choice:
    """Which votes go out: all of them in our own columns, or what is rated in those of another system."""

    layout: Layout
    question: str | None = None
    superseded: bool = False

    def left_out(self, group: Group) -> str | None:
        """Why votes do not go out; None if they do."""
        if self.layout is OURS:
            return group.unrated if group.superseded and not self.superseded else None
        if group.unrated is None and self.question is not None and group.question != self.question:
            return f"question={group.question}"
        if group.unrated is None and group.winner not in self.layout.winners:
            return f"{group.winner}: the columns of {self.layout.name} have no place for it"
        return group.unrated

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, as SQL on the view."""
        vote = votes_v1.c
        conditions: list[ColumnElement[bool]] = []
        if not self.superseded:
            conditions.append(vote.vote_id.not_in(_replaced()))
        if self.layout is not OURS:
            conditions += [
                or_(vote.kind == "main", vote.kind.is_(None)),
                vote.excluded == false(),
                vote.winner.in_(self.layout.winners),
            ]
            if self.question is not None:
                conditions.append(vote.question == self.question)
        return conditions


def _replaced() -> Select[Any]:
    later = votes_v1.alias()
    return select(later.c.supersedes).where(later.c.supersedes.is_not(None))


def count_groups(connection: Connection) -> list[Group]:
    """All votes there are, by group; their number does not depend on that of votes."""
    columns = [votes_v1.c[name] for name in ALIKE]
    votes = select(*columns, votes_v1.c.vote_id.in_(_replaced()).label("superseded")).subquery()
    statement = select(*votes.c, func.count()).group_by(*votes.c).order_by(*votes.c)
    return [
        Group(**{**dict(zip(votes.c.keys(), row, strict=False)), "votes": row[-1]})
        for row in connection.execute(statement)
    ]


def reasons(choice: Choice, groups: Iterable[Group]) -> Counter[str]:
    """Why votes do not go out → how many."""
    counted: Counter[str] = Counter()
    for group in groups:
        reason = choice.left_out(group)
        if reason is not None:
            counted[reason] += group.votes
    return counted


@dataclass(frozen=True)
class Extent:
    """How far the votes of a dump reach: votes of each judge (not who that is) and prompt, and when."""

    judges: list[int]
    of_prompt: dict[str, int]
    first: float | None
    last: float | None


def measure(connection: Connection, choice: Choice) -> Extent:
    """Measure the votes that go out."""
    vote, where = votes_v1.c, choice.conditions()
    judges = select(func.count()).select_from(votes_v1).where(*where).group_by(vote.judge)
    prompts = select(vote.prompt_id, func.count()).where(*where).group_by(vote.prompt_id)
    first, last = connection.execute(select(func.min(vote.tstamp), func.max(vote.tstamp)).where(*where)).one()
    return Extent(
        judges=sorted(connection.scalars(judges)),
        of_prompt={row[0]: row[1] for row in connection.execute(prompts)},
        first=first,
        last=last,
    )
