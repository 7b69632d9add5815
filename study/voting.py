"""The pages a voter sees. Nothing that leaves here names a method."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

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

from study import visitor
from study.ballot import Answer, Answers, Ballot, RefusedError, answer, current, last_votes, undo
from study.chain import NoVoterError
from study.config import Protocol
from study.delivery import send_picture
from study.endings import report, skip
from study.gallery import describe
from study.gate import must_go_on
from study.languages import spoken
from study.own_trials import shown_image
from study.participants import find_voter
from study.protocols import protocol_of
from study.schema import Voter
from study.store import Store
from study.trials import Trial

bp = Blueprint("voting", __name__)
B = TypeVar("B", bound=BaseModel)

SOME_TRIAL = "0" * 32
VOTE_ID = r"\A[A-Za-z0-9-]{16,64}\z"


class Inspection(BaseModel):
    """How closely a pair was looked at: how often each means was used, and the largest zoom."""

    model_config = ConfigDict(extra="forbid")
    zoom: int = Field(ge=0, le=10_000)
    pan: int = Field(ge=0, le=10_000)
    flip: int = Field(ge=0, le=10_000)
    largest: int = Field(ge=1, le=1000)


class Display(BaseModel):
    """How a pair was shown: device pixels a CSS pixel, device pixels an image pixel, window, arrangement.

    hidden_ms   for how long the pair could not be seen before the answer, which rt_ms leaves out
    blurs       how often the window lost the focus
    decode_ms   what decoding both pictures took, before they were shown
    paint_ms    from the begin of the frame that shows them until it was painted
    language    of the page, as HTML writes it
    reveals     2 if it is the second time that the pair is shown, because an answer was taken back; and so on
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    dpr: float = Field(gt=0, le=100)
    scale: float = Field(gt=0, le=1000)
    viewport: tuple[int, int]
    layout: Literal["row", "column"]
    input: Literal["key", "button", "picture"]
    hidden_ms: int = Field(0, ge=0, le=86_400_000)
    blurs: int = Field(0, ge=0, le=10_000)
    decode_ms: int | None = Field(None, ge=0, le=86_400_000)
    paint_ms: int | None = Field(None, ge=0, le=86_400_000)
    reveals: int = Field(1, ge=1, le=10_000)
    language: str | None = Field(None, pattern=r"\A[A-Za-z0-9-]{2,16}\z")
    inspection: Inspection | None = None


class AnswerBody(BaseModel):
    """The answer to one question; rt_ms from the reveal of both pictures, while they could be seen."""

    model_config = ConfigDict(extra="forbid")
    question: str = Field(max_length=32)
    answer: Literal["left", "right", "tie", "both_bad"]
    rt_ms: int | None = Field(None, ge=0, le=86_400_000)


class VoteBody(BaseModel):
    """What the page posts: an answer to each question."""

    model_config = ConfigDict(extra="forbid")
    vote_id: str = Field(pattern=VOTE_ID)
    answers: list[AnswerBody] = Field(min_length=1, max_length=10)
    display: Display | None = None


class UndoBody(BaseModel):
    """Which vote is taken back."""

    model_config = ConfigDict(extra="forbid")
    vote_id: str = Field(pattern=VOTE_ID)


class SkipBody(BaseModel):
    """Why a pair is passed over."""

    model_config = ConfigDict(extra="forbid")
    skip_id: str = Field(pattern=VOTE_ID)
    reason: Literal["cannot_judge", "not_shown", "unpleasant", "other"]


class ReportBody(BaseModel):
    """Which of the two images should not be shown, and why."""

    model_config = ConfigDict(extra="forbid")
    report_id: str = Field(pattern=VOTE_ID)
    side: Literal["left", "right"]
    reason: str = Field("", max_length=200, pattern=r"\A[^\x00]*\z")


def _store() -> Store:
    return current_app.config["STORE"]


def _voter() -> Voter | None:
    return find_voter(_store(), session.get("voter"))


def _protocol_of(voter: Voter) -> Protocol:
    with _store().read() as db:
        return protocol_of(db, voter.protocol)


@bp.get("/vote")
def vote() -> str | AnyResponse:
    """Show the voting page, with the pairs that are open."""
    voter, person = _voter(), visitor.person()
    if voter is None or person is None:
        return redirect(url_for("joining.welcome"))
    ballot = current(_store(), voter.id)
    if ballot.finished:
        return redirect(url_for("leaving.done"))
    must_go_on(_store())
    protocol = spoken(_protocol_of(voter))
    return render_template(
        "vote.html",
        protocol=protocol,
        ballot=_as_json(ballot),
        past=_past(last_votes(_store(), voter.id)),
        asked=_asked(protocol),
        outbox=visitor.outbox(voter.id),
        return_address=visitor.return_address(person),
    )


@bp.get("/ballot")
def ballot() -> tuple[Response, int]:
    """Where the voter stands, for a page that has nothing to show."""
    voter = _voter()
    if voter is None:
        return jsonify(error="no_session"), 401
    return jsonify(_as_json(current(_store(), voter.id))), 200


@bp.post("/trials/<trial_id>/vote")
def cast(trial_id: str) -> tuple[Response, int]:
    """Store the answers to one trial; when this returns, they are on the disk."""
    return _change(VoteBody, lambda voter, body: answer(_store(), voter, trial_id, _answers(body)))


@bp.post("/trials/<trial_id>/undo")
def take_back(trial_id: str) -> tuple[Response, int]:
    """Take one of the last two votes back; its trial is open again."""
    return _change(UndoBody, lambda voter, body: undo(_store(), voter, trial_id, body.vote_id))


@bp.post("/trials/<trial_id>/skip")
def pass_over(trial_id: str) -> tuple[Response, int]:
    """End a trial without a vote, where the protocol allows it."""
    return _change(SkipBody, lambda voter, body: skip(_store(), voter, trial_id, body.skip_id, body.reason))


@bp.post("/trials/<trial_id>/report")
def complain(trial_id: str) -> tuple[Response, int]:
    """End a trial without a vote because of one of its images, and tell the researcher."""
    return _change(
        ReportBody,
        lambda voter, body: report(_store(), voter, trial_id, body.report_id, body.side, body.reason),
    )


def _change(kind: type[B], act: Callable[[str, B], Ballot]) -> tuple[Response, int]:
    voter = session.get("voter", "")
    try:
        body = kind.model_validate(request.get_json(silent=True))
    except ValidationError as error:
        return jsonify(error="bad_request", detail=describe(error)), 400
    try:
        ballot = act(voter, body)
    except NoVoterError:
        return jsonify(error="no_session"), 401
    except RefusedError as error:
        # A stale page learns where the voter stands, so that it can go on from there.
        return jsonify(error=error.code, **_as_json(current(_store(), voter))), error.status
    return jsonify(_as_json(ballot)), 200


def _answers(body: VoteBody) -> Answers:
    return Answers(
        vote_id=body.vote_id,
        given=tuple(Answer(a.question, a.answer, a.rt_ms) for a in body.answers),
        display=body.display.model_dump() if body.display else None,
    )


@bp.get("/trials/<trial_id>/<any(left, right):side>.png")
def picture(trial_id: str, side: str) -> AnyResponse:
    """One side of the voter's own trial."""
    key = shown_image(_store(), session.get("voter", ""), trial_id, side)
    if key is None:
        abort(404)
    return send_picture(_store().served, key, current_app.config["SENDFILE"])


def _asked(protocol: Protocol) -> list[dict[str, Any]]:
    return [{"id": q.id, "text": q.text, "answers": q.sides} for q in protocol.questions]


def _past(cast: list[tuple[Trial, str]]) -> list[dict[str, Any]]:
    """What the page may take back: each pair, and the id of its vote."""
    trials = _trials_as_json(trial for trial, _ in cast)
    return [{"trial": trial, "vote": vote_id} for trial, (_, vote_id) in zip(trials, cast, strict=True)]


def _as_json(ballot: Ballot) -> dict[str, Any]:
    return {
        "done": ballot.done,
        "total": ballot.total,
        "finished": ballot.finished,
        "paused": ballot.paused,
        "trials": _trials_as_json(ballot.trials),
    }


def _trials_as_json(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    # Six addresses are worked out, not six for each trial.
    addresses = {
        "left": url_for("voting.picture", trial_id=SOME_TRIAL, side="left"),
        "right": url_for("voting.picture", trial_id=SOME_TRIAL, side="right"),
        "vote": url_for("voting.cast", trial_id=SOME_TRIAL),
        "undo": url_for("voting.take_back", trial_id=SOME_TRIAL),
        "skip": url_for("voting.pass_over", trial_id=SOME_TRIAL),
        "report": url_for("voting.complain", trial_id=SOME_TRIAL),
    }
    return [
        {
            "id": trial.trial_id,
            "position": trial.position,
            "prompt": trial.prompt,
            "width": trial.width,
            "height": trial.height,
            "practice": trial.practice,
            **{what: url.replace(SOME_TRIAL, trial.trial_id) for what, url in addresses.items()},
        }
        for trial in trials
    ]
