"""The first tables, the append-only rule of `events`, and the view `votes_v1`."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# model_a is the LEFT image. What no part of the platform knows yet is NULL.
VOTES_V1 = """
CREATE VIEW votes_v1 AS
SELECT
    votes.vote_id AS vote_id,
    protocols.study AS study,
    votes.trial_id AS trial_id,
    voters.judge AS judge,
    shown_left.method_id AS model_a,
    shown_right.method_id AS model_b,
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
    CAST(NULL AS TEXT) AS repeat_of,
    CAST(NULL AS TEXT) AS condition,
    FALSE AS late,
    CAST(NULL AS TEXT) AS supersedes,
    voters.source AS source,
    FALSE AS excluded,
    CAST(NULL AS TEXT) AS exclude_reason,
    votes.display AS display,
    assignments.protocol AS protocol
FROM votes
JOIN assignments ON assignments.trial_id = votes.trial_id
JOIN voters ON voters.id = assignments.voter_id
JOIN protocols ON protocols.hash = assignments.protocol
JOIN images AS shown_left ON shown_left.id = assignments.left_image
JOIN images AS shown_right ON shown_right.id = assignments.right_image
JOIN prompts ON prompts.id = shown_left.prompt_id
"""

APPEND_ONLY = {
    "sqlite": [
        f"""CREATE TRIGGER events_no_{verb} BEFORE {verb} ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"""
        for verb in ("update", "delete")
    ],
    "postgresql": [
        """CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$""",
        """CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
           FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()""",
    ],
}


def upgrade() -> None:
    make_shared_tables()
    make_vote_tables()


def make_shared_tables() -> None:
    """What the gallery holds, and admin logins."""
    op.create_table(
        "admin_logins",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "galleries",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("ingested", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
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


def make_vote_tables() -> None:
    """The tables that the next revision makes again, the view and the triggers."""
    op.create_table(
        "protocols",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("study", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "voters",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("judge", sa.String(length=32), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint("trials >= 1", name="trials"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("judge"),
    )
    op.create_table(
        "events",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("voter_id", sa.String(length=32), nullable=False),
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.CheckConstraint("event IN ('assigned', 'shown', 'voted', 'undone', 'excluded')", name="event"),
        sa.ForeignKeyConstraint(["voter_id"], ["voters.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_events_trial_id", "events", ["trial_id"], unique=False)
    op.create_index("ix_events_voter_id", "events", ["voter_id"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("method_id", sa.String(length=100), nullable=False),
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("served_key", sa.String(length=32), nullable=False),
        sa.Column("served_sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["method_id"], ["methods.id"]),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("method_id", "prompt_id", "replicate"),
        sa.UniqueConstraint("served_key"),
    )
    op.create_table(
        "cells",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("method_1", sa.String(length=100), nullable=False),
        sa.Column("method_2", sa.String(length=100), nullable=False),
        sa.Column("image_1", ROW_ID, nullable=False),
        sa.Column("image_2", ROW_ID, nullable=False),
        sa.Column("shuffle", sa.Integer(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.CheckConstraint("method_1 <> method_2", name="methods"),
        sa.CheckConstraint("votes >= 0", name="votes"),
        sa.ForeignKeyConstraint(["image_1"], ["images.id"]),
        sa.ForeignKeyConstraint(["image_2"], ["images.id"]),
        sa.ForeignKeyConstraint(["method_1"], ["methods.id"]),
        sa.ForeignKeyConstraint(["method_2"], ["methods.id"]),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("prompt_id", "method_1", "method_2"),
        sa.UniqueConstraint("shuffle"),
    )
    op.create_index("ix_cells_votes_shuffle", "cells", ["votes", "shuffle"], unique=False)
    op.create_table(
        "assignments",
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("voter_id", sa.String(length=32), nullable=False),
        sa.Column("cell_id", ROW_ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("left_image", ROW_ID, nullable=False),
        sa.Column("right_image", ROW_ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('main', 'repeat', 'gold', 'null', 'noise_floor', 'practice')",
            name="kind",
        ),
        sa.CheckConstraint("state IN ('open', 'voted')", name="state"),
        sa.CheckConstraint("left_image <> right_image", name="sides"),
        sa.CheckConstraint("position >= 0", name="position"),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"]),
        sa.ForeignKeyConstraint(["left_image"], ["images.id"]),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.ForeignKeyConstraint(["right_image"], ["images.id"]),
        sa.ForeignKeyConstraint(["voter_id"], ["voters.id"]),
        sa.PrimaryKeyConstraint("trial_id"),
        sa.UniqueConstraint("voter_id", "cell_id", "kind"),
        sa.UniqueConstraint("voter_id", "position"),
    )
    op.create_table(
        "votes",
        sa.Column("vote_id", sa.String(length=64), nullable=False),
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("event_id", ROW_ID, nullable=False),
        sa.Column("question", sa.String(length=64), nullable=False),
        sa.Column("winner", sa.String(length=16), nullable=False),
        sa.Column("rt_ms", sa.Integer(), nullable=True),
        sa.Column("display", sa.Text(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.CheckConstraint("winner IN ('model_a', 'model_b', 'tie', 'tie (bothbad)')", name="winner"),
        sa.CheckConstraint("rt_ms >= 0", name="rt_ms"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"]),
        sa.ForeignKeyConstraint(["trial_id"], ["assignments.trial_id"]),
        sa.PrimaryKeyConstraint("vote_id"),
        sa.UniqueConstraint("event_id"),
        sa.UniqueConstraint("trial_id", "question"),
    )
    op.create_index("ix_votes_at", "votes", ["at"], unique=False)
    op.execute(VOTES_V1)
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW votes_v1")
    op.drop_index("ix_votes_at", table_name="votes")
    op.drop_table("votes")
    op.drop_table("assignments")
    op.drop_index("ix_cells_votes_shuffle", table_name="cells")
    op.drop_table("cells")
    op.drop_table("images")
    op.drop_table("methods")
    op.drop_index("ix_events_voter_id", table_name="events")
    op.drop_index("ix_events_trial_id", table_name="events")
    op.drop_table("events")
    op.drop_table("voters")
    op.drop_table("protocols")
    op.drop_table("prompts")
    op.drop_table("galleries")
    op.drop_table("admin_logins")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION events_append_only()")
