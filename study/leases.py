"""Places in quotas: taken when a trial is given out, turned into votes, or given back.

A quota's `load` counts its votes and its live leases. An unanswered trial holds a place until its lease
`expires`; then the place goes back, and a vote that still comes is stored as late. Whoever changes a quota
has its row locked. Only the first such lock of a transaction is ever waited for, all others are skipped
when somebody else holds them: so no two transactions wait for each other.
"""

from collections.abc import Mapping

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from study.schema import Assignment, Cell, Quota

AT_ONCE = 50


def take(session: Session, quota_id: int, first_left: bool) -> None:
    """One more live lease; the caller has locked the quota."""
    _change(session, quota_id, load=1, lefts=int(first_left))


def settle(session: Session, quota_id: int, assignment: Assignment, now: float) -> bool:
    """Turn an assignment's lease into a vote, and say whether it came late."""
    held = assignment.expires is not None
    late = assignment.expires is None or assignment.expires < now
    _change(session, quota_id, votes=1, load=0 if held else 1, lefts=int(assignment.first_left and not held))
    assignment.expires = None
    return late


def unsettle(session: Session, quota_id: int, assignment: Assignment, expires: float) -> None:
    """Turn a vote that was taken back into a lease again."""
    _change(session, quota_id, votes=-1)
    assignment.expires = expires


def release(session: Session, quota_id: int, assignment: Assignment) -> None:
    """Give back the place of a trial that ends without a vote."""
    if assignment.expires is not None:
        _change(session, quota_id, load=-1, lefts=-int(assignment.first_left))
        assignment.expires = None


def renew(session: Session, quota_id: int, first_left: bool, held: bool, wanted: int) -> bool:
    """Whether a lapsed lease can go on: it still holds its place, or the quota has room for it."""
    if held:
        return True
    room = select(Quota.id).where(Quota.id == quota_id).with_for_update(skip_locked=True)
    if wanted:
        room = room.where(Quota.load < wanted)
    if session.scalar(room) is None:
        return False
    take(session, quota_id, first_left)
    return True


def reclaim(session: Session, now: float) -> int:
    """Give back places whose leases have run out, some at a time; returns how many."""
    lapsed = session.execute(
        select(Assignment.trial_id, Assignment.first_left, Quota.id)
        .join(Cell, Cell.id == Assignment.cell_id)
        .join(Quota, Quota.id == Cell.quota_id)
        .where(Assignment.expires < now)
        .order_by(Assignment.expires)
        .limit(AT_ONCE)
        .with_for_update(of=(Assignment, Quota), skip_locked=True)
    ).all()
    for trial_id, first_left, quota_id in lapsed:
        session.execute(update(Assignment).where(Assignment.trial_id == trial_id).values(expires=None))
        _change(session, quota_id, load=-1, lefts=-int(first_left))
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


def _change(session: Session, quota_id: int, **by: int) -> None:
    values: Mapping[str, object] = {name: getattr(Quota, name) + step for name, step in by.items() if step}
    if values:
        session.execute(
            update(Quota)
            .where(Quota.id == quota_id)
            .values(**values)
            .execution_options(synchronize_session=False)
        )
