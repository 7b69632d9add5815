import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from sqlalchemy import select

from study import files, security, windows
from study.app import create_app
from study.config import Demographic
from study.logins import new_password
from study.schema import Base
from study.security import POLICY
from study.store import Store
from tests.study.conftest import SetUp

NewRobot = Callable[[], Any]
KEY = "a key for tests, long enough"
STRANGER = {"REMOTE_ADDR": "203.0.113.9"}


@pytest.fixture
def proxied(store: Store, database: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application behind one declared proxy; two participants a minute may start from one address."""
    monkeypatch.setattr(security, "STARTS", "2 per minute")
    folder = store.served.parent
    config = {"STUDY": folder, "SECRET_KEY": KEY, "DATABASE_URL": database}
    app = create_app({**config, "PROXIES": 1})
    yield app
    app.config["STORE"].close()


@pytest.fixture(autouse=True)
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no minute of a limit is over before its test is."""
    monkeypatch.setattr(windows, "time", SimpleNamespace(time=lambda: 1.0))


def through_proxy(address: str, scheme: str = "https") -> dict[str, str]:
    """What nginx adds, having heard from `address`; the client itself claimed to be another."""
    return {"X-Forwarded-For": f"198.51.100.66, {address}", "X-Forwarded-Proto": scheme}


def token_of(page: Any) -> str:
    found = re.search(r'name="csrf[-_]token" (?:value|content)="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


# The key


@pytest.mark.parametrize("key", [None, "", "short", b"fifteen letters"])
def test_no_app_without_a_key_that_is_hard_to_guess(tmp_path: Path, key: str | bytes | None) -> None:
    with pytest.raises(RuntimeError, match="SECRET_KEY must have 16 characters"):
        create_app({"STUDY": tmp_path, "SECRET_KEY": key})


# Headers


def test_every_answer_is_locked_down(robot: NewRobot) -> None:
    voter = robot()
    for path in ("/", "/vote", "/done", "/static/vote.js", voter.trials[0]["left"], "/nothing", "/admin/"):
        headers = voter.get(path).headers
        assert headers["Content-Security-Policy"] == POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "geolocation=()" in headers["Permissions-Policy"]
        assert "Strict-Transport-Security" not in headers  # this is http
    refused = voter.post("0" * 32, {})
    assert refused.status_code == 400
    assert refused.headers["Content-Security-Policy"] == POLICY


def test_the_policy_allows_nothing_inline_and_nobody_elses() -> None:
    allowed = dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert allowed["default-src"] == "'none'"
    assert allowed["frame-ancestors"] == "'none'"
    assert allowed["base-uri"] == "'none'"
    assert set(allowed.values()) == {"'none'", "'self'"}


@pytest.mark.parametrize("page", sorted(files("templates").glob("*.html")), ids=lambda path: path.name)
def test_templates_have_no_inline_script_or_style(page: Path) -> None:
    markup = page.read_text()
    for script in re.findall(r"<script\b[^>]*>", markup):
        assert "src=" in script or 'type="application/json"' in script
    assert not re.search(r"<style\b|\sstyle=|\son[a-z]+=|javascript:", markup)
    assert "|safe" not in markup


def test_what_belongs_to_a_voter_stays_in_no_cache(robot: NewRobot, app: Flask) -> None:
    voter = robot()
    assert voter.get("/vote").headers["Cache-Control"] == "no-store"
    assert voter.get("/nothing").headers["Cache-Control"] == "no-store"
    picture = voter.get(voter.trials[0]["left"]).headers
    assert picture["Cache-Control"] == "private, max-age=86400, immutable"
    assert picture["Vary"] == "Cookie"
    assert voter.answer().headers["Cache-Control"] == "no-store"
    missing = app.test_client().get(voter.trials[0]["left"])
    assert (missing.status_code, missing.headers["Cache-Control"]) == (404, "no-store")


# The cookie, and the proxy


def test_the_cookie_over_http(stranger: Any) -> None:
    cookie = stranger.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie  # the demo has no https, and a voter must get through it


def test_behind_a_declared_proxy_the_cookie_is_for_https(proxied: Flask) -> None:
    answer = proxied.test_client().get("/", headers=through_proxy("203.0.113.7"))
    assert "Secure" in answer.headers["Set-Cookie"]
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_proxy_that_nobody_declared_is_not_believed(app: Flask) -> None:
    answer = app.test_client().get("/", headers=through_proxy("203.0.113.7"))
    assert "Strict-Transport-Security" not in answer.headers


def test_a_cookie_that_we_did_not_sign_is_nobodys(robot: NewRobot, app: Flask) -> None:
    voter = robot()
    cookie = voter.client.get_cookie("study").value
    other_key = Flask("study")
    other_key.secret_key = "another key, which somebody guessed"  # noqa: S105
    signer = other_key.session_interface.get_signing_serializer(other_key)
    assert signer
    with voter.client.session_transaction() as session:
        forged = signer.dumps({"voter": session["voter"]})
    middle = len(cookie) // 2  # the last character has bits that mean nothing
    changed = cookie[:middle] + ("A" if cookie[middle] != "A" else "B") + cookie[middle + 1 :]
    for value in (forged, changed, cookie.partition(".")[0], "x"):
        client = app.test_client()
        client.set_cookie("study", value)
        assert client.get("/vote").location == "/"
        assert client.get(voter.trials[0]["left"]).status_code == 404
    client = app.test_client()
    client.set_cookie("study", cookie)
    assert client.get("/vote").status_code == 200


def test_a_cookie_that_was_read_before_grows_old_and_is_nobody_elses(robot: NewRobot, app: Flask) -> None:
    voter = robot()
    cookie = {"Cookie": f"study={voter.client.get_cookie('study').value}"}
    picture = voter.trials[0]["left"]
    for path in (picture, "/vote", picture):
        with app.test_request_context(path, headers=cookie):
            assert len(session["voter"]) == 32
            session["voter"] = "somebody else"  # of this request alone
    assert voter.get(picture).status_code == 200
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(seconds=-1)
    assert voter.get(picture).status_code == 404
    assert voter.get("/vote").location == "/"


# CSRF


def test_every_post_needs_a_token(app: Flask, robot: NewRobot) -> None:
    voter = robot()
    posts = [rule for rule in app.url_map.iter_rules() if {"POST", "PUT", "PATCH", "DELETE"} & rule.methods]
    assert len(posts) >= 4
    for rule in posts:
        address = rule.build(dict.fromkeys(rule.arguments, "1"))[1]
        for body in ({"data": {"password": "x"}}, {"json": {"answer": "left"}}):
            answer = voter.client.post(address, **body)
            assert answer.status_code == 400, rule
            assert "csrf" in answer.text or "too old" in answer.text


# Redirects


OF_VOTERS = ("/", "/vote", "/done", "/consent", "/kiosk", "/i/x", "/r/x", "/withdraw/x")


@pytest.mark.parametrize("path", [*OF_VOTERS, "/admin/", "/admin/login", "/admin/votes.csv"])
def test_nobody_is_sent_elsewhere(app: Flask, path: str) -> None:
    evil = "https://evil.example/"
    query = dict.fromkeys(("next", "url", "return", "returnTo", "redirect", "redirect_url", "cc"), evil)
    for headers in ({}, {"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}, {"Referer": evil}):
        answer = app.test_client().get(path, query_string=query, headers=headers)
        assert "evil" not in answer.headers.get("Location", "")
        assert "evil" not in answer.text


# Size


def test_a_large_request_is_refused_unread(robot: NewRobot) -> None:
    voter = robot()
    assert voter.post(voter.trials[0]["id"], {"vote_id": "x" * 20_000}).status_code == 413
    form = voter.client.post("/admin/login", data={"password": "x" * 20_000, "csrf_token": voter.token})
    assert form.status_code == 413


# Text that a database refuses


def test_nul_is_refused_wherever_it_stands(set_up: SetUp, robot: NewRobot, stranger: Any) -> None:
    voter = robot()
    trial = voter.trials[0]["id"]
    vote = {"vote_id": "v" * 16, "answers": [{"question": "preference", "answer": "left"}]}
    assert voter.post("a%00b", vote).status_code == 400
    assert voter.get("/trials/a%00b/left.png").status_code == 400
    complaint = {"report_id": "r" * 16, "side": "left", "reason": "a\0b"}
    refused = voter.post(trial, complaint, what="report")
    assert (refused.status_code, refused.json["error"]) == (400, "bad_request")
    complaint["reason"] = "two\nlines, ü, 😀"
    assert voter.post(trial, complaint, what="report").status_code == 200
    set_up(demographics=(Demographic(id="years", text="How old are you?"),))
    assert stranger.get("/?PROLIFIC_PID=abc&STUDY_ID=a%00b").status_code == 400
    stranger.get("/")
    stranger.submit("/start")
    stranger.get("/about-you")
    assert stranger.submit("/about-you", **{"about-years": "a\0b"}).status_code == 400
    assert stranger.submit("/about-you", **{"about-years": "41"}).status_code == 303


# Limits


def test_a_minute_of_voting_at_five_a_second_meets_no_limit(robot: NewRobot) -> None:
    voter = robot()
    votes_a_second, requests_a_vote = 5, 3  # an answer and two pictures
    codes = {
        voter.get("/trials/x/left.png").status_code for _ in range(60 * votes_a_second * requests_a_vote)
    }
    assert codes == {404}


def test_a_whole_session_at_full_speed_meets_no_limit(robot: NewRobot) -> None:
    voter = robot()
    while voter.trials:
        for side in ("left", "right"):
            assert voter.get(voter.trials[0][side]).status_code == 200
        assert voter.answer().status_code == 200
    assert voter.get("/done").status_code == 200


def test_a_participant_is_counted_and_not_the_address(
    store: Store, make_app: Callable[[], Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "EACH", "20 per minute")
    app = make_app()
    greedy, other = app.test_client(), app.test_client()
    for client in (greedy, other):
        client.post("/start", data={"csrf_token": token_of(client.get("/"))})
    codes = [greedy.get("/vote", environ_base=STRANGER).status_code for _ in range(30)]
    assert codes.count(200) == 20  # as a stranger on this machine, starting was not counted
    assert codes[20:] == [429] * 10
    assert other.get("/vote", environ_base=STRANGER).status_code == 200
    # Another address does not help, and an answer is told so in its own words.
    vote = greedy.post("/trials/x/vote", json={}, environ_base={"REMOTE_ADDR": "203.0.113.10"})
    assert (vote.status_code, vote.json) == (429, {"error": "too_many_requests"})
    assert vote.headers["Retry-After"] == "60"
    assert b"One moment, please" in greedy.get("/vote").data


def starts(app: Flask, times: int, **options: Any) -> list[int]:
    codes = []
    for _ in range(times):
        client = app.test_client()
        page = client.get("/", **options)
        codes.append(client.post("/start", data={"csrf_token": token_of(page)}, **options).status_code)
    return codes


def test_one_address_cannot_bring_very_many_voters(
    store: Store, make_app: Callable[[], Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "STARTS", "3 per minute")
    app = make_app()
    assert starts(app, 5, environ_base=STRANGER) == [303, 303, 303, 429, 429]
    assert starts(app, 1, environ_base={"REMOTE_ADDR": "203.0.113.10"}) == [303]
    near = [f"2001:db8:1:2::{number}" for number in range(4)]  # one household
    assert [starts(app, 1, environ_base={"REMOTE_ADDR": address})[0] for address in near] == [303] * 3 + [429]
    # A server on :: sees addresses of version 4 like this; and not all senders are addresses.
    mapped = [f"::ffff:203.0.113.{number}" for number in (9, 11)] + ["unknown", "203.0.113.12:4711"]
    found = [starts(app, 1, environ_base={"REMOTE_ADDR": address})[0] for address in mapped]
    assert found == [429, 303, 303, 303]
    # On this machine, or behind a proxy that nobody declared, all come from one address: not limited.
    assert starts(app, 5) == [303] * 5


def test_behind_a_declared_proxy_the_clients_address_counts(proxied: Flask) -> None:
    one = {"headers": through_proxy("203.0.113.7"), "base_url": "https://localhost"}
    other = {"headers": through_proxy("203.0.113.8"), "base_url": "https://localhost"}
    assert starts(proxied, 3, **one) == [303, 303, 429]
    assert starts(proxied, 3, **other) == [303, 303, 429]


def sign_in(client: FlaskClient, password: str, **options: Any) -> int:
    token = token_of(client.get("/admin/login", **options))
    form = {"password": password, "csrf_token": token}
    return client.post("/admin/login", data=form, **options).status_code


def test_passwords_cannot_be_tried_for_long(store: Store, app: Flask) -> None:
    password = new_password(store)
    client = app.test_client()
    assert [sign_in(client, "wrong") for _ in range(12)] == [403] * 10 + [429] * 2
    assert sign_in(client, password) == 429  # also the right one
    assert sign_in(app.test_client(), password, environ_base=STRANGER) == 303


# Nothing of a person


def test_no_address_is_stored(store: Store, app: Flask) -> None:
    client = app.test_client()
    page = client.get("/", environ_base=STRANGER)
    client.post("/start", data={"csrf_token": token_of(page)}, environ_base=STRANGER)
    assert client.get("/vote", environ_base=STRANGER).status_code == 200
    sign_in(client, "wrong", environ_base=STRANGER)
    with store.engine.connect() as connection:
        found = []
        for table in Base.metadata.sorted_tables:
            found += connection.execute(select(table)).all()
    assert len(found) > 5
    assert STRANGER["REMOTE_ADDR"] not in str(found)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.0.2.7", False),
        ("study.example", False),
        ("", False),
    ],
)
def test_which_hosts_only_this_machine_reaches(host: str, alone: bool) -> None:
    assert security.is_loopback(host) == alone
