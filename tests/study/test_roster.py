import csv
import logging
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, select

from study.config import Consent, Demographic, Protocol
from study.export import ExportError, export_votes
from study.invitations import invite
from study.participants import find_person
from study.roster import export_persons
from study.schema import Person, Voter
from study.store import Store
from study.withdrawal import withdraw

KEY = "a key for tests, long enough"
PID = "5f3c9a0e7b1d2c4e6f8a9b0c"
PROLIFIC = f"/?PROLIFIC_PID={PID}&STUDY_ID=study77&SESSION_ID=%3Dsession99"
YEARS = Demographic(id="years", text="How old are you?")
SCREEN = Demographic(id="screen", text="On what?", choices=("a phone", "a computer"), screen_out=("a phone",))
NewBrowser = Callable[[], Any]
SetUp = Callable[..., Protocol]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def people(store: Store, set_up: SetUp, browser: NewBrowser) -> Protocol:
    """One from Prolific who is done, one invited and screened out, one who only began."""
    protocol = set_up(consent=Consent(age=18), demographics=(SCREEN, YEARS))
    one, invited, begun = browser(), browser(), browser()
    one.agree(PROLIFIC, age="yes")
    one.send("/about-you", **{"about-screen": "a computer", "about-years": "forty-one"})
    one.vote()
    [link] = invite(store, KEY, label="panel A")
    invited.agree(link.path, age="yes")
    invited.send("/about-you", **{"about-screen": "a phone"})
    begun.agree(age="yes")
    return protocol


def test_everybody_keyed_by_judge(store: Store, people: Protocol, tmp_path: Path) -> None:
    path = tmp_path / "persons.csv"
    assert export_persons(store, path) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    one, invited, begun = read(path)
    with store.read() as session:
        [judge] = session.scalars(select(Voter.judge)).all()
    assert (one["judge"], one["source"], one["answers"], one["outcome"]) == (judge, "prolific", "2", "")
    assert (one["PROLIFIC_PID"], one["STUDY_ID"], one["SESSION_ID"]) == (PID, "study77", "'=session99")
    assert (one["about_screen"], one["about_years"]) == ("a computer", "forty-one")
    assert one["protocol"] == people.hash
    assert one["consented"] <= one["joined"]
    assert (invited["judge"], invited["outcome"], invited["invitation"]) == ("", "screened_out", "panel A")
    assert (invited["about_screen"], invited["about_years"], invited["PROLIFIC_PID"]) == ("a phone", "", "")
    assert (begun["judge"], begun["outcome"], begun["answers"], begun["source"]) == ("", "", "0", "link")


def test_who_withdrew_is_not_in_it(store: Store, people: Protocol, tmp_path: Path) -> None:
    with store.read() as session:
        ids = list(session.scalars(select(Person.id)))
    for person in ids:
        withdraw(store, KEY, person)
        assert find_person(store, person) is None
    assert export_persons(store, tmp_path / "persons.csv") == 0
    assert PID not in (tmp_path / "persons.csv").read_text()


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "json"])
def test_nothing_of_a_person_is_in_dump_or_card(
    store: Store, people: Protocol, tmp_path: Path, kind: str
) -> None:
    dump = export_votes(store, tmp_path / f"votes.{kind}", superseded=True)
    assert dump.votes == 2
    written = b"".join(path.read_bytes() for path in tmp_path.glob("*") if path.is_file())
    assert len(written) > 1000
    for word in (PID, "study77", "session99", "forty-one", "panel A"):
        assert word.encode() not in written


def test_nothing_of_a_person_is_in_a_log(
    store: Store,
    set_up: SetUp,
    app: Flask,
    browser: NewBrowser,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    set_up(demographics=(YEARS,))
    one = browser()
    one.go(PROLIFIC)
    one.send("/start")
    one.send("/about-you", **{"about-years": "forty-one"})
    one.vote()
    one.go("/?PROLIFIC_PID=" + PID + "%0d%0ax")  # refused
    nowhere = create_engine("sqlite:////no/such/folder/study.db")
    monkeypatch.setitem(app.config, "STORE", replace(store, engine=nowhere))  # what goes wrong is logged
    page = one.go(PROLIFIC)
    assert (page.status_code, one.heading) == (500, "Something went wrong")
    said = capfd.readouterr()
    logged = caplog.text + said.out + said.err
    assert "Exception on /" in logged
    for word in (PID, "study77", "session99", "forty-one"):
        assert word not in logged


def test_a_file_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be written"):
        export_persons(store, tmp_path / "no such folder" / "persons.csv")
