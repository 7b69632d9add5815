"""The researcher's pages: signing in with a one-time password, live counts and ratings, the dump.

`study serve` prints the password once and keeps its hash. Signing in uses it up: what it opened is a
session that lives in the database, ends at logout, and at the next `study serve`.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from sqlalchemy import delete, func, select, update
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response as AnyResponse

from study.export import csv_lines, vote_rows
from study.protocols import newest
from study.schema import AdminLogin, Assignment, Cell, MethodRow, Quota, Voter, votes_v1
from study.store import Store

bp = Blueprint("admin", __name__, url_prefix="/admin")

# What a rating needs; prompts and display settings stay in the database.
RATED = (
    "vote_id",
    "model_a",
    "model_b",
    "winner",
    "judge",
    "prompt_id",
    "question",
    "tstamp",
    "kind",
    "excluded",
)

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


def _store() -> Store:
    return current_app.config["STORE"]


def admin_only(view: Callable[..., Any]) -> Callable[..., Any]:
    """Send whoever is not signed in to the login page."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if not signed_in(_store(), session.get("admin")):
            return redirect(url_for("admin.login"))
        return view(*args, **kwargs)

    return guarded


@bp.route("/login", methods=["GET", "POST"])
def login() -> str | AnyResponse | tuple[str, int]:
    """Take the one-time password."""
    if request.method == "GET":
        return render_template("login.html")
    opened = use_password(_store(), request.form.get("password", "").strip())
    if opened is None:
        flash("That password is not valid, or was used already. `study password` makes another one.")
        return render_template("login.html"), 403
    session["admin"] = opened
    return redirect(url_for("admin.overview"), 303)


@bp.post("/logout")
@admin_only
def logout() -> AnyResponse:
    """End the session, in the database too."""
    with _store().write() as db:
        db.execute(delete(AdminLogin).where(AdminLogin.id == session.pop("admin")))
    return redirect(url_for("admin.login"), 303)


@bp.get("/")
@admin_only
def overview() -> str:
    """Show how far the study is and what it says so far."""
    counts = count(_store())
    table, notes = ratings(_store(), counts)
    return render_template("admin.html", counts=counts, table=table, notes=notes)


@bp.get("/votes.csv")
@admin_only
def dump() -> Response:
    """Stream all votes as CSV."""
    response = Response(csv_lines(vote_rows(_store())), mimetype="text/csv")
    response.headers["Content-Disposition"] = "attachment; filename=votes.csv"
    response.headers["Cache-Control"] = "no-store"
    return response


@dataclass(frozen=True)
class Counts:
    """How far a study is; `pairs` maps (method, method), both ways round, to votes."""

    votes: int
    voters: int
    finished: int
    cells: int
    cells_voted: int
    methods: list[str]
    sizes: dict[str, int]
    pairs: dict[tuple[str, str], int]

    @property
    def most(self) -> int:
        """Votes of the method pair that has most."""
        return max(self.pairs.values(), default=0)


def count(store: Store) -> Counts:
    """Count from the counters; votes themselves are not read."""
    with store.read() as db:
        methods = db.scalars(select(MethodRow).order_by(MethodRow.id)).all()
        pairs: dict[tuple[str, str], int] = {}
        statement = select(Quota.method_1, Quota.method_2, func.sum(Quota.votes)).group_by(
            Quota.method_1, Quota.method_2
        )
        for one, other, votes in db.execute(statement):
            pairs[one, other] = pairs[other, one] = pairs.get((one, other), 0) + int(votes)
        version = newest(db)
        cells = select(func.count()).where(
            Cell.kind == "main", Cell.protocol == (version.hash if version else "")
        )
        answered = (
            select(Assignment.voter_id, func.count().label("done"))
            .where(Assignment.state == "voted")
            .group_by(Assignment.voter_id)
            .subquery()
        )
        finished = select(func.count()).select_from(Voter).join(answered, answered.c.voter_id == Voter.id)
        return Counts(
            votes=sum(pairs.values()) // 2,
            voters=db.scalar(select(func.count()).select_from(Voter)) or 0,
            finished=db.scalar(finished.where(answered.c.done >= Voter.trials)) or 0,
            cells=db.scalar(cells) or 0,
            cells_voted=db.scalar(cells.where(Cell.votes > 0)) or 0,
            methods=[method.id for method in methods],
            sizes={method.id: method.size_bytes for method in methods if method.size_bytes is not None},
            pairs=pairs,
        )


def ratings(store: Store, counts: Counts) -> tuple[list[dict[str, Any]], list[str]]:
    """The live rating table, as rows with a place for the interval on a common axis (0 to 100), and notes."""
    if counts.votes == 0:
        return [], ["No votes yet."]
    import pandas as pd  # heavy, and only this page needs it

    import elo

    with store.read() as db:
        rows = db.execute(select(*(votes_v1.c[column] for column in RATED))).all()
    try:
        result = elo.compute(
            elo.read_votes(pd.DataFrame(rows, columns=list(RATED))), bootstrap=200, seed=0, sizes=counts.sizes
        )
    except elo.InputError as error:
        return [], [str(error)]
    table = result.ratings.astype(object).where(result.ratings.notna(), None).to_dict("records")
    settings = elo.settings_lines({**result.settings, "source": "this study"})
    return _with_axis(table), [*result.notes, *settings]


def _with_axis(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = [row[key] for row in table for key in ("ci_low", "rating", "ci_high") if row.get(key) is not None]
    if not ends:
        return table
    low, span = min(ends), max(max(ends) - min(ends), 1e-9)
    for row in table:
        for key in ("ci_low", "rating", "ci_high"):
            value = row.get(key)
            row[f"{key}_at"] = None if value is None else round(2 + 96 * (value - low) / span, 2)
    return table
