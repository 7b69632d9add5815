"""The tables of one study.

`events` (what voters did) and `decisions` (what the researcher did) are append-only, hash-chained and
the truth; `assignments`, `votes`, `reports`, the counters of `quotas` and `cells`, and `exclusions` are
projections that `study verify` makes again and compares. The view `votes_v1` (made by a migration) is what
`study export` and `elo` read; they know no other table.

Persons stand apart (`persons`, `demographics`): everything else knows a random voter id, and `judge`, its
keyed pseudonym for the outside. The row of a person is the only link; withdrawal destroys it.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

WINNERS = ("model_a", "model_b", "tie", "tie (bothbad)")
KINDS = ("main", "repeat", "gold", "null", "noise_floor", "practice")
CELL_KINDS = ("main", "gold", "null", "noise_floor", "practice")
EVENTS = ("checked", "assigned", "renewed", "voted", "undone", "skipped", "reported")
DECISIONS = ("opened", "excluded", "lifted", "paused", "resumed", "closed")
STATES = ("open", "voted", "reopened", "skipped", "reported")
WAITING = ("open", "reopened")  # the states in which a trial waits for its vote
VARIANTS = ("", "jpeg", "blur")
EXCLUDABLE = ("judge", "vote", "prompt")
SIDES = ("left", "right")
VERDICTS = ("verified", "failed", "unverified")  # of a bot check
ENTRANCES = ("link", "invitation", "prolific", "mturk", "kiosk")

# fmt: off
VOTE_COLUMNS = (
    "vote_id", "study", "trial_id", "judge", "model_a", "model_b", "winner", "question",
    "prompt_id", "category", "prompt", "image_a", "image_b", "served_a", "served_b", "tstamp",
    "rt_ms", "kind", "repeat_of", "condition", "late", "supersedes", "source", "excluded",
    "exclude_reason", "display", "protocol", "expected", "bot_check",
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
    """A version of the protocol, frozen by `study open`; the highest one is open to new voters."""

    __tablename__ = "protocols"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, unique=True)
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
    """One image: what the gallery held (`sha256`) and what voters get (`served_key`, `served_sha256`).

    A `variant` is a degraded one that was made here; its `sha256` is that of the image it was made from.
    """

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("method_id", "prompt_id", "replicate", "variant"),
        one_of("variant", VARIANTS),
    )
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    method_id: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    replicate: Mapped[int] = mapped_column(Integer)
    variant: Mapped[str] = mapped_column(String(16), default="")
    sha256: Mapped[str] = mapped_column(String(64))
    served_key: Mapped[str] = mapped_column(String(32), unique=True)
    served_sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class Quota(Base):
    """Votes wanted on a method pair, on one prompt or (`stratum`) in one category, and how many there are.

    `load` is the votes and the live leases together: what decides who is next. `lefts` of them show
    `method_1` on the left. `shuffle`, in [0, 1), is a place in a random order fixed when the protocol was
    opened: a random starting point in it breaks ties through the index, whatever the number of quotas.
    """

    __tablename__ = "quotas"
    __table_args__ = (
        UniqueConstraint("protocol", "method_1", "method_2", "stratum"),
        CheckConstraint("votes >= 0 AND votes <= load", name="votes"),
        CheckConstraint("lefts >= 0 AND lefts <= load", name="lefts"),
        Index(None, "protocol", "load", "shuffle"),
    )
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    protocol: Mapped[str] = mapped_column(ForeignKey("protocols.hash"))
    method_1: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    method_2: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    stratum: Mapped[str] = mapped_column(Text)
    shuffle: Mapped[float] = mapped_column(Float)
    votes: Mapped[int] = mapped_column(Integer, default=0)
    load: Mapped[int] = mapped_column(Integer, default=0)
    lefts: Mapped[int] = mapped_column(Integer, default=0)


class Cell(Base):
    """Two images that may be shown side by side, and how many votes they have.

    kind main: two methods on one prompt, with a quota. Checks have none: image_1 of a gold (or of a
    practice pair) is the clean one, both images of a null pair are the same.
    """

    __tablename__ = "cells"
    __table_args__ = (
        UniqueConstraint("protocol", "kind", "image_1", "image_2"),
        CheckConstraint("votes >= 0", name="votes"),
        CheckConstraint("(kind = 'main') = (quota_id IS NOT NULL)", name="quota"),
        CheckConstraint("(kind = 'main') = (method_1 <> method_2)", name="methods"),
        CheckConstraint("(kind = 'null') = (image_1 = image_2)", name="images"),
        one_of("kind", CELL_KINDS),
        Index(None, "quota_id"),
        Index(None, "protocol", "kind", "votes", "shuffle"),
    )
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    protocol: Mapped[str] = mapped_column(ForeignKey("protocols.hash"))
    kind: Mapped[str] = mapped_column(String(16), default="main")
    quota_id: Mapped[int | None] = mapped_column(ForeignKey("quotas.id"))
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    method_1: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    method_2: Mapped[str] = mapped_column(ForeignKey("methods.id"))
    image_1: Mapped[int] = mapped_column(ForeignKey("images.id"))
    image_2: Mapped[int] = mapped_column(ForeignKey("images.id"))
    shuffle: Mapped[float] = mapped_column(Float)
    votes: Mapped[int] = mapped_column(Integer, default=0)


class Voter(Base):
    """One pseudonymous voter: the protocol they came under, their trials, and the end of their chain.

    `trials` are asked of them, practice included; `given` of these were handed out. `seq` events stand in
    their chain, and `head` is the hash of the last one. `bot_check`: its verdict, where the study has one.
    `withdrawn`: when the person withdrew.
    """

    __tablename__ = "voters"
    __table_args__ = (
        CheckConstraint("trials >= 1", name="trials"),
        CheckConstraint("given >= 0", name="given"),
        one_of("bot_check", VERDICTS),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    judge: Mapped[str] = mapped_column(String(32), unique=True)
    protocol: Mapped[str] = mapped_column(ForeignKey("protocols.hash"))
    trials: Mapped[int] = mapped_column(Integer)
    given: Mapped[int] = mapped_column(Integer, default=0)
    seq: Mapped[int] = mapped_column(Integer, default=0)
    head: Mapped[str] = mapped_column(String(64), default="")
    source: Mapped[str] = mapped_column(Text)
    bot_check: Mapped[str | None] = mapped_column(String(16))
    created: Mapped[float] = mapped_column(Float)
    withdrawn: Mapped[float | None] = mapped_column(Float)


class Assignment(Base):
    """One trial: a cell given to a voter, with its sides.

    `expires` ends the lease by which an unanswered trial holds a place in its quota; NULL holds none.
    """

    __tablename__ = "assignments"
    __table_args__ = (
        UniqueConstraint("voter_id", "position"),
        UniqueConstraint("voter_id", "cell_id", "kind"),
        CheckConstraint("left_image <> right_image OR kind = 'null'", name="sides"),
        CheckConstraint("position >= 0", name="position"),
        CheckConstraint("(kind = 'repeat') = (repeat_of IS NOT NULL)", name="repeat_of"),
        one_of("kind", KINDS),
        one_of("state", STATES),
    )
    trial_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    voter_id: Mapped[str] = mapped_column(ForeignKey("voters.id"))
    cell_id: Mapped[int] = mapped_column(ForeignKey("cells.id"))
    position: Mapped[int] = mapped_column(Integer)
    left_image: Mapped[int] = mapped_column(ForeignKey("images.id"))
    right_image: Mapped[int] = mapped_column(ForeignKey("images.id"))
    first_left: Mapped[bool] = mapped_column(Boolean)
    kind: Mapped[str] = mapped_column(String(16), default="main")
    repeat_of: Mapped[str | None] = mapped_column(ForeignKey("assignments.trial_id"))
    state: Mapped[str] = mapped_column(String(16), default="open")
    expires: Mapped[float | None] = mapped_column(Float, index=True)
    protocol: Mapped[str] = mapped_column(ForeignKey("protocols.hash"))
    created: Mapped[float] = mapped_column(Float)


class Event(Base):
    """What happened, never changed (triggers refuse UPDATE and DELETE), and the hash of the event before it.

    `seq` counts the events of one voter from 1: voters do not wait for each other. What a bot check said,
    `checked`, comes before there is a trial.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("voter_id", "seq"),
        CheckConstraint("(event = 'checked') = (trial_id IS NULL)", name="trial_id"),
        one_of("event", EVENTS),
    )
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    voter_id: Mapped[str] = mapped_column(ForeignKey("voters.id"))
    seq: Mapped[int] = mapped_column(Integer)
    trial_id: Mapped[str | None] = mapped_column(String(32), index=True)
    event: Mapped[str] = mapped_column(String(16))
    at: Mapped[float] = mapped_column(Float)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous: Mapped[str] = mapped_column(String(64))


class Vote(Base):
    """An answer to a question of a trial; one of them stands, others were undone."""

    __tablename__ = "votes"
    __table_args__ = (
        Index(
            "uq_votes_standing",
            "trial_id",
            "question",
            unique=True,
            sqlite_where=text("undone_by IS NULL"),
            postgresql_where=text("undone_by IS NULL"),
        ),
        one_of("winner", WINNERS),
        CheckConstraint("rt_ms >= 0", name="rt_ms"),
    )
    vote_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("assignments.trial_id"))
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), unique=True)
    question: Mapped[str] = mapped_column(String(64))
    winner: Mapped[str] = mapped_column(String(16))
    rt_ms: Mapped[int | None] = mapped_column(Integer)
    display: Mapped[str | None] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Float, index=True)
    late: Mapped[bool] = mapped_column(Boolean, default=False)
    supersedes: Mapped[str | None] = mapped_column(ForeignKey("votes.vote_id"))
    undone_by: Mapped[int | None] = mapped_column(ForeignKey("events.id"))


class Report(Base):
    """What a voter said about an image that should not be shown; `seen`, when the researcher saw it.

    The event holds no more than the digest of `reason`, which is a voter's own words and may be erased.
    """

    __tablename__ = "reports"
    __table_args__ = (one_of("side", SIDES),)
    trial_id: Mapped[str] = mapped_column(ForeignKey("assignments.trial_id"), primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), unique=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    side: Mapped[str] = mapped_column(String(8))
    reason: Mapped[str | None] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Float)
    seen: Mapped[float | None] = mapped_column(Float)


class Decision(Base):
    """What the researcher did, never changed, and the hash of the decision before it."""

    __tablename__ = "decisions"
    __table_args__ = (one_of("decision", DECISIONS),)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    decision: Mapped[str] = mapped_column(String(16))
    at: Mapped[float] = mapped_column(Float)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous: Mapped[str] = mapped_column(String(64))


class Exclusion(Base):
    """Votes left out when tables are made: all of a judge, all on a prompt, or one vote; until lifted."""

    __tablename__ = "exclusions"
    __table_args__ = (one_of("field", EXCLUDABLE), Index(None, "field", "value"))
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    field: Mapped[str] = mapped_column(String(16))
    value: Mapped[str] = mapped_column(String(100))
    reason: Mapped[str] = mapped_column(Text)
    made: Mapped[int] = mapped_column(ForeignKey("decisions.seq"))
    lifted: Mapped[int | None] = mapped_column(ForeignKey("decisions.seq"))


class Invitation(Base):
    """A link that was given out: for how many people, how many came, until when."""

    __tablename__ = "invitations"
    __table_args__ = (CheckConstraint("uses >= 1 AND used >= 0 AND used <= uses", name="uses"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    label: Mapped[str] = mapped_column(Text, default="")
    uses: Mapped[int] = mapped_column(Integer)
    used: Mapped[int] = mapped_column(Integer, default=0)
    expires: Mapped[float | None] = mapped_column(Float)
    revoked: Mapped[bool] = mapped_column(Boolean, default=False)
    created: Mapped[float] = mapped_column(Float)


class Person(Base):
    """Somebody who takes part, apart from their votes; gone once they withdraw.

    `key` is random, and the voter's pseudonym is made of it. `platform_id` takes part once; `received` is
    all that the platform sent, as it sent it. `consented` to the texts of `protocol`, at that moment.
    `bot_check` is what `study.bot_check` found, which the voter's chain begins with.
    `asked`: was shown the questions about themselves. Without a `voter_id` they have not got to the pairs.
    """

    __tablename__ = "persons"
    __table_args__ = (UniqueConstraint("source", "platform_id"), one_of("source", ENTRANCES))
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(16))
    platform_id: Mapped[str | None] = mapped_column(Text)
    received: Mapped[dict[str, Any]] = mapped_column(JSON)
    invitation: Mapped[int | None] = mapped_column(ForeignKey("invitations.id"))
    protocol: Mapped[str] = mapped_column(ForeignKey("protocols.hash"))
    consented: Mapped[float | None] = mapped_column(Float)
    bot_check: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    asked: Mapped[bool] = mapped_column(Boolean, default=False)
    screened_out: Mapped[bool] = mapped_column(Boolean, default=False)
    voter_id: Mapped[str | None] = mapped_column(ForeignKey("voters.id"), unique=True)
    created: Mapped[float] = mapped_column(Float)


class DemographicAnswer(Base):
    """What a person said about themselves; a question that was skipped has no row."""

    __tablename__ = "demographics"
    person_id: Mapped[str] = mapped_column(ForeignKey("persons.id"), primary_key=True)
    question: Mapped[str] = mapped_column(String(32), primary_key=True)
    answer: Mapped[str] = mapped_column(Text)


class Tombstone(Base):
    """A platform id whose person withdrew, as a keyed digest, so that it does not take part again.

    No voter, no time, no order of insertion: nothing here leads from the id to a judge.
    """

    __tablename__ = "tombstones"
    __table_args__ = ({"sqlite_with_rowid": False},)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)


class AdminLogin(Base):
    """A one-time password (hashed), and after its use the session it opened."""

    __tablename__ = "admin_logins"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    password_hash: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)
    used: Mapped[float | None] = mapped_column(Float)


def table(name: str) -> Table:
    """A table without its class."""
    return Base.metadata.tables[name]


# The view, for reading; not in Base.metadata, because a migration makes it.
votes_v1 = Table("votes_v1", MetaData(), *(Column(name) for name in VOTE_COLUMNS))
