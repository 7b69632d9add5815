"""The pages a voter sees. Nothing that leaves here names a method."""

from typing import Any, Literal

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.wrappers import Response as AnyResponse

from study.ballot import Answer, Ballot, RefusedError, answer, current, shown_image
from study.config import Protocol
from study.gallery import describe
from study.participants import add_voter, find_voter, trials_for_one
from study.schema import Voter
from study.store import Store

bp = Blueprint("voting", __name__)

SECONDS_A_PAIR = 6  # for the estimate on the welcome page


class Inspection(BaseModel):
    """How closely a pair was looked at: how often each means was used, and the largest zoom."""

    model_config = ConfigDict(extra="forbid")
    zoom: int = Field(ge=0, le=10_000)
    pan: int = Field(ge=0, le=10_000)
    flip: int = Field(ge=0, le=10_000)
    largest: int = Field(ge=1, le=8)


class Display(BaseModel):
    """How a pair was shown: device pixels a CSS pixel, device pixels an image pixel, window, arrangement."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    dpr: float = Field(gt=0, le=100)
    scale: float = Field(gt=0, le=1000)
    viewport: tuple[int, int]
    layout: Literal["row", "column"]
    input: Literal["key", "button", "picture"]
    inspection: Inspection | None = None


class VoteBody(BaseModel):
    """What the page posts."""

    model_config = ConfigDict(extra="forbid")
    vote_id: str = Field(pattern=r"\A[A-Za-z0-9-]{16,64}\z")
    answer: Literal["left", "right", "tie"]
    rt_ms: int | None = Field(None, ge=0, le=86_400_000)
    display: Display | None = None


def _store() -> Store:
    return current_app.config["STORE"]


def _protocol() -> Protocol:
    return current_app.config["PROTOCOL"]


def _voter() -> Voter | None:
    return find_voter(_store(), session.get("voter"))


@bp.get("/")
def welcome() -> str | AnyResponse:
    """Say what the study is and how long it takes."""
    voter, ballot = _voter(), None
    if voter is not None:
        ballot = current(_store(), voter.id, _protocol())
        if ballot.finished:
            return redirect(url_for("voting.done"))
    total = voter.trials if voter else trials_for_one(_store(), _protocol())
    if total == 0:
        abort(503, "This study has no pictures yet.")
    minutes = max(1, round(total * SECONDS_A_PAIR / 60))
    return render_template("welcome.html", ballot=ballot, total=total, minutes=minutes)


@bp.post("/start")
def start() -> AnyResponse:
    """Make a voter, unless this browser is one already."""
    if _voter() is None:
        voter = add_voter(_store(), _protocol(), current_app.config["SECRET_KEY"])
        if voter is None:
            abort(503, "This study has no pictures yet.")
        session["voter"] = voter.id
        session.permanent = True
    return redirect(url_for("voting.vote"), 303)


@bp.get("/vote")
def vote() -> str | AnyResponse:
    """Show the voting page, with the pairs that are open."""
    voter = _voter()
    if voter is None:
        return redirect(url_for("voting.welcome"))
    ballot = current(_store(), voter.id, _protocol())
    if ballot.finished:
        return redirect(url_for("voting.done"))
    return render_template("vote.html", ballot=_as_json(ballot))


@bp.post("/trials/<trial_id>/vote")
def cast(trial_id: str) -> tuple[Response, int]:
    """Store one answer; when this returns, it is on the disk."""
    voter = _voter()
    if voter is None:
        return jsonify(error="no_session"), 401
    try:
        body = VoteBody.model_validate(request.get_json(silent=True))
    except ValidationError as error:
        return jsonify(error="bad_request", detail=describe(error)), 400
    given = Answer(
        vote_id=body.vote_id,
        side=body.answer,
        rt_ms=body.rt_ms,
        display=body.display.model_dump() if body.display else None,
    )
    try:
        ballot = answer(_store(), voter.id, trial_id, given, _protocol())
    except RefusedError as error:
        # A stale page learns where the voter stands, so that it can go on from there.
        ballot = current(_store(), voter.id, _protocol())
        return jsonify(error=error.code, **_as_json(ballot)), error.status
    return jsonify(_as_json(ballot)), 200


@bp.get("/trials/<trial_id>/<any(left, right):side>.png")
def picture(trial_id: str, side: str) -> AnyResponse:
    """One side of the voter's own trial; no date and no tag that could tell images apart."""
    key = shown_image(_store(), session.get("voter", ""), trial_id, side)
    if key is None:
        abort(404)
    data = (_store().served / f"{key}.png").read_bytes()
    response = Response(data, mimetype="image/png")
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response


@bp.get("/done")
def done() -> str | AnyResponse:
    """Thank a voter who is done; others go where they were."""
    voter = _voter()
    if voter is None:
        return redirect(url_for("voting.welcome"))
    ballot = current(_store(), voter.id, _protocol())
    if not ballot.finished:
        return redirect(url_for("voting.vote"))
    return render_template("done.html", ballot=ballot)


def _as_json(ballot: Ballot) -> dict[str, Any]:
    return {
        "done": ballot.done,
        "total": ballot.total,
        "finished": ballot.finished,
        "trials": [
            {
                "id": trial.trial_id,
                "position": trial.position,
                "prompt": trial.prompt,
                "width": trial.width,
                "height": trial.height,
                "left": url_for("voting.picture", trial_id=trial.trial_id, side="left"),
                "right": url_for("voting.picture", trial_id=trial.trial_id, side="right"),
                "vote": url_for("voting.cast", trial_id=trial.trial_id),
            }
            for trial in ballot.trials
        ],
    }
