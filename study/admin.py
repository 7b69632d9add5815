"""The researcher's pages: how far the study is, what it says so far, who voted how, the dump.

Only whoever signed in sees any of them; voters never see a number. They are in English, as the commands.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    send_file,
    session,
    url_for,
)
from flask.blueprints import BlueprintSetupState
from werkzeug.wrappers import Response as AnyResponse

from study import telling
from study.exclusions import ExclusionError, exclude, lift
from study.export import WRITERS, card_of, stream_votes
from study.gate import AFTER, turn
from study.live import Live, Look, mark_of
from study.logins import sign_out, signed_in, use_password
from study.progress import progress
from study.reports import mark_seen, reports
from study.schema import ImageRow
from study.standings import questions, standings
from study.store import Store
from study.timing import bars, share_interval, ticks, timing
from study.voters import ORDERS, Voters, find_judge, trials_of

bp = Blueprint("admin", __name__, url_prefix="/admin")

A_PAGE = 100  # voters in one list
CHART = (400, 110)  # width and height of the histogram, in its own units
MIME = {"csv": "text/csv", "jsonl": "application/jsonl", "json": "application/json"}


@bp.record_once
def _remember(state: BlueprintSetupState) -> None:
    """What is kept from one look to the next, by each process for itself."""
    state.app.extensions["live"], state.app.extensions["voters"] = Live(), Voters()
    for name in ("number", "share", "hours", "seconds", "moment"):
        state.app.jinja_env.filters[name] = getattr(telling, f"told_{name}")
    state.app.jinja_env.globals["now"] = time.time


def _store() -> Store:
    return current_app.config["STORE"]


def _look(name: Any, make: Callable[[], Any]) -> Look:
    with _store().read() as db:
        mark = mark_of(db)
    live: Live = current_app.extensions["live"]
    return live.look(name, mark, make)


def admin_only(view: Callable[..., Any]) -> Callable[..., Any]:
    """Send whoever is not signed in to the login page."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if not signed_in(_store(), session.get("admin")):
            return redirect(url_for("admin.login"))
        return view(*args, **kwargs)

    return guarded


# ---------------------------------------------------------------- signing in


@bp.route("/login", methods=["GET", "POST"])
def login() -> str | AnyResponse | tuple[str, int]:
    """Take the one-time password."""
    if request.method == "GET":
        return render_template("admin/login.html")
    opened = use_password(_store(), request.form.get("password", "").strip())
    if opened is None:
        flash("That password is not valid, or was used already. `study password` makes another one.")
        return render_template("admin/login.html"), 403
    session["admin"] = opened
    return redirect(url_for("admin.overview"), 303)


@bp.post("/logout")
@admin_only
def logout() -> AnyResponse:
    """End the session, in the database too."""
    sign_out(_store(), session.pop("admin"))
    return redirect(url_for("admin.login"), 303)


# ---------------------------------------------------------------- how far it is, and what it says


@bp.get("/")
@admin_only
def overview() -> str:
    """Show how far the study is."""
    with _store().read() as db:
        found = progress(db)
    category = request.args.get("category")
    if category not in found.categories():
        category = None
    return render_template("admin/overview.html", progress=found, category=category)


@bp.post("/standing")
@admin_only
def decide_standing() -> AnyResponse:
    """Pause, resume or close the study."""
    decision = request.form.get("decision", "")
    if decision not in AFTER:
        abort(400)
    turn(_store(), decision)
    return redirect(url_for("admin.overview"), 303)


@bp.get("/ratings")
@admin_only
def ratings() -> str:
    """Show a rating table for each question, and rating against size."""
    return render_template("admin/ratings.html", look=_standings())


@bp.get("/ratings/<question>.svg")
@admin_only
def plot(question: str) -> Response:
    """Rating against size as a picture."""
    found = [standing.plot for standing in _standings().value if standing.question == question]
    if not found or found[0] is None:
        abort(404)
    response = Response(found[0], mimetype="image/svg+xml")
    response.headers["Content-Disposition"] = f"inline; filename=pareto-{question}.svg"
    return response


def _standings() -> Look:
    return _look("standings", lambda: standings(_store()))


@bp.get("/answers")
@admin_only
def answers() -> str:
    """Show response times, on all method pairs or on one, and how the sides are balanced."""
    asked = questions(_store())
    question = request.args.get("question", "")
    if question not in asked:
        question = next(iter(asked), "")
    with _store().read() as db:
        found = progress(db)
        pairs = found.pairs()
        one, _, other = request.args.get("pair", "").partition("|")
        pair = (one, other) if (one, other) in pairs else None
        look = _look(("timing", question, pair), lambda: timing(db, question, pair))
    left, right = (look.value.winners.get(winner, 0) for winner in ("model_a", "model_b"))
    load = pairs[pair] if pair else found.total()
    return render_template(
        "admin/answers.html",
        questions=asked,
        question=question,
        pairs=list(pairs),
        pair=pair,
        look=look,
        timing=look.value,
        chart=CHART,
        bars=bars(look.value, *CHART),
        ticks=ticks(CHART[0]),
        sides=[
            (
                "Shown with the first method left",
                load.lefts,
                load.load,
                share_interval(load.lefts, load.load),
            ),
            ("Answered: the left picture", left, left + right, share_interval(left, left + right)),
        ],
    )


# ---------------------------------------------------------------- who voted


@bp.get("/voters")
@admin_only
def voters() -> str:
    """List the voters with their flags, in an order and from a line that the address names."""
    order = request.args.get("sort", "flags")
    order = order if order in ORDERS else "flags"
    flagged = "flagged" in request.args
    with _store().read() as db:
        known: Voters = current_app.extensions["voters"]
        lines = known.lines(db)
    shown = [line for line in lines if line.flags or not flagged]
    shown.sort(key=lambda line: (ORDERS[order](line), line.created), reverse=True)
    start = min(request.args.get("from", 0, type=int), len(shown)) if shown else 0
    return render_template(
        "admin/voters.html",
        lines=shown[max(0, start) : max(0, start) + A_PAGE],
        start=max(0, start),
        found=len(shown),
        voters=len(lines),
        page=A_PAGE,
        order=order,
        flagged=flagged,
    )


@bp.get("/voters/<judge>")
@admin_only
def voter(judge: str) -> str:
    """Show one voter: flags, every trial and every answer."""
    known: Voters = current_app.extensions["voters"]
    with _store().read() as db:
        found = find_judge(db, judge)
        if found is None:
            abort(404)
        (line,) = known.lines(db, judge)
        return render_template("admin/voter.html", line=line, trials=trials_of(db, found))


@bp.post("/voters/<judge>/exclude")
@admin_only
def exclude_voter(judge: str) -> AnyResponse:
    """Leave all votes of a voter out of the tables, with a reason."""
    try:
        exclude(_store(), "judge", [judge], request.form.get("reason", ""))
    except ExclusionError as error:
        flash(f"Nothing was excluded: {error}")
    return redirect(url_for("admin.voter", judge=judge), 303)


@bp.post("/voters/<judge>/lift/<int:rule>")
@admin_only
def lift_rule(judge: str, rule: int) -> AnyResponse:
    """Let the votes that a rule excludes count again."""
    try:
        lift(_store(), rule)
    except ExclusionError as error:
        flash(str(error))
    return redirect(url_for("admin.voter", judge=judge), 303)


@bp.get("/images/<int:image>.png")
@admin_only
def picture(image: int) -> AnyResponse:
    """An image as voters get it."""
    with _store().read() as db:
        found = db.get(ImageRow, image)
    if found is None:
        abort(404)
    response = send_file(_store().served / f"{found.served_key}.png", mimetype="image/png")
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response


@bp.get("/reports")
@admin_only
def complaints() -> str:
    """List what voters reported, with the images."""
    with _store().read() as db:
        return render_template("admin/reports.html", reports=reports(db))


@bp.post("/reports/<trial>/seen")
@admin_only
def seen(trial: str) -> AnyResponse:
    """Take note that a report was seen."""
    if not mark_seen(_store(), trial):
        abort(404)
    return redirect(url_for("admin.complaints"), 303)


# ---------------------------------------------------------------- out


@bp.get("/votes.<kind>")
@admin_only
def dump(kind: str) -> Response:
    """Stream all votes."""
    if kind not in WRITERS:
        abort(404)
    return _download(
        stream_votes(_store(), kind), f"votes.{kind}", MIME.get(kind, "application/octet-stream")
    )


@bp.get("/README-<kind>.md")
@admin_only
def card(kind: str) -> Response:
    """The card of the dump in such a format."""
    if kind not in WRITERS:
        abort(404)
    return _download(card_of(_store(), f"votes.{kind}"), "README.md", "text/markdown")


def _download(body: Any, name: str, mimetype: str) -> Response:
    response = Response(body, mimetype=mimetype)
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    return response
