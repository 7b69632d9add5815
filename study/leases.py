"""Places in quotas: taken when a trial is given out, turned into votes, or given back.

A quota's `load` counts its votes and its live leases. An unanswered trial holds a place until its lease
`expires`; then the place goes back, and a vote that still comes is stored as late. Whoever changes a quota
has its row locked. Only the first such lock of a transaction is ever waited for, all others are skipped
when somebody else holds them: so no two transactions wait for each other.
"""

from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.orm import Session

from study.schema import Quota, table

AT_ONCE = 50

assignments, cells, quotas = table("assignments"), table("cells"), table("quotas")

CHANGE = (
    update(quotas)
    .where(quotas.c.id == bindparam("quota"))
    .values({name: quotas.c[name] + bindparam(f"more_{name}") for name in ("votes", "load", "lefts")})
)
LAPSED = (
    select(assignments.c.trial_id, assignments.c.first_left, quotas.c.id)
    .join(cells, cells.c.id == assignments.c.cell_id)
    .join(quotas, quotas.c.id == cells.c.quota_id)
    .where(assignments.c.expires < bindparam("now"))
    .order_by(assignments.c.expires)
    .limit(AT_ONCE)
    .with_for_update(of=(assignments, quotas), skip_locked=True)
)
END_LEASE = update(assignments).where(assignments.c.trial_id == bindparam("trial")).values(expires=None)


def take(db: Connection, quota_id: int, first_left: bool) -> None:
    """One more live lease; the caller has locked the quota."""
    _change(db, quota_id, load=1, lefts=int(first_left))


def settle(db: Connection, quota_id: int, trial: Any, now: float) -> bool:
    """Turn a trial's lease, which the caller ends, into a vote, and say whether it came late."""
    held = trial.expires is not None
    _change(db, quota_id, votes=1, load=0 if held else 1, lefts=int(trial.first_left and not held))
    return not held or trial.expires < now


def unsettle(db: Connection, quota_id: int) -> None:
    """Turn a vote that was taken back into a lease again, which the caller begins."""
    _change(db, quota_id, votes=-1)


def release(db: Connection, quota_id: int, trial: Any) -> None:
    """Give back the place of a trial that ends without a vote; the caller ends the lease."""
    if trial.expires is not None:
        _change(db, quota_id, load=-1, lefts=-int(trial.first_left))


def renew(db: Connection, quota_id: int, first_left: bool, held: bool, wanted: int) -> bool:
    """Whether a lapsed lease can go on: it still holds its place, or the quota has room for it."""
    if held:
        return True
    room = select(quotas.c.id).where(quotas.c.id == quota_id).with_for_update(skip_locked=True)
    if wanted:
        room = room.where(quotas.c.load < wanted)
    if db.scalar(room) is None:
        return False
    take(db, quota_id, first_left)
    return True


def reclaim(db: Connection, now: float) -> int:
    """Give back places whose leases have run out, some at a time; returns how many."""
    lapsed = db.execute(LAPSED, {"now": now}).all()
    for trial_id, first_left, quota_id in lapsed:
        db.execute(END_LEASE, {"trial": trial_id})
        _change(db, quota_id, load=-1, lefts=-int(first_left))
    return len(lapsed)


def sides(session: Session, protocol: str) -> tuple[int, int, int]:
    """Of all votes and live leases of a version: how many show the first method left, how many there are.

    And by how many the two sides differ at most in one quota.
    """
    worst = func.max(func.abs(2 * Quota.lefts - Quota.load))
    found = session.execute(
        select(func.sum(Quota.lefts), func.sum(Quota.load), worst).where(Quota.protocol == protocol)
    ).one()
    return int(found[0] or 0), int(found[1] or 0), int(found[2] or 0)


def _change(db: Connection, quota_id: int, votes: int = 0, load: int = 0, lefts: int = 0) -> None:
    more = {"more_votes": votes, "more_load": load, "more_lefts": lefts}
    db.execute(CHANGE, {"quota": quota_id, **more})
