import csv
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask

from study.admin import count, new_password, signed_in, use_password
from study.store import Store

NewRobot = Callable[[], Any]


def sign_in(robot: Any, password: str) -> Any:
    robot.get("/admin/login")
    return robot.keep(
        robot.client.post("/admin/login", data={"password": password, "csrf_token": robot.token})
    )


@pytest.mark.parametrize("path", ["/admin/", "/admin/votes.csv"])
def test_a_stranger_sees_the_login_page_only(stranger: Any, path: str) -> None:
    assert stranger.get(path).location == "/admin/login"


def test_a_voter_is_no_admin(robot: NewRobot) -> None:
    voter = robot()
    voter.answer()
    assert voter.get("/admin/").location == "/admin/login"


def test_a_password_opens_once(store: Store, stranger: Any, app: Flask) -> None:
    password = new_password(store)
    assert len(password) >= 16
    assert sign_in(stranger, password).location == "/admin/"
    assert stranger.get("/admin/").status_code == 200
    again = type(stranger)(app.test_client())
    refused = sign_in(again, password)
    assert refused.status_code == 403
    assert b"not valid" in refused.data
    assert again.get("/admin/").location == "/admin/login"


@pytest.mark.parametrize("wrong", ["", "x", "A" * 20])
def test_a_wrong_password_is_refused(store: Store, stranger: Any, wrong: str) -> None:
    new_password(store)
    assert sign_in(stranger, wrong).status_code == 403
    assert stranger.get("/admin/").location == "/admin/login"


def test_the_password_itself_is_not_stored(store: Store) -> None:
    password = new_password(store)
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM admin_logins").all()
    assert password not in str(rows)


def test_of_two_at_once_one_gets_in(store: Store) -> None:
    password = new_password(store)
    together = Barrier(4)

    def use(_: int) -> str | None:
        together.wait()
        return use_password(store, password)

    with ThreadPoolExecutor(4) as pool:
        opened = [login for login in pool.map(use, range(4)) if login]
    assert len(opened) == 1
    assert signed_in(store, opened[0])


def test_signing_out_ends_the_session_for_good(store: Store, stranger: Any) -> None:
    sign_in(stranger, new_password(store))
    page = stranger.get("/admin/")
    cookie = stranger.client.get_cookie("study")
    assert page.status_code == 200
    out = stranger.client.post("/admin/logout", data={"csrf_token": stranger.token})
    assert out.location == "/admin/login"
    stranger.client.set_cookie("study", cookie.value)  # the old cookie, kept by somebody
    assert stranger.get("/admin/").location == "/admin/login"


def test_a_new_server_ends_old_sessions_and_passwords(store: Store, stranger: Any) -> None:
    unused = new_password(store)
    sign_in(stranger, new_password(store))
    new_password(store, alone=True)
    assert stranger.get("/admin/").location == "/admin/login"
    assert use_password(store, unused) is None


def test_signing_in_needs_a_token(store: Store, app: Flask) -> None:
    response = app.test_client().post("/admin/login", data={"password": new_password(store)})
    assert response.status_code == 400


def test_the_page_without_votes(store: Store, stranger: Any) -> None:
    sign_in(stranger, new_password(store))
    assert b"No votes yet." in stranger.get("/admin/").data


def test_the_page_shows_counts_and_ratings(store: Store, robot: NewRobot, stranger: Any) -> None:
    for side in ("left", "right", "tie"):
        voter = robot()
        for _ in range(12):
            voter.answer(side)
    robot()
    counts = count(store)
    assert (counts.votes, counts.voters, counts.finished) == (36, 4, 3)
    assert (counts.cells, counts.cells_voted) == (18, 18)
    assert sum(counts.pairs.values()) == 72
    sign_in(stranger, new_password(store))
    page = stranger.get("/admin/").text
    assert page.count('<th scope="row">fp16</th>') == 2
    assert "bradley-terry, mean 1000, scale 400" in page
    assert re.search(r"<dt>Votes</dt><dd>36</dd>", page)
    assert "style=" not in page


def test_one_vote_is_too_few_for_ratings_and_says_so(store: Store, robot: NewRobot, stranger: Any) -> None:
    robot().answer("left")
    sign_in(stranger, new_password(store))
    assert stranger.get("/admin/").status_code == 200


def test_the_dump_holds_all_votes(store: Store, robot: NewRobot, stranger: Any) -> None:
    voter = robot()
    for _ in range(5):
        voter.answer("left")
    sign_in(stranger, new_password(store))
    response = stranger.get("/admin/votes.csv")
    assert response.headers["Content-Disposition"] == "attachment; filename=votes.csv"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["winner"] for row in rows] == ["model_a"] * 5
