"""Decisions that pause, resume and close a study.

Down again, they are taken out of the chain of decisions, whose links are made anew; exclusions follow.
"""

import hashlib
import importlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

endings = importlib.import_module("study.migrations.versions.0003_endings")

BEFORE = "'opened', 'excluded', 'lifted'"
AFTER = f"{BEFORE}, 'paused', 'resumed', 'closed'"

decisions = sa.table(
    "decisions", *map(sa.column, ("seq", "decision", "at", "previous")), sa.column("body", sa.JSON)
)
exclusions = sa.table("exclusions", *map(sa.column, ("id", "field", "value", "reason", "made", "lifted")))


def upgrade() -> None:
    endings.allow("decisions", "decision", BEFORE, AFTER)


def downgrade() -> None:
    _forget_pauses(op.get_bind())
    endings.allow("decisions", "decision", AFTER, BEFORE)


def _forget_pauses(bind: sa.Connection) -> None:
    kept = decisions.c.decision.not_in(("paused", "resumed", "closed"))
    rows = bind.execute(sa.select(decisions).where(kept).order_by(decisions.c.seq)).mappings().all()
    rules = bind.execute(sa.select(exclusions)).mappings().all()
    with_triggers = endings.drop_triggers(bind, "decisions")
    bind.execute(sa.delete(exclusions))
    bind.execute(sa.delete(decisions))
    now: dict[int | None, int | None] = {None: None}
    head = ""
    for seq, row in enumerate(rows, start=1):
        now[row["seq"]] = seq
        link: dict[str, Any] = {**row, "seq": seq, "previous": head}
        bind.execute(sa.insert(decisions).values(**link))
        text = json.dumps(link, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        head = hashlib.sha256(text.encode()).hexdigest()
    for rule in rules:
        moved = {"made": now[rule["made"]], "lifted": now[rule["lifted"]]}
        bind.execute(sa.insert(exclusions).values(**{**rule, **moved}))
    for statement in with_triggers:
        op.execute(statement)
