"""One-time passwords for the researcher's pages, and the sessions that they open.

`study serve` and `study password` print a password once and keep its hash. Signing in uses it up: what it
opened is a session that lives in the database, ends at logout, and at the next `study serve`.
"""

import secrets
import time

from sqlalchemy import delete, select, update
from werkzeug.security import check_password_hash, generate_password_hash

from study.schema import AdminLogin
from study.store import Store

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def new_password(store: Store, alone: bool = False) -> str:
    """Make a one-time password, keep its hash and return it; `alone` ends all others and their sessions."""
    # 20 characters in groups, none that looks like another: 99 bits
    password = "-".join("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(4))
    with store.write() as db:
        if alone:
            db.execute(delete(AdminLogin))
        db.add(
            AdminLogin(
                id=secrets.token_hex(16),
                password_hash=generate_password_hash(password),
                created=time.time(),
                used=None,
            )
        )
    return password


def use_password(store: Store, password: str) -> str | None:
    """Use a one-time password up and return the id of the session it opens; None if it is not valid."""
    with store.read() as db:
        unused = db.scalars(select(AdminLogin).where(AdminLogin.used.is_(None))).all()
    for login in unused:
        if check_password_hash(login.password_hash, password):
            with store.write() as db:
                # Of two that come at once, one finds it used.
                taken = db.execute(
                    update(AdminLogin)
                    .where(AdminLogin.id == login.id, AdminLogin.used.is_(None))
                    .values(used=time.time())
                    .returning(AdminLogin.id)
                ).first()
            return login.id if taken else None
    return None


def signed_in(store: Store, login: str | None) -> bool:
    """Whether the id in a session cookie is a session that still stands."""
    if not login:
        return False
    with store.read() as db:
        found = db.get(AdminLogin, login)
        return found is not None and found.used is not None


def sign_out(store: Store, login: str) -> None:
    """End a session."""
    with store.write() as db:
        db.execute(delete(AdminLogin).where(AdminLogin.id == login))
