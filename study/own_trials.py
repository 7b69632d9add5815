"""A voter's own trials: which of them wait for a vote, what stands on their sides, whose they are.

Statements that each answer needs are built once (see study.chain).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select, update

from study.chain import Held
from study.schema import WAITING, table
from study.store import Store

assignments, cells, images, prompts = (table(name) for name in ("assignments", "cells", "images", "prompts"))

TRIAL = (
    select(
        *(assignments.c[name] for name in ("trial_id", "voter_id", "position", "kind", "state", "expires",
                                           "first_left", "left_image", "right_image", "cell_id")),
        cells.c.quota_id, prompts.c.text, images.c.width, images.c.height,
    )
    .join(cells, cells.c.id == assignments.c.cell_id)
    .join(images, images.c.id == assignments.c.left_image)
    .join(prompts, prompts.c.id == cells.c.prompt_id)
    .with_for_update(of=assignments)  # against whoever gives lapsed leases back
)  # fmt: skip
OPEN = TRIAL.where(
    assignments.c.voter_id == bindparam("voter"), or_(*(assignments.c.state == state for state in WAITING))
).order_by(assignments.c.position)
NAMED = TRIAL.where(assignments.c.trial_id == bindparam("trial"))
SET_STATE = update(assignments).where(assignments.c.trial_id == bindparam("trial"))
LEFT, RIGHT = images.alias(), images.alias()
PICTURES = (
    select(assignments.c.voter_id, LEFT.c.served_key.label("left"), RIGHT.c.served_key.label("right"))
    .join(LEFT, LEFT.c.id == assignments.c.left_image)
    .join(RIGHT, RIGHT.c.id == assignments.c.right_image)
    .where(assignments.c.trial_id == bindparam("trial"))
)


class RefusedError(Exception):
    """An answer that is not taken; `code` is for programs, `status` for HTTP."""

    def __init__(self, code: str, status: int) -> None:
        """Say why, in a word and in an HTTP status."""
        super().__init__(code)
        self.code, self.status = code, status


def open_trials(db: Connection, voter: Held) -> dict[str, Any]:
    """The trials that wait for their vote, by id, in order; locked."""
    return {row.trial_id: row for row in db.execute(OPEN, {"voter": voter.id})}


def own_trial(db: Connection, voter: Held, trial_id: str) -> Any:
    """The voter's own trial, whatever its state; locked.

    Raises
    ------
    RefusedError
        foreign_trial (403), unknown_trial (404).
    """
    trial = db.execute(NAMED, {"trial": trial_id}).first()
    if trial is None:
        raise RefusedError("unknown_trial", 404)
    if trial.voter_id != voter.id:
        raise RefusedError("foreign_trial", 403)
    return trial


def set_state(db: Connection, trial_id: str, state: str, expires: float | None = None) -> None:
    """Change a trial's state and its lease."""
    db.execute(SET_STATE, {"trial": trial_id, "state": state, "expires": expires})


def quota_of(trial: Any) -> int | None:
    """The quota that a trial counts in; repeats and checks count in none."""
    return trial.quota_id if trial.kind == "main" else None


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True, slots=True)
class Sides:
    """Whose a trial is, and the keys of the files that stand on its sides; none of it ever changes."""

    voter_id: str
    left: str
    right: str


LATELY = 4096  # trials: more than the voters of one process have open at a time
_lately: OrderedDict[str, Sides] = OrderedDict()


def remember(trial_id: str, sides: Sides) -> None:
    """Keep the sides of a trial whose pictures will be asked for next, mostly of this process."""
    _lately[trial_id] = sides
    if len(_lately) > LATELY:
        _lately.popitem(last=False)


def shown_image(store: Store, voter_id: str, trial_id: str, side: str) -> str | None:
    """The key of the file that stands on one side of the voter's own trial."""
    sides = _lately.get(trial_id) or _look_up(store, trial_id)
    if sides is None or sides.voter_id != voter_id:
        return None
    return sides.left if side == "left" else sides.right


def _look_up(store: Store, trial_id: str) -> Sides | None:
    """The sides of a trial that another process handed out, or this one long ago."""
    with store.engine.begin() as connection:  # ends with COMMIT, see Store.read
        row = connection.execute(PICTURES, {"trial": trial_id}).first()
    if row is None:
        return None
    sides = Sides(**row._mapping)
    remember(trial_id, sides)
    return sides
