"""Which pair, which side, for whom, now.

`choose_cell` is the one place that decides what is shown next. All chance comes from the voter's script,
and every assignment's event keeps the draws and the counts they met, so that it can be explained later.
Costs depend on the voter's own trials, never on votes cast: everything else is looked up by an index.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session, aliased

from study.chain import record
from study.config import Protocol
from study.leases import take
from study.schema import Assignment, Cell, ImageRow, PromptRow, Quota, Voter
from study.script import Step, script


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


# What a choice needs to know of a cell.
SHOWN = (
    Cell.id,
    Cell.kind,
    Cell.method_1,
    Cell.method_2,
    Cell.image_1,
    Cell.image_2,
    Cell.votes,
    PromptRow.text,
    ImageRow.width,
    ImageRow.height,
)


def hand_out(
    session: Session, voter: Voter, protocol: Protocol, now: float, wait: bool = False
) -> Trial | None:
    """Give the voter their next trial, with a lease; None if there is nothing for them now.

    Within a write transaction that holds the voter's row. `wait` if this may wait for a quota that others
    are changing, which needs that no quota was changed in the transaction before.
    """
    position = voter.given
    step = script(protocol, voter.id, voter.trials)[position]
    choice = _choose(session, voter, protocol, position, step, wait)
    if choice is None:
        return None
    sides = sides_so_far(session, voter.id, choice.cell)
    if choice.first_time is not None:
        first_left = not choice.first_time.first_left
    else:
        first_left = choose_side(*sides, choice.lefts, choice.load, step.draws[2])
    cell = choice.cell
    assignment = Assignment(
        trial_id=secrets.token_hex(16),
        voter_id=voter.id,
        cell_id=cell.id,
        position=position,
        left_image=cell.image_1 if first_left else cell.image_2,
        right_image=cell.image_2 if first_left else cell.image_1,
        first_left=first_left,
        kind=choice.kind,
        repeat_of=choice.first_time.trial_id if choice.first_time else None,
        state="open",
        expires=None if choice.quota_id is None else now + 60 * protocol.quota.lease_minutes,
        protocol=voter.protocol,
        created=now,
    )
    session.add(assignment)
    voter.given += 1
    if choice.quota_id is not None:
        take(session, choice.quota_id, first_left)
    body = {
        "cell": cell.id,
        "position": position,
        "left": assignment.left_image,
        "right": assignment.right_image,
        "first_left": first_left,
        "kind": assignment.kind,
        "repeat_of": assignment.repeat_of,
        "expires": assignment.expires,
        "protocol": voter.protocol,
        # why this cell and this side: the script, and the counts that its draws met
        "planned": step.kind,
        "draws": list(step.draws),
        "load": choice.load,
        "lefts": choice.lefts,
        "cell_votes": cell.votes,
        "sides_so_far": list(sides),
    }
    record(session, voter, assignment.trial_id, "assigned", now, body)
    session.flush()
    return Trial(assignment.trial_id, position, cell.text, cell.width, cell.height, cell.kind == "practice")


def _choose(
    session: Session, voter: Voter, protocol: Protocol, position: int, step: Step, wait: bool
) -> Choice | None:
    """What the script says; a pair that counts where there is no such check (or nothing to repeat) left."""
    choice = None
    if step.kind == "repeat":
        choice = choose_repeat(session, voter.id, position - protocol.checks.repeat_gap, step.draws[0])
    elif step.kind != "main":
        choice = choose_check(session, voter, step)
    return choice or choose_cell(session, voter, protocol, step, wait)


def choose_cell(session: Session, voter: Voter, protocol: Protocol, step: Step, wait: bool) -> Choice | None:
    """A pair in a least-filled quota that has room, which this voter has not seen; its quota is locked.

    `step.draws[0]` chooses among equally filled quotas, `step.draws[1]` among the pairs of one.
    """
    asked = (
        select(Quota.id.label("quota_id"), Quota.load, Quota.lefts, *SHOWN)
        .join(Cell, Cell.quota_id == Quota.id)
        .where(Quota.protocol == voter.protocol, ~_seen(voter.id))
    )
    if protocol.quota.votes:
        asked = asked.where(Quota.load < protocol.quota.votes)
    found = _least(session, _with_pictures(asked), Quota.load, Quota.shuffle, step.draws[0], wait)
    if found is None:
        return None
    cell = found
    if protocol.quota.per == "category":  # one of many pairs
        pairs = select(*SHOWN).where(Cell.quota_id == found.quota_id, ~_seen(voter.id))
        cell = _least(session, _with_pictures(pairs), Cell.votes, Cell.shuffle, step.draws[1]) or found
    return Choice(cell, "main", found.quota_id, found.load, found.lefts)


def choose_check(session: Session, voter: Voter, step: Step) -> Choice | None:
    """A check pair of the step's kind which this voter has not seen, the least answered first."""
    pairs = select(*SHOWN).where(Cell.protocol == voter.protocol, Cell.kind == step.kind, ~_seen(voter.id))
    cell = _least(session, _with_pictures(pairs), Cell.votes, Cell.shuffle, step.draws[0])
    return None if cell is None else Choice(cell, step.kind)


def choose_repeat(session: Session, voter_id: str, last: int, draw: float) -> Choice | None:
    """One of the voter's pairs up to the position `last` that was not repeated yet, to be mirrored.

    Only such whose mirror keeps the voter's sides for these methods balanced.
    """
    shown = session.execute(
        select(Assignment.trial_id, Assignment.cell_id, Assignment.kind, Assignment.position,
               Assignment.first_left, Assignment.state, Cell.method_1, Cell.method_2)
        .join(Cell, Cell.id == Assignment.cell_id)
        .where(Assignment.voter_id == voter_id, Assignment.kind.in_(("main", "repeat")))
        .order_by(Assignment.position)
    ).all()  # fmt: skip
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
    cell = session.execute(_with_pictures(select(*SHOWN)).where(Cell.id == first_time.cell_id)).one()
    return Choice(cell, "repeat", first_time=first_time)


def choose_side(left: int, right: int, lefts: int, load: int, draw: float) -> bool:
    """Whether the first method goes left.

    left, right  how often this voter had it there: they never differ by more than one
    lefts, load  how often all voters had it left, and in all: balanced where the voter leaves the choice
    draw         in [0, 1), where both are even
    """
    if left != right:
        return left < right
    if 2 * lefts != load:
        return 2 * lefts < load
    return draw < 0.5


def sides_so_far(session: Session, voter_id: str, cell: Any) -> tuple[int, int]:
    """How often this voter had the first method (of a check: its first image) left, and how often right."""
    rows = session.scalars(
        select(Assignment.first_left)
        .join(Cell, Cell.id == Assignment.cell_id)
        .where(Assignment.voter_id == voter_id, Cell.kind == cell.kind)
        .where(
            *([Cell.method_1 == cell.method_1, Cell.method_2 == cell.method_2] if cell.kind == "main" else [])
        )
    ).all()
    return sum(rows), len(rows) - sum(rows)


def _seen(voter_id: str) -> ColumnElement[bool]:
    """Whether the voter was given a cell, in a SELECT from cells."""
    given = aliased(Assignment)
    return exists().where(given.voter_id == voter_id, given.cell_id == Cell.id)


def _with_pictures(statement: Any) -> Any:
    return statement.join(ImageRow, ImageRow.id == Cell.image_1).join(
        PromptRow, PromptRow.id == Cell.prompt_id
    )


def _least(
    session: Session,
    rows: Any,
    level: Any,
    shuffle: Any,
    draw: float,
    wait: bool = False,
) -> Any:
    """A row of the lowest level: the first from `draw` on in the shuffled circle; None if there is none.

    Rows of quotas are locked. Those that somebody else is changing are passed over, also for ones of a
    higher level, rather than waited for; if all are, the first one is waited for where `wait` says so.
    """
    least = rows.with_only_columns(level).order_by(level).limit(1).scalar_subquery()
    circle = rows.where(level == least).order_by(shuffle).limit(1)
    tries = [circle.where(shuffle >= draw), circle]
    if level.class_ is Quota:
        upwards = rows.order_by(level, shuffle).limit(1)
        tries = [one.with_for_update(of=Quota, skip_locked=True) for one in [*tries, upwards]]
        tries += [upwards.with_for_update(of=Quota)] if wait else []
    for statement in tries:
        found = session.execute(statement).first()
        if found is not None:
            return found
    return None
