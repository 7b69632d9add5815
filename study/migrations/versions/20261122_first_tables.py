"""The first tables, what keeps `events` and `decisions` append-only, and the view `votes_v1`."""

import sqlalchemy as sa
from alembic import op

revision = "20261122"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# fmt: off
TABLES = (  # each refers only to ones before it
    "galleries", "methods", "prompts", "images",
    "protocols", "quotas", "cells",
    "voters", "events", "assignments", "votes", "reports",
    "decisions", "exclusions",
    "invitations", "persons", "demographics", "tombstones", "admin_logins",
)
# fmt: on
EVIDENCE = ("events", "decisions")

# model_a is the LEFT image; a degraded one, or one of another seed, has a name of its own.
MODEL = """CASE WHEN {0}.variant <> '' THEN {0}.method_id || ' (' || {0}.variant || ')'
         WHEN {0}.replicate > 0 THEN {0}.method_id || '#' || {0}.replicate
         ELSE {0}.method_id END"""
REASON = """(SELECT exclusions.reason FROM exclusions WHERE exclusions.field = '{0}'
      AND exclusions.value = {1} AND exclusions.lifted IS NULL ORDER BY exclusions.id LIMIT 1)"""
WHY = f"""COALESCE(CASE WHEN votes.undone_by IS NOT NULL THEN 'undone' END,
    {REASON.format("judge", "voters.judge")},
    {REASON.format("vote", "votes.vote_id")},
    {REASON.format("prompt", "prompts.id")})"""
VOTES_V1 = f"""
CREATE VIEW votes_v1 AS
SELECT
    votes.vote_id AS vote_id,
    protocols.study AS study,
    votes.trial_id AS trial_id,
    voters.judge AS judge,
    {MODEL.format("shown_left")} AS model_a,
    {MODEL.format("shown_right")} AS model_b,
    votes.winner AS winner,
    votes.question AS question,
    prompts.id AS prompt_id,
    prompts.category AS category,
    prompts.text AS prompt,
    shown_left.sha256 AS image_a,
    shown_right.sha256 AS image_b,
    shown_left.served_sha256 AS served_a,
    shown_right.served_sha256 AS served_b,
    votes.at AS tstamp,
    votes.rt_ms AS rt_ms,
    assignments.kind AS kind,
    assignments.repeat_of AS repeat_of,
    CAST(NULL AS TEXT) AS condition,
    votes.late AS late,
    votes.supersedes AS supersedes,
    voters.source AS source,
    ({WHY} IS NOT NULL) AS excluded,
    {WHY} AS exclude_reason,
    votes.display AS display,
    assignments.protocol AS protocol,
    CASE WHEN assignments.kind IN ('gold', 'practice')
         THEN CASE WHEN assignments.first_left THEN 'model_a' ELSE 'model_b' END END AS expected,
    voters.bot_check AS bot_check
FROM votes
JOIN assignments ON assignments.trial_id = votes.trial_id
JOIN voters ON voters.id = assignments.voter_id
JOIN protocols ON protocols.hash = assignments.protocol
JOIN images AS shown_left ON shown_left.id = assignments.left_image
JOIN images AS shown_right ON shown_right.id = assignments.right_image
JOIN prompts ON prompts.id = shown_left.prompt_id
"""  # noqa: S608 - texts of ours

APPEND_ONLY = {
    "sqlite": [
        f"""CREATE TRIGGER {{0}}_no_{verb} BEFORE {verb} ON {{0}}
            BEGIN SELECT RAISE(ABORT, '{{0}} are append-only'); END"""
        for verb in ("update", "delete")
    ],
    "postgresql": [
        """CREATE FUNCTION {0}_append_only() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION '{0} are append-only'; END $$""",
        """CREATE TRIGGER {0}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {0}
           FOR EACH STATEMENT EXECUTE FUNCTION {0}_append_only()""",
    ],
}


def upgrade() -> None:
    _make_gallery()
    _make_protocols()
    _make_voters()
    _make_decisions()
    _make_persons()
    op.execute(VOTES_V1)
    for table in EVIDENCE:
        for statement in APPEND_ONLY[op.get_bind().dialect.name]:
            op.execute(statement.format(table))


def downgrade() -> None:
    op.execute("DROP VIEW votes_v1")
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in EVIDENCE:
            op.execute(f"DROP FUNCTION {table}_append_only()")


def _make_gallery() -> None:
    """What the gallery holds."""
    op.create_table(
        "galleries",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("ingested", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "methods",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("gallery", sa.String(length=64), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("base_model", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["gallery"], ["galleries.digest"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "images",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("method_id", sa.String(length=100), nullable=False),
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("served_key", sa.String(length=32), nullable=False),
        sa.Column("served_sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.CheckConstraint("variant IN ('', 'jpeg', 'blur')", name="variant"),
        sa.ForeignKeyConstraint(["method_id"], ["methods.id"]),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("method_id", "prompt_id", "replicate", "variant"),
        sa.UniqueConstraint("served_key"),
    )


def _make_protocols() -> None:
    """Versions of the protocol, and the pairs that each of them wants votes on."""
    op.create_table(
        "protocols",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("study", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sa.UniqueConstraint("version"),
    )
    op.create_table(
        "quotas",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("method_1", sa.String(length=100), nullable=False),
        sa.Column("method_2", sa.String(length=100), nullable=False),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.Column("shuffle", sa.Float(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.Column("load", sa.Integer(), nullable=False),
        sa.Column("lefts", sa.Integer(), nullable=False),
        sa.CheckConstraint("votes >= 0 AND votes <= load", name="votes"),
        sa.CheckConstraint("lefts >= 0 AND lefts <= load", name="lefts"),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.ForeignKeyConstraint(["method_1"], ["methods.id"]),
        sa.ForeignKeyConstraint(["method_2"], ["methods.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("protocol", "method_1", "method_2", "stratum"),
    )
    op.create_index("ix_quotas_protocol_load_shuffle", "quotas", ["protocol", "load", "shuffle"])
    op.create_table(
        "cells",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("quota_id", ROW_ID, nullable=True),
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("method_1", sa.String(length=100), nullable=False),
        sa.Column("method_2", sa.String(length=100), nullable=False),
        sa.Column("image_1", ROW_ID, nullable=False),
        sa.Column("image_2", ROW_ID, nullable=False),
        sa.Column("shuffle", sa.Float(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.CheckConstraint("votes >= 0", name="votes"),
        sa.CheckConstraint("(kind = 'main') = (quota_id IS NOT NULL)", name="quota"),
        sa.CheckConstraint("(kind = 'main') = (method_1 <> method_2)", name="methods"),
        sa.CheckConstraint("(kind = 'null') = (image_1 = image_2)", name="images"),
        sa.CheckConstraint("kind IN ('main', 'gold', 'null', 'noise_floor', 'practice')", name="kind"),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.ForeignKeyConstraint(["quota_id"], ["quotas.id"]),
        sa.ForeignKeyConstraint(["image_1"], ["images.id"]),
        sa.ForeignKeyConstraint(["image_2"], ["images.id"]),
        sa.ForeignKeyConstraint(["method_1"], ["methods.id"]),
        sa.ForeignKeyConstraint(["method_2"], ["methods.id"]),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("protocol", "kind", "image_1", "image_2"),
    )
    op.create_index("ix_cells_quota_id", "cells", ["quota_id"])
    op.create_index("ix_cells_protocol_kind_votes_shuffle", "cells", ["protocol", "kind", "votes", "shuffle"])


def _make_voters() -> None:
    """Voters, and what happened to them."""
    op.create_table(
        "voters",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("judge", sa.String(length=32), nullable=False),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("bot_check", sa.String(length=16), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("withdrawn", sa.Float(), nullable=True),
        sa.CheckConstraint("trials >= 1", name="trials"),
        sa.CheckConstraint("given >= 0", name="given"),
        sa.CheckConstraint("bot_check IN ('verified', 'failed', 'unverified')", name="bot_check"),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("judge"),
    )
    op.create_table(
        "events",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("voter_id", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(length=32), nullable=True),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "event IN ('checked', 'assigned', 'renewed', 'voted', 'undone', 'skipped', 'reported')",
            name="event",
        ),
        sa.CheckConstraint("(event = 'checked') = (trial_id IS NULL)", name="trial_id"),
        sa.ForeignKeyConstraint(["voter_id"], ["voters.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("voter_id", "seq"),
    )
    op.create_index("ix_events_trial_id", "events", ["trial_id"])
    op.create_table(
        "assignments",
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("voter_id", sa.String(length=32), nullable=False),
        sa.Column("cell_id", ROW_ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("left_image", ROW_ID, nullable=False),
        sa.Column("right_image", ROW_ID, nullable=False),
        sa.Column("first_left", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("repeat_of", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('main', 'repeat', 'gold', 'null', 'noise_floor', 'practice')", name="kind"
        ),
        sa.CheckConstraint("state IN ('open', 'voted', 'reopened', 'skipped', 'reported')", name="state"),
        sa.CheckConstraint("left_image <> right_image OR kind = 'null'", name="sides"),
        sa.CheckConstraint("position >= 0", name="position"),
        sa.CheckConstraint("(kind = 'repeat') = (repeat_of IS NOT NULL)", name="repeat_of"),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"]),
        sa.ForeignKeyConstraint(["left_image"], ["images.id"]),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.ForeignKeyConstraint(["repeat_of"], ["assignments.trial_id"]),
        sa.ForeignKeyConstraint(["right_image"], ["images.id"]),
        sa.ForeignKeyConstraint(["voter_id"], ["voters.id"]),
        sa.PrimaryKeyConstraint("trial_id"),
        sa.UniqueConstraint("voter_id", "cell_id", "kind"),
        sa.UniqueConstraint("voter_id", "position"),
    )
    op.create_index("ix_assignments_expires", "assignments", ["expires"])
    op.create_table(
        "votes",
        sa.Column("vote_id", sa.String(length=100), nullable=False),
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("event_id", ROW_ID, nullable=False),
        sa.Column("question", sa.String(length=64), nullable=False),
        sa.Column("winner", sa.String(length=16), nullable=False),
        sa.Column("rt_ms", sa.Integer(), nullable=True),
        sa.Column("display", sa.Text(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("supersedes", sa.String(length=100), nullable=True),
        sa.Column("undone_by", ROW_ID, nullable=True),
        sa.CheckConstraint("winner IN ('model_a', 'model_b', 'tie', 'tie (bothbad)')", name="winner"),
        sa.CheckConstraint("rt_ms >= 0", name="rt_ms"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"]),
        sa.ForeignKeyConstraint(["supersedes"], ["votes.vote_id"]),
        sa.ForeignKeyConstraint(["trial_id"], ["assignments.trial_id"]),
        sa.ForeignKeyConstraint(["undone_by"], ["events.id"]),
        sa.PrimaryKeyConstraint("vote_id"),
        sa.UniqueConstraint("event_id"),
    )
    op.create_index("ix_votes_at", "votes", ["at"])
    op.create_index(
        "uq_votes_standing",
        "votes",
        ["trial_id", "question"],
        unique=True,
        sqlite_where=sa.text("undone_by IS NULL"),
        postgresql_where=sa.text("undone_by IS NULL"),
    )
    op.create_table(
        "reports",
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("event_id", ROW_ID, nullable=False),
        sa.Column("image_id", ROW_ID, nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("seen", sa.Float(), nullable=True),
        sa.CheckConstraint("side IN ('left', 'right')", name="side"),
        sa.ForeignKeyConstraint(["trial_id"], ["assignments.trial_id"]),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"]),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"]),
        sa.PrimaryKeyConstraint("trial_id"),
        sa.UniqueConstraint("event_id"),
    )


def _make_decisions() -> None:
    """What the researcher decided."""
    op.create_table(
        "decisions",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "decision IN ('opened', 'excluded', 'lifted', 'paused', 'resumed', 'closed')", name="decision"
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "exclusions",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made", sa.Integer(), nullable=False),
        sa.Column("lifted", sa.Integer(), nullable=True),
        sa.CheckConstraint("field IN ('judge', 'vote', 'prompt')", name="field"),
        sa.ForeignKeyConstraint(["made"], ["decisions.seq"]),
        sa.ForeignKeyConstraint(["lifted"], ["decisions.seq"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_exclusions_field_value", "exclusions", ["field", "value"])


def _make_persons() -> None:
    """Who takes part, apart from what they did; and who may see the researcher's pages."""
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint("uses >= 1 AND used >= 0 AND used <= uses", name="uses"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "persons",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("platform_id", sa.Text(), nullable=True),
        sa.Column("received", sa.JSON(), nullable=False),
        sa.Column("invitation", sa.Integer(), nullable=True),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("consented", sa.Float(), nullable=True),
        sa.Column("bot_check", sa.JSON(), nullable=True),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("screened_out", sa.Boolean(), nullable=False),
        sa.Column("voter_id", sa.String(length=32), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint("source IN ('link', 'invitation', 'prolific', 'mturk', 'kiosk')", name="source"),
        sa.ForeignKeyConstraint(["invitation"], ["invitations.id"]),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.ForeignKeyConstraint(["voter_id"], ["voters.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "platform_id"),
        sa.UniqueConstraint("voter_id"),
    )
    op.create_table(
        "demographics",
        sa.Column("person_id", sa.String(length=32), nullable=False),
        sa.Column("question", sa.String(length=32), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["persons.id"]),
        sa.PrimaryKeyConstraint("person_id", "question"),
    )
    op.create_table(
        "tombstones",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "admin_logins",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
