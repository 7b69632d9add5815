"""A bot check against a service on this machine: what it says is kept, and stops nobody."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs

import pytest
from flask import Flask
from sqlalchemy import select

from study import bot_check, security
from study.bot_check import SERVICES, check
from study.config import BotCheck, Consent, Demographic, Protocol
from study.dumps import verify_dump
from study.exclusions import exclude
from study.export import export_votes
from study.quality import voter_flags
from study.schema import VERDICTS, Event, Voter, votes_v1
from study.status import status, status_lines
from study.store import Store
from study.verify import VerifyError, verify
from study.withdrawal import withdraw
from tests.study.conftest import KEY, NewBrowser, SetUp, persons

ASKED = BotCheck(service="turnstile", site_key="a-site-key")
FIELD = SERVICES["turnstile"].field
SECRET = "the service's secret"  # noqa: S105
AGREE = Consent(text="Yes?")


@dataclass
class Fake:
    """A service that answers as it is told: `says` by token; what is not there hangs until the end."""

    says: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


def says(**told: Any) -> tuple[int, bytes]:
    return 200, json.dumps(told).encode()


def no(*errors: str) -> tuple[int, bytes]:
    return says(success=False, **{"error-codes": list(errors)})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A service, which `SERVICES` names in the place of Turnstile's; there is time enough for its answers."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            fake.asked.append({name: values[0] for name, values in parse_qs(body).items()})
            answer = fake.says.get(fake.asked[-1]["response"])
            if answer is None:
                fake.over.wait()
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(bot_check, "SECONDS", 60)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        _judge_at(monkeypatch, f"http://127.0.0.1:{server.server_port}/siteverify")
        yield fake
        fake.over.set()
        server.shutdown()


def _judge_at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setitem(SERVICES, "turnstile", replace(SERVICES["turnstile"], judge=address))


def verdict(token: str, secret: str = SECRET) -> tuple[str, str]:
    found = check(ASKED, secret, {FIELD: token})
    assert found
    assert found["service"] == "turnstile"
    return found["verdict"], found["why"]


# What the service says


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says(success=True, hostname="study.example"), "verified"),
        (no("invalid-input-response"), "failed"),
        (says(success=False), "failed"),
        (no("timeout-or-duplicate"), "unverified"),  # read the consent for long, or clicked twice
        (no("invalid-or-already-seen-response"), "unverified"),
        (no("invalid-input-secret"), "unverified"),  # our own fault
        (no("invalid-input-response", "internal-error"), "unverified"),
        (says(success="true"), "unverified"),
        (says(), "unverified"),
        ((200, b"[]"), "unverified"),
        ((200, b""), "unverified"),
        ((200, b"\xff<html>"), "unverified"),
        ((200, b"[" * 20_000), "unverified"),
        ((500, b'{"success": false}'), "unverified"),
        ((404, b"gone"), "unverified"),
    ],
)
def test_only_a_token_that_is_called_wrong_has_failed(
    fake: Fake, answer: tuple[int, bytes], expected: str
) -> None:
    fake.says["token"] = answer
    found, why = verdict("token")
    assert found == expected
    assert fake.asked == [{"secret": SECRET, "response": "token"}]  # and nothing about the person
    assert bool(why) == (expected != "verified")
    assert len(why) <= bot_check.LONGEST_WHY


def test_nobody_is_asked_without_a_token_or_a_secret(fake: Fake) -> None:
    assert check(ASKED, SECRET, {}) == {"service": "turnstile", "verdict": "unverified", "why": "no token"}
    assert verdict("token", secret="") == ("unverified", "no BOT_CHECK_SECRET")
    assert check(BotCheck(), SECRET, {FIELD: "token"}) is None
    assert fake.asked == []


def test_a_service_that_hangs_is_not_waited_for(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot_check, "SECONDS", 0.05)
    assert [verdict(f"hang-{number}")[0] for number in range(2 * bot_check.AT_ONCE)] == ["unverified"] * 16


def test_a_service_that_cannot_be_reached(fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    _judge_at(monkeypatch, f"http://127.0.0.1:{port}/")
    found, why = verdict("token")
    assert found == "unverified"
    assert "refused" in why
    assert "a new voter is unverified" in caplog.text  # the researcher's terminal says so
    assert "token" not in caplog.text.replace("no token", "")


def test_each_service_that_the_protocol_may_name_is_known() -> None:
    named = set(get_args(BotCheck.model_fields["service"].annotation))
    assert named == {"", *SERVICES}
    for service in SERVICES.values():
        for address in (service.script, service.judge, *" ".join(service.policy.values()).split()):
            assert address.startswith("https://")


# In a study


@pytest.fixture
def checked(set_up: SetUp, app: Flask) -> Callable[..., Protocol]:
    """Open a study that has a bot check."""
    app.config["BOT_CHECK_SECRET"] = SECRET
    return lambda **settings: set_up(bot_check=ASKED, **settings)


def test_what_was_said_is_evidence_a_flag_and_a_column(
    store: Store, fake: Fake, checked: SetUp, browser: NewBrowser, tmp_path: Path
) -> None:
    checked(consent=AGREE)
    fake.says |= {"good": says(success=True), "bad": no("invalid-input-response"), "old": (503, b"")}
    expectations = {"good": "verified", "bad": "failed", "old": "unverified", "": "unverified"}
    judges = {}
    for token, expected in expectations.items():
        one = browser()
        one.agree(**{FIELD: token})
        assert ">DONE1</output>" in one.vote().text  # nobody is stopped
        with store.read() as session:
            voter = session.get(Voter, persons(store)[-1].voter_id)
            first = session.scalars(select(Event).where(Event.voter_id == voter.id, Event.seq == 1)).one()
        assert (voter.bot_check, first.event, first.trial_id) == (expected, "checked", None)
        assert first.body["verdict"] == expected
        judges[token] = voter.judge
    verify(store)
    with store.read() as session:
        flags = {judge: [flag.name for flag in found] for judge, found in voter_flags(session).items()}
        votes = session.execute(select(votes_v1.c.judge, votes_v1.c.bot_check, votes_v1.c.excluded)).all()
        told = status(session)
    assert flags == {
        judges["bad"]: ["bot_check_failed"],
        judges["old"]: ["bot_check_unverified"],
        judges[""]: ["bot_check_unverified"],
    }
    assert told["bot_checks"] == {"verified": 1, "failed": 1, "unverified": 2}
    lines = list(status_lines(told))
    assert "bot check   1 verified, 1 failed, 2 unverified" in lines
    assert f"  {judges['bad']}  bot_check_failed" in lines
    assert len(votes) == 8
    assert {vote.bot_check for vote in votes} == set(VERDICTS)
    assert not any(vote.excluded for vote in votes)
    dump = export_votes(store, tmp_path / "votes.csv")
    assert dump.rows == 8
    assert "bot_check_failed" in (tmp_path / "votes.csv").read_text()
    assert "8 rows" in verify_dump(store, tmp_path / "votes.csv")
    exclude(store, "judge", [judges["bad"]], "no person")
    verify(store)


def test_a_verdict_that_was_changed_is_found(
    store: Store, fake: Fake, checked: SetUp, browser: NewBrowser
) -> None:
    checked()
    fake.says["bad"] = no()
    browser().agree(**{FIELD: "bad"})
    with store.write() as session:
        session.scalars(select(Voter)).one().bot_check = "verified"
    with pytest.raises(VerifyError, match="bot_check is 'verified', the events say 'failed'"):
        verify(store)


def test_it_is_asked_once_and_survives_questions_and_withdrawal(
    store: Store, fake: Fake, checked: SetUp, browser: NewBrowser
) -> None:
    checked(consent=AGREE, demographics=(Demographic(id="years", text="How old are you?"),))
    fake.says |= {"first": says(success=True), "second": no()}
    one = browser()
    one.agree(**{FIELD: "first"})
    assert one.path == "/about-you"
    token = one.page  # the form that starts, sent again, makes nobody new and asks nobody again
    one.client.application.config["WTF_CSRF_ENABLED"] = False
    one.client.post("/start", data={FIELD: "second"})
    one.page = token
    one.send("/about-you")
    one.vote()
    [person] = persons(store)
    assert len(fake.asked) == 1
    withdraw(store, KEY, person.id)
    with store.read() as session:
        assert session.scalars(select(Voter.bot_check)).all() == ["verified"]
    verify(store)


def test_a_study_without_one_says_nothing_of_it(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    one = browser()
    page = one.go("/")
    assert "bot-check" not in page.text
    one.agree()
    one.vote()
    with store.read() as session:
        assert session.scalars(select(votes_v1.c.bot_check)).all() == [None, None]
        assert "bot_checks" in status(session)
        assert not any(line.startswith("bot check") for line in status_lines(status(session)))


def test_only_the_page_with_the_form_that_starts_lets_the_service_in(
    store: Store, fake: Fake, checked: SetUp, browser: NewBrowser
) -> None:
    checked()
    one = browser()
    page = one.go("/")
    assert f'src="{SERVICES["turnstile"].script}"' in page.text
    assert 'data-sitekey="a-site-key"' in page.text
    assert "Cloudflare Turnstile checks here that a person takes part" in page.text
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy.pop("script-src") == "'self' https://challenges.cloudflare.com"
    assert policy.pop("frame-src") == "https://challenges.cloudflare.com"
    one.agree()
    for page in [one.page, *(one.go(path) for path in ("/", "/vote", "/done", "/nothing"))]:
        assert page.headers["Content-Security-Policy"] == security.policy(framed=True)
    checked(consent=AGREE)
    two = browser()
    assert "cloudflare" not in two.go("/").text
    assert "cloudflare" in two.go("/consent").headers["Content-Security-Policy"]
    again = two.send("/start", protocol="x" * 64, answer="agree")  # the same page, once more
    assert again.status_code == 400
    assert "cloudflare" in again.headers["Content-Security-Policy"]
    assert "cf-turnstile" in again.text
