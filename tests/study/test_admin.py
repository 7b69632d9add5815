import csv
import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
from flask import Flask
from sqlalchemy import select

from study import live
from study.exclusions import rules
from study.export import export_votes
from study.logins import new_password
from study.schema import Voter, votes_v1
from study.store import Store

NewRobot = Callable[[], Any]
PAGES = ("/admin/", "/admin/ratings", "/admin/answers", "/admin/voters", "/admin/reports")


@pytest.fixture(autouse=True)
def nothing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine, too, what the pages show is made again after each vote."""
    monkeypatch.setattr(live, "QUICK", math.inf)


def addresses(app: Flask) -> list[tuple[str, str]]:
    """Every address of the researcher's, with some value where it wants one."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/admin") and rule.endpoint != "admin.login":
            path = re.sub(r"<int:\w+>", "1", rule.rule)
            path = re.sub(r"<\w+>", "csv", path)
            found += [(method, path) for method in sorted(rule.methods & {"GET", "POST"})]
    return found


def cast(robot: NewRobot, *sides: str, number: int = 12) -> list[Any]:
    """A voter for each of the sides, who gives that answer to so many trials."""
    voters = []
    for side in sides:
        voters.append(robot())
        for _ in range(number):
            voters[-1].answer(side)
    return voters


def judges(store: Store) -> list[str]:
    with store.read() as session:
        return list(session.scalars(select(Voter.judge).order_by(Voter.created)))


# ---------------------------------------------------------------- who may look


def test_every_address_is_for_the_researcher_only(app: Flask, store: Store, robot: NewRobot) -> None:
    """Not for strangers, not for voters; and a form without its token is refused."""
    (voter,) = cast(robot, "left", number=2)
    stranger = type(voter)(app.test_client())
    found = addresses(app)
    assert len(found) >= 12
    for who in (stranger, voter):
        who.get("/")
        for method, path in found:
            reply = who.get(path) if method == "GET" else who.submit(path, reason="x")
            assert (path, reply.location) == (path, "/admin/login")
    with_login = type(voter)(app.test_client())
    with_login.sign_in(new_password(store))
    for method, path in found:
        if method == "POST":
            assert with_login.client.post(path, data={"reason": "x"}).status_code == 400
    assert rules(store) == []


def test_voters_learn_no_numbers(robot: NewRobot, researcher: Any) -> None:
    """Nothing a voter receives changes with what others voted."""
    cast(robot, "left", "left", "left")
    assert "36" in researcher.get("/admin/").text
    voter = robot()
    for path in ("/", "/vote", "/done"):
        voter.get(path)
    received = b" ".join(voter.received)
    assert b"admin" not in received
    for telling in (rb"\b36\b", rb"Votes", rb"[Rr]ating", rb"[Ff]lag"):
        assert not re.search(telling, re.sub(rb"[0-9a-f]{32}", b"", received)), telling


@pytest.mark.parametrize("path", PAGES)
def test_pages_obey_the_policy_and_are_english(robot: NewRobot, researcher: Any, path: str) -> None:
    cast(robot, "left")
    page = researcher.get(path)
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert '<html lang="en"' in page.text
    assert "style=" not in page.text
    assert "<script>" not in page.text
    assert re.findall(r"\bon\w+=", page.text) == []


@pytest.mark.parametrize("path", PAGES)
def test_pages_before_anything_is_there(empty_store: Any, make_app: Callable[[], Flask], path: str) -> None:
    client = make_app().test_client()
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/admin/login").text)
    assert token
    client.post("/admin/login", data={"csrf_token": token[1], "password": new_password(empty_store)})
    page = client.get(path)
    assert page.status_code == 200
    assert "<h1>" in page.text


# ---------------------------------------------------------------- what is shown


def test_the_overview_counts(robot: NewRobot, researcher: Any) -> None:
    cast(robot, "left", "right", "tie")
    robot()
    page = researcher.get("/admin/").text
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Votes 36 no end is set" in text
    assert "Voters 4 3 finished" in text
    assert page.count('<th scope="row">') == 2
    cells = re.findall(r'<td class="heat\d">(\d+)</td>', page)
    assert len(cells) == 3
    assert sum(map(int, cells)) == 36


def test_ratings_so_far(robot: NewRobot, researcher: Any) -> None:
    assert "this study: no votes in it" in researcher.get("/admin/ratings").text
    cast(robot, "left", "right", "tie")
    page = researcher.get("/admin/ratings").text
    assert "bradley-terry, mean 1000, scale 400" in page
    assert '<th scope="row">fp16</th>' in page
    plot = researcher.get("/admin/ratings/preference.svg")
    assert plot.mimetype == "image/svg+xml"
    assert "qsched-w4a8" in plot.text
    assert researcher.get("/admin/ratings/other.svg").status_code == 404


def test_one_vote_is_too_few_for_ratings_and_says_so(robot: NewRobot, researcher: Any) -> None:
    cast(robot, "left", number=1)
    page = researcher.get("/admin/ratings")
    assert page.status_code == 200
    assert "no finite maximum" in page.text


def test_answers_by_pair(robot: NewRobot, researcher: Any) -> None:
    cast(robot, "left", "right", "tie")
    assert "36 answers" in researcher.get("/admin/answers").text
    assert "12 answers" in researcher.get("/admin/answers?pair=fp16|qsched-w4a8").text
    assert "36 answers" in researcher.get("/admin/answers?pair=nobody|else&question=none").text


def test_voters_are_listed_in_any_order_with_their_flags(
    store: Store, robot: NewRobot, researcher: Any
) -> None:
    cast(robot, "left", "tie", "right")
    robot()
    page = researcher.get("/admin/voters?sort=came").text
    assert re.findall(r"<code>(\w+)</code>", page) == judges(store)[::-1]
    assert page.count('<span class="flag">one side</span>') == 2
    flagged = researcher.get("/admin/voters?flagged=1&sort=nonsense&from=0").text
    assert set(re.findall(r"<code>(\w+)</code>", flagged)) == {judges(store)[0], judges(store)[2]}
    assert researcher.get("/admin/voters?from=999").status_code == 200


def test_a_voter_is_shown_excluded_and_taken_back(store: Store, robot: NewRobot, researcher: Any) -> None:
    cast(robot, "left", "right")
    judge = judges(store)[0]
    page = researcher.get(f"/admin/voters/{judge}").text
    assert page.count('<td class="shown won">') == 12
    picture = re.findall(r"/admin/images/\d+\.png", page)[0]
    assert researcher.get(picture).data.startswith(b"\x89PNG")

    def excluded() -> int:
        with store.read() as session:
            return len(session.scalars(select(votes_v1.c.vote_id).where(votes_v1.c.excluded)).all())

    assert researcher.submit(f"/admin/voters/{judge}/exclude", reason=" ").status_code == 303
    assert "Nothing was excluded: reason" in researcher.get(f"/admin/voters/{judge}").text
    researcher.submit(f"/admin/voters/{judge}/exclude", reason="a friend & helper")
    assert excluded() == 12
    assert "a friend &amp; helper" in researcher.get(f"/admin/voters/{judge}").text
    assert "<small>excluded</small>" in researcher.get("/admin/voters").text
    researcher.submit(f"/admin/voters/{judge}/lift/1")
    assert excluded() == 0
    researcher.submit(f"/admin/voters/{judge}/lift/1")
    assert "no rule 1 stands" in researcher.get(f"/admin/voters/{judge}").text
    assert [(rule.value, rule.lifted) for rule in rules(store)] == [(judge, True)]
    assert researcher.get("/admin/voters/nobody").status_code == 404


def test_reports_are_listed_until_they_are_seen(store: Store, robot: NewRobot, researcher: Any) -> None:
    assert "Nobody reported an image." in researcher.get("/admin/reports").text
    voter = robot()
    for side, reason in (("left", "<b>blood</b> & bones"), ("right", "")):
        body = {"report_id": f"a-report-of-mine-{side}", "side": side, "reason": reason}
        trial = voter.trials[0]["id"]
        voter.trials = voter.post(trial, body, what="report").json["trials"]
    assert "on images, to be looked at" in researcher.get("/admin/").text
    page = researcher.get("/admin/reports").text
    assert "&lt;b&gt;blood&lt;/b&gt; &amp; bones" in page
    assert page.count("Mark as seen") == 2
    assert judges(store)[0] in page
    (image, *_) = re.findall(r'src="(/admin/images/\d+\.png)"', page)
    assert researcher.get(image).mimetype == "image/png"
    seen = re.findall(r'action="(/admin/reports/\w+/seen)"', page)
    for address in (seen[0], seen[0]):  # a second click changes nothing
        assert researcher.submit(address).location == "/admin/reports"
    page = researcher.get("/admin/reports").text
    assert (page.count("Mark as seen"), page.count("Seen 2")) == (1, 1)
    assert page.index("Mark as seen") < page.index("Seen 2")
    assert researcher.submit("/admin/reports/nothing/seen").status_code == 404


# ---------------------------------------------------------------- out


def test_downloads_are_what_export_writes(
    store: Store, robot: NewRobot, researcher: Any, tmp_path: Any
) -> None:
    cast(robot, "left", "tie", number=5)
    for kind in ("csv", "jsonl", "json", "parquet"):
        done = export_votes(store, tmp_path / f"votes.{kind}")
        reply = researcher.get(f"/admin/votes.{kind}")
        assert reply.headers["Content-Disposition"] == f"attachment; filename=votes.{kind}"
        assert reply.data == (tmp_path / f"votes.{kind}").read_bytes()
        assert researcher.get(f"/admin/README-{kind}.md").text == done.card.read_text()
    rows = list(csv.DictReader(io.StringIO(researcher.get("/admin/votes.csv").text)))
    assert [row["winner"] for row in rows] == ["model_a"] * 5 + ["tie"] * 5
    assert pq.read_table(io.BytesIO(researcher.get("/admin/votes.parquet").data)).num_rows == 10
    assert len(json.loads(researcher.get("/admin/votes.json").data)) == 10
    assert researcher.get("/admin/votes.xls").status_code == 404
    assert researcher.get("/admin/README-xls.md").status_code == 404
