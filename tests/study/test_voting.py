import io
import json
import random
import re
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from PIL import Image
from sqlalchemy import func, select

from study.config import Checks, Protocol, Question
from study.ingest import ingest
from study.protocols import open_protocol
from study.schema import Assignment, Vote, votes_v1
from study.store import Store

NewRobot = Callable[[], Any]


def votes(store: Store) -> int:
    with store.read() as session:
        return session.scalar(select(func.count()).select_from(Vote)) or 0


def test_a_whole_session(store: Store, robot: NewRobot) -> None:
    voter = robot()
    seen = set()
    for number in range(12):
        assert voter.trials[0]["position"] == number
        seen.add(voter.trials[0]["id"])
        response = voter.answer(["left", "right", "tie"][number % 3])
        assert response.status_code == 200
        assert response.json["done"] == number + 1
        assert response.json["total"] == 12
        assert response.json["finished"] == (number == 11)
    assert len(seen) == 12
    assert votes(store) == 12
    assert voter.get("/vote").location == "/done"
    assert voter.get("/").location == "/done"
    assert b"All your answers are stored" in voter.get("/done").data


def test_a_reload_goes_on_where_it_was(robot: NewRobot) -> None:
    voter = robot()
    voter.answer()
    before = list(voter.trials)
    assert voter.look().trials == before
    assert b"Continue with pair 2" in voter.get("/").data
    voter.keep(voter.client.post("/start", data={"csrf_token": voter.token}))
    assert voter.look().trials == before
    assert voter.get("/done").location == "/vote"


def test_nothing_a_voter_receives_names_a_method(robot: NewRobot, method_words: list[bytes]) -> None:
    voter = robot()
    while voter.trials:
        for trial in list(voter.trials):
            for side in ("left", "right"):
                picture = voter.get(trial[side])
                assert picture.status_code == 200
                with Image.open(io.BytesIO(picture.data)) as image:
                    assert image.info == {}
        voter.answer()
    for path in ("/done", "/", "/nothing", "/static/vote.js", "/static/style.css", "/admin/login", "/admin/"):
        voter.get(path)
    voter.post("unknown", {"winner": "fp"})
    with voter.client.session_transaction() as session:  # what the cookie holds, unpacked
        assert set(session) == {"voter", "csrf_token", "_permanent"}
        voter.received.append(json.dumps(dict(session)).encode())
    everything = b"\n".join(voter.received).lower()
    assert len(everything) > 50_000
    assert [word for word in method_words if word in everything] == []


def test_picture_headers_are_the_same_for_all(robot: NewRobot) -> None:
    voter = robot()
    headers = set()
    for trial in voter.trials:
        for side in ("left", "right"):
            found = voter.get(trial[side]).headers
            headers.add(tuple((k, v) for k, v in found if k != "Content-Length"))
            assert not {"ETag", "Last-Modified", "Content-Disposition"} & set(found.keys())
    assert len(headers) == 1


def test_pictures_are_for_the_trials_own_voter(robot: NewRobot, app: Flask) -> None:
    voter, other = robot(), robot()
    address = voter.trials[0]["left"]
    assert voter.get(address).status_code == 200
    assert other.get(address).status_code == 404
    assert app.test_client().get(address).status_code == 404
    assert voter.get(address.replace("left", "middle")).status_code == 404


ANSWER = {"question": "preference", "answer": "left", "rt_ms": 500}
GOOD: dict[str, Any] = {"vote_id": "a-vote-id-0123456", "answers": [ANSWER]}
DISPLAY = {"dpr": 2, "scale": 4, "viewport": [390, 844], "layout": "column", "input": "picture"}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "left",
        {},
        {**GOOD, "answers": "left"},
        {**GOOD, "answers": []},
        {**GOOD, "answers": [{**ANSWER, "answer": "garbage"}]},
        {**GOOD, "answers": [{**ANSWER, "answer": "model_a"}]},
        {**GOOD, "answers": [{**ANSWER, "answer": ["left"]}]},
        {**GOOD, "answers": [{**ANSWER, "winner": "left"}]},
        {**GOOD, "answers": [ANSWER] * 11},
        {**GOOD, "vote_id": ""},
        {**GOOD, "vote_id": "short"},
        {**GOOD, "vote_id": "x" * 65},
        {**GOOD, "vote_id": "'; DROP TABLE votes --"},
        {**GOOD, "answers": [{**ANSWER, "rt_ms": -1}]},
        {**GOOD, "answers": [{**ANSWER, "rt_ms": "soon"}]},
        {**GOOD, "answers": [{**ANSWER, "rt_ms": 10**12}]},
        {**GOOD, "voter": "somebody"},
        {**GOOD, "display": {"dpr": 1}},
        {**GOOD, "display": {**DISPLAY, "dpr": 0}},
        {**GOOD, "display": {**DISPLAY, "note": "x"}},
        {**GOOD, "display": {**DISPLAY, "language": "<script>"}},
    ],
)
def test_garbage_is_refused_and_changes_nothing(store: Store, robot: NewRobot, body: Any) -> None:
    voter = robot()
    response = voter.post(voter.trials[0]["id"], body)
    assert response.status_code == 400
    assert response.json["error"] == "bad_request"
    assert votes(store) == 0


def test_bad_posts_are_refused_with_a_clear_code(store: Store, robot: NewRobot) -> None:
    voter, other = robot(), robot()
    trial = voter.trials[0]["id"]

    def code(response: Any) -> tuple[int, str]:
        return response.status_code, response.json["error"]

    assert code(other.post(trial, GOOD)) == (403, "foreign_trial")
    assert code(voter.post("0" * 32, GOOD)) == (404, "unknown_trial")
    assert code(voter.post(trial, GOOD, token="")) == (400, "csrf")
    assert code(voter.post(trial, GOOD, token=other.token)) == (400, "csrf")
    too_long = {**GOOD, "vote_id": "x" * 20_000}
    assert code(voter.post(trial, too_long)) == (413, "request_entity_too_large")
    assert votes(store) == 0

    assert voter.post(trial, GOOD).status_code == 200
    again = voter.post(trial, GOOD)
    assert (again.status_code, again.json["done"]) == (200, 1)
    stale = voter.post(trial, {**GOOD, "vote_id": "another-vote-id-01"})
    assert code(stale) == (409, "already_answered")
    assert stale.json["trials"] == again.json["trials"]  # the stale page learns where to go on
    reused = voter.post(again.json["trials"][0]["id"], GOOD)
    assert code(reused) == (409, "vote_id_taken")
    assert votes(store) == 1

    undone = voter.post(trial, {"vote_id": GOOD["vote_id"]}, what="undo")
    assert (undone.status_code, undone.json["done"], undone.json["trials"][0]["id"]) == (200, 0, trial)
    assert code(other.post(trial, {"vote_id": GOOD["vote_id"]}, what="undo")) == (403, "foreign_trial")
    assert code(voter.post(trial, {"vote_id": "x"}, what="undo")) == (400, "bad_request")
    assert code(voter.post(trial, {"vote_id": "a-vote-that-is-not"}, what="undo")) == (404, "unknown_vote")


def test_no_session_no_vote(store: Store, robot: NewRobot, stranger: Any) -> None:
    voter = robot()
    assert stranger.get("/vote").location == "/"
    stranger.get("/")
    response = stranger.post(voter.trials[0]["id"], GOOD)
    assert (response.status_code, response.json) == (401, {"error": "no_session"})
    assert votes(store) == 0


def test_the_cookie_is_for_the_server_alone(stranger: Any) -> None:
    cookie = stranger.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_starting_needs_a_token(app: Flask) -> None:
    response = app.test_client().post("/start")
    assert response.status_code == 400
    assert b"too old" in response.data


def test_display_is_stored_with_the_vote(store: Store, robot: NewRobot) -> None:
    voter = robot()
    display = {**DISPLAY, "inspection": {"zoom": 2, "pan": 1, "flip": 3, "largest": 4}}
    assert voter.post(voter.trials[0]["id"], {**GOOD, "display": display}).status_code == 200
    with store.read() as session:
        vote = session.scalars(select(Vote)).one()
    assert vote.display
    unsaid = {"hidden_ms": 0, "blurs": 0, "decode_ms": None, "paint_ms": None, "reveals": 1, "language": None}
    assert json.loads(vote.display) == {**display, **unsaid}
    assert vote.rt_ms == 500


def test_a_page_with_nothing_to_show_may_ask_where_it_is(robot: NewRobot, stranger: Any) -> None:
    voter = robot()
    told = voter.answer()
    assert voter.get("/ballot").json == told.json
    refused = stranger.get("/ballot")
    assert (refused.status_code, refused.json) == (401, {"error": "no_session"})


def test_the_outbox_of_a_voter_is_theirs_and_does_not_tell_who_they_are(robot: NewRobot) -> None:
    def outbox(voter: Any) -> str:
        return re.search(rb'data-voter="([0-9a-f]{16})"', voter.get("/vote").data)[1].decode()

    one, other = robot(), robot()
    assert outbox(one) == outbox(one) != outbox(other)
    with one.client.session_transaction() as session:
        assert outbox(one) not in session["voter"]


def test_no_gallery_yet(make_app: Callable[[], Flask]) -> None:
    response = make_app().test_client().get("/")
    assert response.status_code == 503
    assert b"Not open yet" in response.data


def test_a_voter_stays_under_the_version_they_came_under(
    store: Store, protocol: Protocol, robot: NewRobot
) -> None:
    old = robot()
    assert b'data-answer="tie"' in old.get("/vote").data
    forced = Question(id="better", text="Which one is better?", tie=False, both_bad=True)
    open_protocol(store, protocol.model_copy(update={"questions": (forced,)}))
    new = robot()
    page = new.get("/vote").data
    assert b'data-answer="tie"' not in page
    assert b'data-answer="both_bad"' in page
    assert b"Which one is better?" in page
    assert b"Which one is better?" not in old.get("/vote").data
    assert old.answer("tie").status_code == 200
    refused = new.answer("tie", questions=("better",))
    assert (refused.status_code, refused.json["error"]) == (400, "answer_not_allowed")
    refused = new.answer("left")
    assert (refused.status_code, refused.json["error"]) == (400, "wrong_questions")
    assert new.answer("both_bad", questions=("better",)).status_code == 200
    with store.read() as session:
        hashes = session.scalars(select(votes_v1.c.protocol).order_by(votes_v1.c.tstamp)).all()
    assert hashes[0] == protocol.hash != hashes[1]


def test_checks_look_like_any_other_trial(
    store: Store,
    protocol: Protocol,
    robot: NewRobot,
    method_words: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A voter's id decides the script; for some, no second pair can be repeated without tilting the sides.
    chance = random.Random(0)
    monkeypatch.setattr(secrets, "token_hex", lambda size: chance.randbytes(size).hex())
    checks = Checks(practice=1, golds=2, repeats=2, repeat_gap=4, nulls=1)
    open_protocol(store, protocol.model_copy(update={"checks": checks}))
    voter = robot()
    shapes = set()
    while voter.trials:
        trial = voter.trials[0]
        shapes.add(tuple((key, type(value)) for key, value in trial.items()))
        assert trial["practice"] == (trial["position"] == 0)
        for side in ("left", "right"):
            assert voter.get(trial[side]).status_code == 200
        voter.answer("left")
    assert len(shapes) == 1
    with store.read() as session:
        kinds = Counter(session.scalars(select(Assignment.kind)))
    assert kinds == {"practice": 1, "main": 7, "gold": 2, "repeat": 2, "null": 1}
    everything = b"\n".join(voter.received).lower()
    words = [*method_words, b"gold", b"repeat", b"noise_floor", b"jpeg", b"blur"]
    assert [word for word in words if word in everything] == []


def test_prompts_are_shown_as_text_not_as_markup(
    empty_store: Store,
    make_app: Callable[[], Flask],
    build_gallery: Callable[..., Path],
    tmp_path: Path,
    protocol: Protocol,
) -> None:
    nasty = "</script><script>alert('{}')</script>"
    ingest(build_gallery(tmp_path / "g", prompts=2, text=nasty), empty_store)
    open_protocol(empty_store, protocol)
    client = make_app().test_client()
    client.application.config["WTF_CSRF_ENABLED"] = False
    client.post("/start")
    page = client.get("/vote").text
    assert "alert(" in page
    assert "<script>alert" not in page
