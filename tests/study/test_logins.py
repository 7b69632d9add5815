from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask

from study.logins import new_password, signed_in, use_password
from study.store import Store


def test_a_password_opens_once(store: Store, stranger: Any, app: Flask) -> None:
    password = new_password(store)
    assert len(password) >= 16
    assert stranger.sign_in(password).location == "/admin/"
    assert stranger.get("/admin/").status_code == 200
    again = type(stranger)(app.test_client())
    refused = again.sign_in(password)
    assert refused.status_code == 403
    assert b"not valid" in refused.data
    assert again.get("/admin/").location == "/admin/login"


@pytest.mark.parametrize("wrong", ["", "x", "A" * 20])
def test_a_wrong_password_is_refused(store: Store, stranger: Any, wrong: str) -> None:
    new_password(store)
    assert stranger.sign_in(wrong).status_code == 403
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
    stranger.sign_in(new_password(store))
    page = stranger.get("/admin/")
    cookie = stranger.client.get_cookie("study")
    assert page.status_code == 200
    out = stranger.client.post("/admin/logout", data={"csrf_token": stranger.token})
    assert out.location == "/admin/login"
    stranger.client.set_cookie("study", cookie.value)  # the old cookie, kept by somebody
    assert stranger.get("/admin/").location == "/admin/login"


def test_a_new_server_ends_old_sessions_and_passwords(store: Store, stranger: Any) -> None:
    unused = new_password(store)
    stranger.sign_in(new_password(store))
    new_password(store, alone=True)
    assert stranger.get("/admin/").location == "/admin/login"
    assert use_password(store, unused) is None


def test_signing_in_needs_a_token(store: Store, app: Flask) -> None:
    response = app.test_client().post("/admin/login", data={"password": new_password(store)})
    assert response.status_code == 400
