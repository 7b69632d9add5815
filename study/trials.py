"""Which pair, which side, for whom, now.

`choose_cell` is the one place that decides what is shown next. All chance of a voter's session is
drawn from generators seeded by (study seed, voter, position), so that every assignment can be
drawn again from its event.
"""

import random
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from study.config import Protocol
from study.schema import Assignment, Cell, Event, ImageRow, PromptRow, Voter


@dataclass(frozen=True)
class Trial:
    """What a voter may know of a trial; nothing here tells a method."""

    trial_id: str
    position: int
    prompt: str
    width: int
    height: int


def open_trials(session: Session, voter: Voter, protocol: Protocol) -> tuple[int, list[Trial]]:
    """How many trials the voter has answered, and the unanswered ones in order.

    These are filled up to the one on the screen and `prefetch` more. Within a write transaction that
    holds the voter's row.
    """
    states = select(Assignment.state, func.count()).where(Assignment.voter_id == voter.id)
    counted = {row[0]: row[1] for row in session.execute(states.group_by(Assignment.state))}
    voted, waiting = counted.get("voted", 0), counted.get("open", 0)
    for position in range(voted + waiting, min(voter.trials, voted + 1 + protocol.prefetch)):
        if not assign(session, voter, position, protocol):
            break
    rows = session.execute(
        select(Assignment.trial_id, Assignment.position, PromptRow.text, ImageRow.width, ImageRow.height)
        .join(ImageRow, ImageRow.id == Assignment.left_image)
        .join(PromptRow, PromptRow.id == ImageRow.prompt_id)
        .where(Assignment.voter_id == voter.id, Assignment.state == "open")
        .order_by(Assignment.position)
    )
    return voted, [Trial(*row) for row in rows]


def assign(session: Session, voter: Voter, position: int, protocol: Protocol) -> bool:
    """Give the voter one more trial; False if no unseen cell is left."""
    rng = random.Random(f"{protocol.seed}/{voter.id}/{position}")
    draw_cell, draw_side = rng.random(), rng.random()
    cell = choose_cell(session, voter.id, draw_cell)
    if cell is None:
        return False
    left, right = sides_so_far(session, voter.id, cell)
    first_on_left = choose_side(left, right, draw_side)
    now = time.time()
    assignment = Assignment(
        trial_id=secrets.token_hex(16),
        voter_id=voter.id,
        cell_id=cell.id,
        position=position,
        left_image=cell.image_1 if first_on_left else cell.image_2,
        right_image=cell.image_2 if first_on_left else cell.image_1,
        kind="main",
        state="open",
        protocol=protocol.hash,
        created=now,
    )
    body = {
        "cell": cell.id,
        "position": position,
        "left": assignment.left_image,
        "right": assignment.right_image,
        "kind": assignment.kind,
        "protocol": protocol.hash,
        # why this cell and this side: the draws and the counts they met
        "draws": [draw_cell, draw_side],
        "cell_votes": cell.votes,
        "sides_so_far": [left, right],
    }
    session.add_all(
        [
            assignment,
            Event(voter_id=voter.id, trial_id=assignment.trial_id, event="assigned", at=now, body=body),
        ]
    )
    session.flush()
    return True


def choose_cell(session: Session, voter_id: str, draw: float) -> Cell | None:
    """A least-voted cell that this voter has not had; `draw` in [0, 1) breaks ties.

    Reads counters through an index; its cost depends on the voter's own trials, never on votes cast.
    """
    unseen = ~exists().where(Assignment.voter_id == voter_id, Assignment.cell_id == Cell.id)
    last = select(func.max(Cell.shuffle)).scalar_subquery()
    found = session.execute(select(Cell.votes, last).where(unseen).order_by(Cell.votes).limit(1)).first()
    if found is None:
        return None
    least, end = found
    # Cells stand in a random circle; go on from a random point to the first that fits.
    start = int(draw * (end + 1))
    first = select(Cell).where(unseen, Cell.votes == least).order_by(Cell.shuffle).limit(1)
    return session.scalar(first.where(Cell.shuffle >= start)) or session.scalar(first)


def sides_so_far(session: Session, voter_id: str, cell: Cell) -> tuple[int, int]:
    """How often this voter was given the cell's first method on the left, and on the right."""
    rows = session.scalars(
        select(ImageRow.method_id)
        .join(Assignment, Assignment.left_image == ImageRow.id)
        .join(Cell, Cell.id == Assignment.cell_id)
        .where(
            Assignment.voter_id == voter_id,
            Cell.method_1 == cell.method_1,
            Cell.method_2 == cell.method_2,
        )
    ).all()
    left = sum(method == cell.method_1 for method in rows)
    return left, len(rows) - left


def choose_side(left: int, right: int, draw: float) -> bool:
    """Whether the first method goes left: the rarer side so far, or a coin where they are even.

    So the two counts never differ by more than one.
    """
    return draw < 0.5 if left == right else left < right
