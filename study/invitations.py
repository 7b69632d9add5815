"""Invitations: links for so many people, until a day, which can be revoked.

The link is signed and names a row, which counts who came. Looking at a link uses nothing up: mail servers
look, too.
"""

import time
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from study.schema import Invitation
from study.store import Store
from study.tokens import sign

MOST = 10_000  # at one time


class InvitationError(ValueError):
    """An invitation that cannot be made or revoked; one line."""


class NoEntryError(Exception):
    """Somebody who cannot take part; `reason` is a word for the page that tells them."""

    def __init__(self, reason: str) -> None:
        """Say why, in a word."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Link:
    """An invitation and the path of its link."""

    number: int
    label: str
    uses: int
    used: int
    expires: float | None
    revoked: bool
    path: str


def invite(
    store: Store, secret_key: str, number: int = 1, uses: int = 1, days: float | None = None, label: str = ""
) -> list[Link]:
    """Make invitations, each for `uses` people, ending after so many days (None: never).

    Raises
    ------
    InvitationError
        If there are none or too many of them.
    """
    if not 1 <= number <= MOST:
        raise InvitationError(f"-n: found {number}, expected 1 to {MOST}")
    now = time.time()
    expires = None if days is None else now + days * 86_400
    with store.write() as session:
        rows = [
            Invitation(label=label, uses=uses, used=0, expires=expires, revoked=False, created=now)
            for _ in range(number)
        ]
        session.add_all(rows)
        session.flush()
        return [_link(secret_key, row) for row in rows]


def invitations(store: Store, secret_key: str) -> list[Link]:
    """All invitations in the order in which they were made."""
    with store.read() as session:
        rows = session.scalars(select(Invitation).order_by(Invitation.id)).all()
    return [_link(secret_key, row) for row in rows]


def revoke(store: Store, number: int) -> None:
    """Let nobody else in by an invitation; who came by it goes on.

    Raises
    ------
    InvitationError
        If there is no such invitation.
    """
    with store.write() as session:
        changed = update(Invitation).where(Invitation.id == number).values(revoked=True)
        if session.execute(changed.returning(Invitation.id)).first() is None:
            raise InvitationError(f"no invitation {number} in this study")


def admits(session: Session, number: int) -> None:
    """Make sure that an invitation still lets somebody in.

    Raises
    ------
    NoEntryError
        unknown, revoked, expired or used_up.
    """
    row = session.get(Invitation, number, populate_existing=True)
    if row is None:
        raise NoEntryError("unknown")
    if row.revoked:
        raise NoEntryError("revoked")
    if row.expires is not None and row.expires < time.time():
        raise NoEntryError("expired")
    if row.used >= row.uses:
        raise NoEntryError("used_up")


def use(session: Session, number: int) -> None:
    """Let one person in; of two at once for the last place, one.

    Raises
    ------
    NoEntryError
        As `admits`.
    """
    admits(session, number)
    taken = (
        update(Invitation)
        .where(Invitation.id == number, Invitation.used < Invitation.uses)
        .values(used=Invitation.used + 1)
        .returning(Invitation.id)
        .execution_options(synchronize_session=False)
    )
    if session.execute(taken).first() is None:
        raise NoEntryError("used_up")


def _link(secret_key: str, row: Invitation) -> Link:
    path = "/i/" + sign(secret_key, "invitation", row.id)
    return Link(row.id, row.label, row.uses, row.used, row.expires, row.revoked, path)
