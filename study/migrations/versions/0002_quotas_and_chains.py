"""Numbered protocols, quotas with leases, check pairs, chained events, undo, decisions and exclusions.

A study that was voted on goes on: its protocol is written once more in the new form, as the next version,
with a quota for each pair, and its events are chained in the order in which they happened. Down again, what
revision 0001 has no place for is left out: repeats and checks, undone votes, renewed leases, exclusions.
"""

import hashlib
import importlib
import json
import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Made again in another form; each refers only to ones before it.
TABLES = ("protocols", "images", "voters", "events", "cells", "assignments", "votes")

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
         THEN CASE WHEN assignments.first_left THEN 'model_a' ELSE 'model_b' END END AS expected
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
        """CREATE OR REPLACE FUNCTION {0}_append_only() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION '{0} are append-only'; END $$""",
        """CREATE TRIGGER {0}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {0}
           FOR EACH STATEMENT EXECUTE FUNCTION {0}_append_only()""",
    ],
}


def upgrade() -> None:
    _set_aside()
    _make_tables()
    _bring_back()
    op.execute(VOTES_V1)
    for table in ("events", "decisions"):
        for statement in APPEND_ONLY[op.get_bind().dialect.name]:
            op.execute(statement.format(table))
    _put_away()


def downgrade() -> None:
    _set_aside()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION events_append_only()")
    importlib.import_module("study.migrations.versions.0001_first_tables").make_vote_tables()
    _bring_back_what_fits()
    _put_away()
    op.drop_table("exclusions")
    op.drop_table("decisions")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION decisions_append_only()")


def _set_aside() -> None:
    op.execute("DROP VIEW votes_v1")
    for table in TABLES:
        op.execute(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")  # noqa: S608 - names of ours
    for table in reversed(TABLES):
        op.drop_table(table)
        if table == "cells" and sa.inspect(op.get_bind()).has_table("quotas"):
            op.drop_table("quotas")


def _put_away() -> None:
    for table in TABLES:
        op.drop_table(f"old_{table}")
    if op.get_bind().dialect.name == "postgresql":
        for table in ("images", "events", "cells", "quotas"):
            if sa.inspect(op.get_bind()).has_table(table):
                op.execute(  # rows came with their ids
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "  # noqa: S608
                    f"(SELECT coalesce(max(id), 0) + 1 FROM {table}), false)"
                )


def _make_tables() -> None:
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
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint("trials >= 1", name="trials"),
        sa.CheckConstraint("given >= 0", name="given"),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("judge"),
    )
    op.create_table(
        "events",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("voter_id", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(length=32), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "event IN ('assigned', 'renewed', 'shown', 'voted', 'undone', 'excluded')", name="event"
        ),
        sa.ForeignKeyConstraint(["voter_id"], ["voters.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("voter_id", "seq"),
    )
    op.create_index("ix_events_trial_id", "events", ["trial_id"])
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
        sa.CheckConstraint("state IN ('open', 'voted', 'reopened')", name="state"),
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
        "decisions",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.CheckConstraint("decision IN ('opened', 'excluded', 'lifted')", name="decision"),
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


def _bring_back() -> None:
    bind = op.get_bind()
    rows = bind.execute(sa.text("SELECT * FROM old_protocols ORDER BY created, hash")).mappings().all()
    versions = [{**row, "version": number} for number, row in enumerate(rows, start=1)]
    # None: it was never served, and `study open` will make the pairs.
    if versions and "questions" not in json.loads(versions[-1]["body"]):
        versions.append(_in_the_new_form(versions[-1]))
    for row in versions:
        op.execute(
            sa.text(
                "INSERT INTO protocols (hash, version, study, body, created)"
                " VALUES (:hash, :version, :study, :body, :created)"
            ).bindparams(**row)
        )
    op.execute(
        """INSERT INTO images (id, method_id, prompt_id, replicate, variant, sha256, served_key,
               served_sha256, width, height, body)
           SELECT id, method_id, prompt_id, replicate, '', sha256, served_key,
               served_sha256, width, height, body FROM old_images"""
    )
    if versions:
        _bring_back_votes(bind, versions[-1]["hash"])


def _in_the_new_form(last: dict[str, Any]) -> dict[str, Any]:
    old = json.loads(last["body"])
    new = {key: old[key] for key in ("name", "title", "instructions", "seed", "trials_per_voter", "prefetch")}
    new["questions"] = [{"id": "preference", "text": old["question"], "tie": old["ties"]}]
    new["pairs"] = {"across_base_models": old["across_base_models"]}
    body = json.dumps(new, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {
        "hash": hashlib.sha256(body.encode()).hexdigest(),
        "version": last["version"] + 1,
        "study": last["study"],
        "body": body,
        "created": time.time(),
    }


def _bring_back_votes(bind: sa.Connection, protocol: str) -> None:
    """All voters and pairs come under the one protocol; trials keep the one that they were given under."""
    here = {"protocol": protocol}
    bind.execute(
        sa.text(
            """INSERT INTO voters (id, judge, protocol, trials, given, seq, head, source, created)
               SELECT id, judge, :protocol, trials,
                   (SELECT count(*) FROM old_assignments AS a WHERE a.voter_id = v.id), 0, '', source, created
               FROM old_voters AS v"""
        ),
        here,
    )
    bind.execute(
        sa.text(
            """INSERT INTO quotas (id, protocol, method_1, method_2, stratum, shuffle, votes, load, lefts)
               SELECT id, :protocol, method_1, method_2, prompt_id,
                   (shuffle + 0.5) / (SELECT count(*) FROM old_cells), votes, votes,
                   (SELECT count(*) FROM old_assignments AS a
                    WHERE a.cell_id = c.id AND a.state = 'voted' AND a.left_image = c.image_1)
               FROM old_cells AS c"""
        ),
        here,
    )
    bind.execute(
        sa.text(
            """INSERT INTO cells (id, protocol, kind, quota_id, prompt_id, method_1, method_2,
                   image_1, image_2, shuffle, votes)
               SELECT id, :protocol, 'main', id, prompt_id, method_1, method_2, image_1, image_2,
                   (shuffle + 0.5) / (SELECT count(*) FROM old_cells), votes
               FROM old_cells"""
        ),
        here,
    )
    op.execute(
        """INSERT INTO assignments (trial_id, voter_id, cell_id, position, left_image, right_image,
               first_left, kind, repeat_of, state, expires, protocol, created)
           SELECT a.trial_id, a.voter_id, a.cell_id, a.position, a.left_image, a.right_image,
               a.left_image = c.image_1, a.kind, NULL, a.state, NULL, a.protocol, a.created
           FROM old_assignments AS a JOIN old_cells AS c ON c.id = a.cell_id"""
    )
    _chain(bind)
    op.execute(
        """INSERT INTO votes (vote_id, trial_id, event_id, question, winner, rt_ms, display, at, late)
           SELECT vote_id, trial_id, event_id, question, winner, rt_ms, display, at, FALSE FROM old_votes"""
    )


def _chain(bind: sa.Connection) -> None:
    """Link each voter's events as study.chain does."""
    names = ("id", "voter_id", "trial_id", "event", "at")
    old = sa.table("old_events", *map(sa.column, names), sa.column("body", sa.JSON))
    new = sa.table("events", *map(sa.column, (*names, "seq", "previous")), sa.column("body", sa.JSON))
    voters = sa.table("voters", sa.column("id"), sa.column("seq"), sa.column("head"))
    for (voter,) in bind.execute(sa.select(voters.c.id)).all():
        seq, head = 0, ""
        theirs = sa.select(old).where(old.c.voter_id == voter).order_by(old.c.id)
        for row in bind.execute(theirs).mappings().all():
            seq += 1
            link = {**row, "seq": seq, "previous": head}
            bind.execute(sa.insert(new).values(link))
            del link["id"]
            text = json.dumps(
                link, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
            head = hashlib.sha256(text.encode()).hexdigest()
        bind.execute(sa.update(voters).where(voters.c.id == voter).values(seq=seq, head=head))


def _bring_back_what_fits() -> None:
    """Pairs were one for each protocol: of the same ones the first stands for all."""
    for statement in (
        """INSERT INTO protocols (hash, study, body, created)
           SELECT hash, study, body, created FROM old_protocols""",
        """INSERT INTO images (id, method_id, prompt_id, replicate, sha256, served_key, served_sha256,
               width, height, body)
           SELECT id, method_id, prompt_id, replicate, sha256, served_key, served_sha256, width, height, body
           FROM old_images WHERE variant = ''""",
        """INSERT INTO voters (id, judge, trials, source, created)
           SELECT id, judge, trials, source, created FROM old_voters""",
        """INSERT INTO events (id, voter_id, trial_id, event, at, body)
           SELECT id, voter_id, trial_id, event, at, body FROM old_events WHERE event <> 'renewed'""",
        """INSERT INTO cells (id, prompt_id, method_1, method_2, image_1, image_2, shuffle, votes)
           SELECT min(id), prompt_id, method_1, method_2, image_1, image_2,
               row_number() OVER (ORDER BY min(shuffle), min(id)) - 1, sum(votes)
           FROM old_cells WHERE kind = 'main'
           GROUP BY prompt_id, method_1, method_2, image_1, image_2""",
        """INSERT INTO assignments (trial_id, voter_id, cell_id, position, left_image, right_image, kind,
               state, protocol, created)
           SELECT a.trial_id, a.voter_id, c.id, a.position, a.left_image, a.right_image, a.kind,
               CASE a.state WHEN 'voted' THEN 'voted' ELSE 'open' END, a.protocol, a.created
           FROM old_assignments AS a
           JOIN old_cells AS o ON o.id = a.cell_id
           JOIN cells AS c ON c.image_1 = o.image_1 AND c.image_2 = o.image_2
           WHERE a.kind = 'main'""",
        """INSERT INTO votes (vote_id, trial_id, event_id, question, winner, rt_ms, display, at)
           SELECT v.vote_id, v.trial_id, v.event_id, v.question, v.winner, v.rt_ms, v.display, v.at
           FROM old_votes AS v JOIN assignments AS a ON a.trial_id = v.trial_id
           WHERE v.undone_by IS NULL AND length(v.vote_id) <= 64""",
    ):
        op.execute(statement)
