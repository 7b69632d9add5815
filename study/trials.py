"""Which pair, which side, for whom, now.

`choose_cell` is the one place that decides what is shown next. All chance comes from the voter's script,
and every assignment's event keeps the draws and the counts they met, so that it can be explained later.
Costs depend on the voter's own trials, never on votes cast: everything else is looked up by an index.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
)

from study.chain import Held, record
from study.config import Protocol
from study.leases import take
from study.own_trials import Sides, remember
from study.schema import table
from study.script import Step, script

NO_END = 2**31 - 1  # votes wanted where the protocol names no number

assignments, cells, quotas = table("assignments"), table("cells"), table("quotas")
images, prompts = table("images"), table("prompts")
others = images.alias()


@dataclass(frozen=True)
class Trial:
    """What a voter may know of a trial; nothing here tells a method, or a check from a main trial."""

    trial_id: str
    position: int
    prompt: str
    width: int
    height: int
    practice: bool


@dataclass(frozen=True)
class Choice:
    """What to show: a cell, for a repeat also its first time, and what the quota looked like."""

    cell: Any  # a row of SHOWN
    kind: str
    quota_id: int | None = None
    load: int = 0
    lefts: int = 0
    first_time: Any = None


# How much oftener than on the right this voter had the first method on the left before, shown with the same
# second one; of a check: its first image, in checks of its kind.
before, like_it = assignments.alias(), cells.alias()
LEAD = (
    select(func.coalesce(func.sum(case((before.c.first_left, 1), else_=-1)), 0))
    .select_from(before.join(like_it, like_it.c.id == before.c.cell_id))
    .where(
        before.c.voter_id == bindparam("voter"),
        like_it.c.kind == cells.c.kind,
        or_(
            cells.c.kind != "main",
            and_(like_it.c.method_1 == cells.c.method_1, like_it.c.method_2 == cells.c.method_2),
        ),
    )
    .correlate(cells)
    .scalar_subquery()
)
# What a choice needs to know of a cell, and the statements for it, each built once (see study.chain).
SHOWN = (
    *(cells.c[name] for name in ("id", "kind", "method_1", "method_2", "image_1", "image_2", "votes")),
    prompts.c.text,
    images.c.width,
    images.c.height,
    images.c.served_key.label("key_1"),
    others.c.served_key.label("key_2"),
    LEAD.label("lead"),
)
NOT_SEEN = ~exists().where(
    assignments.c.voter_id == bindparam("voter"), assignments.c.cell_id == cells.c.id
).correlate(cells)


def _with_pictures(statement: Select[Any]) -> Select[Any]:
    return (
        statement.join(images, images.c.id == cells.c.image_1)
        .join(others, others.c.id == cells.c.image_2)
        .join(prompts, prompts.c.id == cells.c.prompt_id)
    )


def _least(rows: Select[Any], level: ColumnElement[Any], shuffle: ColumnElement[Any]) -> list[Select[Any]]:
    """Two statements for a row of the lowest level: the first from `draw` on in the shuffled circle, any."""
    least = rows.with_only_columns(level).order_by(level).limit(1).scalar_subquery()
    circle = rows.where(level == least).order_by(shuffle).limit(1)
    return [circle.where(shuffle >= bindparam("draw")), circle]


_PAIRS = _with_pictures(select(*SHOWN)).where(NOT_SEEN)
_OF_QUOTAS = (
    _with_pictures(
        select(quotas.c.id.label("quota_id"), quotas.c.load, quotas.c.lefts, *SHOWN).join(
            cells, cells.c.quota_id == quotas.c.id
        )
    )
    .where(NOT_SEEN)
    .where(quotas.c.protocol == bindparam("protocol"), quotas.c.load < bindparam("wanted"))
)
_UPWARDS = _OF_QUOTAS.order_by(quotas.c.load, quotas.c.shuffle).limit(1)

# Rows of quotas are locked. Those that somebody else is changing are passed over, also for ones of a higher
# level, rather than waited for; WAITED_FOR is for when all of them are.
FREE_QUOTA = [
    one.with_for_update(of=quotas, skip_locked=True)
    for one in (*_least(_OF_QUOTAS, quotas.c.load, quotas.c.shuffle), _UPWARDS)
]
WAITED_FOR = _UPWARDS.with_for_update(of=quotas)
PAIR_OF_QUOTA = _least(_PAIRS.where(cells.c.quota_id == bindparam("quota")), cells.c.votes, cells.c.shuffle)
CHECK = _least(
    _PAIRS.where(cells.c.protocol == bindparam("protocol"), cells.c.kind == bindparam("kind")),
    cells.c.votes,
    cells.c.shuffle,
)
ONE_CELL = _with_pictures(select(*SHOWN)).where(cells.c.id == bindparam("cell"))
OWN = (
    select(
        *(assignments.c[name] for name in ("trial_id", "cell_id", "kind", "position", "first_left", "state")),
        cells.c.method_1,
        cells.c.method_2,
    )
    .join(cells, cells.c.id == assignments.c.cell_id)
    .where(assignments.c.voter_id == bindparam("voter"), assignments.c.kind.in_(("main", "repeat")))
    .order_by(assignments.c.position)
)
GIVE = insert(assignments)


def hand_out(db: Connection, voter: Held, protocol: Protocol, now: float, wait: bool = False) -> Trial | None:
    """Give the voter their next trial, with a lease; None if there is nothing for them now.

    Within a transaction that holds the voter. `wait` if this may wait for a quota that others
    are changing, which needs that no quota was changed in the transaction before.
    """
    position = voter.given
    step = script(protocol, voter.id, voter.trials)[position]
    choice = _choose(db, voter, protocol, position, step, wait)
    if choice is None:
        return None
    if choice.first_time is not None:
        first_left = not choice.first_time.first_left
    else:
        first_left = choose_side(choice.cell.lead, choice.lefts, choice.load, step.draws[2])
    cell, trial_id = choice.cell, secrets.token_hex(16)
    left, right = (cell.image_1, cell.image_2) if first_left else (cell.image_2, cell.image_1)
    told = {
        "position": position,
        "first_left": first_left,
        "kind": choice.kind,
        "repeat_of": choice.first_time.trial_id if choice.first_time else None,
        "expires": None if choice.quota_id is None else now + 60 * protocol.quota.lease_minutes,
        "protocol": voter.protocol,
    }
    images_of_it = {"left_image": left, "right_image": right}
    row = {"trial_id": trial_id, "voter_id": voter.id, "cell_id": cell.id, "state": "open", "created": now}
    db.execute(GIVE, {**row, **images_of_it, **told})
    voter.given += 1
    if choice.quota_id is not None:
        take(db, choice.quota_id, first_left)
    body = {
        "cell": cell.id,
        "left": left,
        "right": right,
        **told,
        # why this cell and this side: the script, and the counts that its draws met
        "planned": step.kind,
        "draws": list(step.draws),
        "load": choice.load,
        "lefts": choice.lefts,
        "cell_votes": cell.votes,
        "lead": cell.lead,
    }
    record(db, voter, trial_id, "assigned", now, body)
    keys = (cell.key_1, cell.key_2) if first_left else (cell.key_2, cell.key_1)
    remember(trial_id, Sides(voter.id, *keys))
    return Trial(trial_id, position, cell.text, cell.width, cell.height, cell.kind == "practice")


def _choose(
    db: Connection, voter: Held, protocol: Protocol, position: int, step: Step, wait: bool
) -> Choice | None:
    """What the script says; a pair that counts where there is no such check (or nothing to repeat) left."""
    choice = None
    if step.kind == "repeat":
        choice = choose_repeat(db, voter.id, position - protocol.checks.repeat_gap, step.draws[0])
    elif step.kind != "main":
        choice = choose_check(db, voter, step)
    return choice or choose_cell(db, voter, protocol, step, wait)


def choose_cell(db: Connection, voter: Held, protocol: Protocol, step: Step, wait: bool) -> Choice | None:
    """A pair in a least-filled quota that has room, which this voter has not seen; its quota is locked.

    `step.draws[0]` chooses among equally filled quotas, `step.draws[1]` among the pairs of one.
    """
    wanted = protocol.quota.votes or NO_END
    asked = {"voter": voter.id, "protocol": voter.protocol, "wanted": wanted, "draw": step.draws[0]}
    found = _first(db, [*FREE_QUOTA, WAITED_FOR] if wait else FREE_QUOTA, asked)
    if found is None:
        return None
    cell = found
    if protocol.quota.per == "category":  # one of many pairs
        pairs = {"voter": voter.id, "quota": found.quota_id, "draw": step.draws[1]}
        cell = _first(db, PAIR_OF_QUOTA, pairs) or found
    return Choice(cell, "main", found.quota_id, found.load, found.lefts)


def choose_check(db: Connection, voter: Held, step: Step) -> Choice | None:
    """A check pair of the step's kind which this voter has not seen, the least answered first."""
    asked = {"voter": voter.id, "protocol": voter.protocol, "kind": step.kind, "draw": step.draws[0]}
    cell = _first(db, CHECK, asked)
    return None if cell is None else Choice(cell, step.kind)


def choose_repeat(db: Connection, voter_id: str, last: int, draw: float) -> Choice | None:
    """One of the voter's pairs up to the position `last` that was not repeated yet, to be mirrored.

    Only such whose mirror keeps the voter's sides for these methods balanced.
    """
    shown = db.execute(OWN, {"voter": voter_id}).all()
    lead: dict[tuple[str, str], int] = {}  # how much oftener the first method stood on the left
    for row in shown:
        pair = row.method_1, row.method_2
        lead[pair] = lead.get(pair, 0) + (1 if row.first_left else -1)
    repeated = {row.cell_id for row in shown if row.kind == "repeat"}
    can = [
        row
        for row in shown
        if row.kind == "main"
        and row.state not in ("skipped", "reported")
        and row.position <= last
        and row.cell_id not in repeated
        and abs(lead[row.method_1, row.method_2] + (-1 if row.first_left else 1)) <= 1
    ]
    if not can:
        return None
    first_time = can[int(draw * len(can))]
    cell = db.execute(ONE_CELL, {"cell": first_time.cell_id, "voter": voter_id}).one()
    return Choice(cell, "repeat", first_time=first_time)


def choose_side(lead: int, lefts: int, load: int, draw: float) -> bool:
    """Whether the first method goes left.

    lead         how much oftener this voter had it left than right: never more than once, either way
    lefts, load  how often all voters had it left, and in all: balanced where the voter leaves the choice
    draw         in [0, 1), where both are even
    """
    if lead:
        return lead < 0
    if 2 * lefts != load:
        return 2 * lefts < load
    return draw < 0.5


def _first(db: Connection, statements: list[Select[Any]], values: dict[str, Any]) -> Any:
    """The first row that one of the statements finds, tried in turn; None if there is none."""
    for statement in statements:
        found = db.execute(statement, values).first()
        if found is not None:
            return found
    return None
