"""The tables of one study.

`events` is append-only and the truth; `assignments`, `votes` and `cells` are projections of it
that could be made again. The view `votes_v1` (made by the first migration) is what `study export`
and `elo` read; they know no other table.

Persons have no place here: a voter is a random id, and `judge` its keyed pseudonym for the outside.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

WINNERS = ("model_a", "model_b", "tie", "tie (bothbad)")
KINDS = ("main", "repeat", "gold", "null", "noise_floor", "practice")
EVENTS = ("assigned", "shown", "voted", "undone", "excluded")
STATES = ("open", "voted")

# fmt: off
VOTE_COLUMNS = (
    "vote_id", "study", "trial_id", "judge", "model_a", "model_b", "winner", "question",
    "prompt_id", "category", "prompt", "image_a", "image_b", "served_a", "served_b", "tstamp",
    "rt_ms", "kind", "repeat_of", "condition", "late", "supersedes", "source", "excluded",
    "exclude_reason", "display", "protocol",
)
# fmt: on

# SQLite numbers rows only under the type INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """CHECK that a column holds one of the values; named after the column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class Base(DeclarativeBase):
    """Common metadata: every constraint has a name, so that migrations can change it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ProtocolRow(Base):
    """A protocol under which votes were asked for, by its hash."""

    __tablename__ = "protocols"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    study: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)


class GalleryRow(Base):
    """The gallery that was ingested; `digest` tells whether another one is the same."""

    __tablename__ = "galleries"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    ingested: Mapped[float] = mapped_column(Float)


class MethodRow(Base):
    """One competitor; `body` is its entry in gallery.json."""

    __tablename__ = "methods"
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    gallery: Mapped[str] = mapped_column(ForeignKey("galleries.digest"))
    label: Mapped[str | None] = mapped_column(Text)
    base_model: Mapped[str | None] = mapped_column(Text)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class PromptRow(Base):
    """One prompt."""

    __tablename__ = "prompts"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    category: Mapped[str | None] = mapped_column(Text)


class ImageRow(Base):
    """One image: what the gallery held (`sha256`) and what voters get (`served_key`, `served_sha256`)."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("method_id", "prompt_id", "replicate"),)
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    method_id: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    replicate: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    served_key: Mapped[str] = mapped_column(String(32), unique=True)
    served_sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class Cell(Base):
    """A method pair on one prompt and how many votes it has.

    `shuffle` is the cell's place in a random order fixed at ingest: a random starting point in
    it breaks ties between equally filled cells through the index, whatever the number of cells.
    """

    __tablename__ = "cells"
    __table_args__ = (
        UniqueConstraint("prompt_id", "method_1", "method_2"),
        CheckConstraint("votes >= 0", name="votes"),
        CheckConstraint("method_1 <> method_2", name="methods"),
        Index(None, "votes", "shuffle"),
    )
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    method_1: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    method_2: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    image_1: Mapped[int] = mapped_column(ForeignKey("images.id"))
    image_2: Mapped[int] = mapped_column(ForeignKey("images.id"))
    shuffle: Mapped[int] = mapped_column(Integer, unique=True)
    votes: Mapped[int] = mapped_column(Integer, default=0)


class Voter(Base):
    """One pseudonymous voter and the number of trials asked of them."""

    __tablename__ = "voters"
    __table_args__ = (CheckConstraint("trials >= 1", name="trials"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    judge: Mapped[str] = mapped_column(String(32), unique=True)
    trials: Mapped[int] = mapped_column(Integer)
    source: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)


class Assignment(Base):
    """One trial: a cell given to a voter, with its sides."""

    __tablename__ = "assignments"
    __table_args__ = (
        UniqueConstraint("voter_id", "position"),
        UniqueConstraint("voter_id", "cell_id", "kind"),
        CheckConstraint("left_image <> right_image", name="sides"),
        CheckConstraint("position >= 0", name="position"),
        one_of("kind", KINDS),
        one_of("state", STATES),
    )
    trial_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    voter_id: Mapped[str] = mapped_column(ForeignKey("voters.id"))
    cell_id: Mapped[int] = mapped_column(ForeignKey("cells.id"))
    position: Mapped[int] = mapped_column(Integer)
    left_image: Mapped[int] = mapped_column(ForeignKey("images.id"))
    right_image: Mapped[int] = mapped_column(ForeignKey("images.id"))
    kind: Mapped[str] = mapped_column(String(16), default="main")
    state: Mapped[str] = mapped_column(String(16), default="open")
    protocol: Mapped[str] = mapped_column(ForeignKey("protocols.hash"))
    created: Mapped[float] = mapped_column(Float)


class Event(Base):
    """What happened, never changed: triggers refuse UPDATE and DELETE."""

    __tablename__ = "events"
    __table_args__ = (one_of("event", EVENTS),)
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    voter_id: Mapped[str] = mapped_column(ForeignKey("voters.id"), index=True)
    trial_id: Mapped[str] = mapped_column(String(32), index=True)
    event: Mapped[str] = mapped_column(String(16))
    at: Mapped[float] = mapped_column(Float)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class Vote(Base):
    """The one answer to a question of a trial; the client names it, so that a resent one is known."""

    __tablename__ = "votes"
    __table_args__ = (
        UniqueConstraint("trial_id", "question"),
        one_of("winner", WINNERS),
        CheckConstraint("rt_ms >= 0", name="rt_ms"),
    )
    vote_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("assignments.trial_id"))
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), unique=True)
    question: Mapped[str] = mapped_column(String(64))
    winner: Mapped[str] = mapped_column(String(16))
    rt_ms: Mapped[int | None] = mapped_column(Integer)
    display: Mapped[str | None] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Float, index=True)


class AdminLogin(Base):
    """A one-time password (hashed), and after its use the session it opened."""

    __tablename__ = "admin_logins"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    password_hash: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)
    used: Mapped[float | None] = mapped_column(Float)


# The view, for reading; not in Base.metadata, because a migration makes it.
votes_v1 = Table("votes_v1", MetaData(), *(Column(name) for name in VOTE_COLUMNS))
