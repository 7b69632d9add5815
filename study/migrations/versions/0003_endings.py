"""Trials that end without a vote: the events `skipped` and `reported`, and the table of reports.

Down again, such trials are open, without a lease; their last events are taken out of the chains, and the
links after them made anew.
"""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EVENTS = "'assigned', 'renewed', 'shown', 'voted', 'undone', 'excluded'"
MORE_EVENTS = "'assigned', 'renewed', 'shown', 'voted', 'undone', 'skipped', 'reported', 'excluded'"
STATES = "'open', 'voted', 'reopened'"
MORE_STATES = f"{STATES}, 'skipped', 'reported'"


def upgrade() -> None:
    allow("events", "event", EVENTS, MORE_EVENTS)
    allow("assignments", "state", STATES, MORE_STATES)
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


def downgrade() -> None:
    op.drop_table("reports")
    op.execute("UPDATE assignments SET state = 'open' WHERE state IN ('skipped', 'reported')")
    _forget_endings(op.get_bind())
    allow("events", "event", MORE_EVENTS, EVENTS)
    allow("assignments", "state", MORE_STATES, STATES)


def allow(table: str, column: str, before: str, after: str) -> None:
    """Let a column hold other values, without touching the rows."""
    bind, name = op.get_bind(), f"ck_{table}_{column}"
    if bind.dialect.name == "postgresql":
        op.drop_constraint(op.f(name), table)
        op.create_check_constraint(op.f(name), table, f"{column} IN ({after})")
        return
    # SQLite's manual says so for a CHECK; else the table and all that refer to it would have to be copied.
    version = bind.exec_driver_sql("PRAGMA schema_version").scalar_one()
    bind.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = bind.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :before, :after)"
            " WHERE type = 'table' AND name = :name AND instr(sql, :before) > 0"
        ),
        {
            "name": table,
            "before": f"CHECK ({column} IN ({before}))",
            "after": f"CHECK ({column} IN ({after}))",
        },
    )
    if changed.rowcount != 1:
        raise RuntimeError(f"{table}: no CHECK ({column} IN ({before})) in its definition")
    bind.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    bind.exec_driver_sql("PRAGMA writable_schema = OFF")


def _forget_endings(bind: sa.Connection) -> None:
    """Take the events out that revision 0002 does not know, and link the voters' chains again."""
    names = ("id", "voter_id", "seq", "trial_id", "event", "at", "previous")
    events = sa.table("events", *map(sa.column, names), sa.column("body", sa.JSON))
    voters = sa.table("voters", sa.column("id"), sa.column("seq"), sa.column("head"))
    endings = events.c.event.in_(("skipped", "reported"))
    theirs = bind.execute(sa.select(events.c.voter_id).where(endings).distinct()).scalars().all()
    if not theirs:
        return
    with_triggers = drop_triggers(bind, "events")
    bind.execute(sa.delete(events).where(endings))
    for voter in theirs:
        seq, head = 0, ""
        rows = bind.execute(sa.select(events).where(events.c.voter_id == voter).order_by(events.c.seq))
        for row in rows.mappings().all():
            seq += 1
            link: dict[str, Any] = {**row, "seq": seq, "previous": head}
            bind.execute(
                sa.update(events).where(events.c.id == link.pop("id")).values(seq=seq, previous=head)
            )
            text = json.dumps(
                link, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
            head = hashlib.sha256(text.encode()).hexdigest()
        bind.execute(sa.update(voters).where(voters.c.id == voter).values(seq=seq, head=head))
    for statement in with_triggers:
        op.execute(statement)


def drop_triggers(bind: sa.Connection, table: str) -> list[str]:
    """Let rows of `events` or `decisions` be changed; returns what makes them append-only again."""
    if bind.dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_append_only")
        return [f"ALTER TABLE {table} ENABLE TRIGGER {table}_append_only"]
    triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table"
    found = bind.execute(sa.text(triggers), {"table": table}).all()
    for name, _ in found:
        op.execute(f"DROP TRIGGER {name}")
    return [sql for _, sql in found]
