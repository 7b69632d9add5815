import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from study.config import Consent, Demographic, Protocol
from study.exclusions import ExclusionError, exclude, lift, rules
from study.invitations import invite
from study.participants import (
    Joining,
    NoEntryError,
    add_voter,
    find_person,
    find_voter,
    join,
    open_version,
    pseudonym,
)
from study.platforms import Arrival
from study.schema import Base, DemographicAnswer, Exclusion, Person, Tombstone, Vote, Voter, votes_v1
from study.store import Store
from study.tokens import sign
from study.verify import verify
from study.withdrawal import withdraw

KEY = "a key for tests, long enough"
PID = "5f3c9a0e7b1d2c4e6f8a9b0c"
PROLIFIC = f"/?PROLIFIC_PID={PID}&STUDY_ID=study77&SESSION_ID=session99"
YEARS = Demographic(id="years", text="How old are you?")
NewBrowser = Callable[[], Any]
SetUp = Callable[..., Protocol]


def link_of(page: Any) -> str:
    found = re.search(r'href="(/withdraw/[^"]+)"', page.text)
    assert found, page.text
    return found[1]


def everything(store: Store) -> str:
    with store.engine.connect() as connection:
        return "\n".join(
            str(connection.execute(text(f'SELECT * FROM "{table.name}"')).all())  # noqa: S608
            for table in Base.metadata.sorted_tables
        )


@pytest.fixture
def finished(store: Store, set_up: SetUp, browser: NewBrowser) -> Any:
    """A browser of somebody from Prolific who is done and looks at the last page."""
    set_up(demographics=(YEARS,))
    one = browser()
    one.go(PROLIFIC)
    one.send("/start")
    one.send("/about-you", **{"about-years": "forty-one"})
    one.vote()
    return one


def test_identifying_data_and_key_are_gone(store: Store, finished: Any, browser: NewBrowser) -> None:
    with store.read() as session:
        [person] = session.scalars(select(Person)).all()
        [voter] = session.scalars(select(Voter)).all()
        votes = session.scalar(select(func.count()).select_from(Vote))
    assert votes == 2
    assert voter.judge == pseudonym(KEY, person.key)
    theirs = [PID, "study77", "session99", "forty-one", person.key, person.id]
    assert [word for word in theirs if word not in everything(store)] == []

    elsewhere = browser()  # the link works on any device
    assert "left out of all results" in elsewhere.go(link_of(finished.page)).text
    assert find_person(store, person.id)  # looking withdraws nobody
    gone = elsewhere.send(elsewhere.path)
    assert (gone.status_code, elsewhere.heading) == (410, "You have withdrawn")

    left = everything(store)
    assert [word for word in theirs if word in left] == []
    assert voter.judge in left
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(Vote)) == 2  # evidence stays
        assert len(session.scalars(select(Tombstone)).all()) == 1
        assert session.scalars(select(DemographicAnswer)).all() == []
    assert len(verify(store)) >= 5


def test_votes_are_left_out_of_tables_and_the_chain_is_whole(store: Store, finished: Any) -> None:
    finished.go(link_of(finished.page))
    finished.send(finished.path)
    with store.read() as session:
        rows = session.execute(select(votes_v1.c.excluded, votes_v1.c.exclude_reason)).all()
        rules = session.scalars(select(Exclusion)).all()
    assert [(bool(excluded), reason) for excluded, reason in rows] == [(True, "withdrawn")] * 2
    assert [(rule.field, rule.reason) for rule in rules] == [("judge", "withdrawn")]
    verify(store)


def test_nobody_takes_them_in_again(store: Store, finished: Any) -> None:
    finished.send(link_of(finished.page))
    with pytest.raises(ExclusionError, match="rule 1 stays: the voter withdrew"):
        lift(store, 1)
    exclude(store, "prompt", ["0000"], "withdrawn")  # a researcher's own rule, whatever its words
    lift(store, 2)
    assert [rule.lifted for rule in rules(store)] == [False, True]


def test_votes_may_be_kept(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(consent=Consent(withdrawn_votes="keep"))
    one = browser()
    one.go("/")
    one.send("/start")
    one.vote()
    assert "stay in the results" in one.go(link_of(one.page)).text
    one.send(one.path)
    with store.read() as session:
        assert [bool(row) for row in session.scalars(select(votes_v1.c.excluded))] == [False] * 2
        assert session.scalars(select(Person)).all() == []
    verify(store)


def test_nothing_is_left_in_the_files(store: Store, finished: Any) -> None:
    if store.engine.dialect.name != "sqlite":
        pytest.skip("what PostgreSQL deletes goes with its next VACUUM")
    folder = store.served.parent

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in Path(folder).glob("study.db*"))

    assert PID.encode() in files()
    finished.go(link_of(finished.page))
    finished.send(finished.path)
    for word in (PID, "forty-one", "session99"):
        assert word.encode() not in files()


def test_who_withdrew_cannot_go_on(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    one, other = browser(), browser()
    for device in (one, other):
        device.go(PROLIFIC)
    one.send("/start")
    other.go(PROLIFIC)
    trial = re.search(r'"vote": ?"([^"]+)"', other.go("/vote").text)
    token = re.search(r'name="csrf-token" content="([^"]+)"', other.page.text)
    assert trial
    assert token
    one.go(link_of(one.go("/")))
    one.send(one.path)
    for device in (one, other, browser()):
        for path in ("/vote", "/", PROLIFIC) if device in (one, other) else (PROLIFIC,):
            page = device.go(path)
            assert (page.status_code, device.heading) == (410, "You have withdrawn"), path
    answers = [{"question": "preference", "answer": "left", "rt_ms": 900}]
    body = {"vote_id": "a-vote-that-comes-late", "answers": answers}
    refused = other.client.post(trial[1], json=body, headers={"X-CSRFToken": token[1]})
    assert (refused.status_code, refused.json) == (401, {"error": "no_session"})
    with store.read() as session:
        assert len(session.scalars(select(Voter)).all()) == 1
        assert session.scalars(select(Vote)).all() == []


def test_before_the_first_pair(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up(demographics=(YEARS,))
    one = browser()
    one.go(PROLIFIC)
    one.send("/start")
    assert one.path == "/about-you"
    with store.read() as session:
        [person] = session.scalars(select(Person)).all()
    withdraw(store, KEY, person.id)
    withdraw(store, KEY, person.id)  # again is no error
    assert one.go(PROLIFIC).status_code == 410
    assert PID not in everything(store)
    with store.read() as session:
        assert session.scalars(select(Exclusion)).all() == []


def test_a_link_that_we_did_not_sign_withdraws_nobody(
    store: Store, finished: Any, browser: NewBrowser
) -> None:
    with store.read() as session:
        [person] = session.scalars(select(Person)).all()
    for token in (
        "x",
        sign("another key, which somebody guessed", "withdrawal", person.id),
        sign(KEY, "return", person.id),
    ):
        stranger = browser()
        stranger.go("/")
        assert stranger.send(f"/withdraw/{token}").status_code == 404
    assert find_person(store, person.id)


def test_withdrawing_needs_a_post_with_a_token(store: Store, finished: Any, browser: NewBrowser) -> None:
    link = link_of(finished.page)
    assert browser().client.post(link).status_code == 400
    with store.read() as session:
        assert len(session.scalars(select(Person)).all()) == 1


def test_the_last_invitation_stays_used(store: Store) -> None:
    version = open_version(store)
    assert version
    [link] = invite(store, KEY)
    arrival = Arrival("invitation", invitation=link.number)
    withdraw(store, KEY, join(store, KEY, Joining("1" * 32, arrival, version.hash)).id)
    with pytest.raises(NoEntryError, match="used_up"):
        join(store, KEY, Joining("2" * 32, arrival, version.hash))


def test_eight_at_once(store: Store) -> None:
    """The decisions are one chain with one end, for which they race."""
    people = []
    for _ in range(8):
        voter = add_voter(store, KEY)
        assert voter
        person = find_person(store, voter_id=voter.id)
        assert person
        people.append((person, voter))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: withdraw(store, KEY, one[0].id), people))
    with store.read() as session:
        excluded = set(session.scalars(select(Exclusion.value)))
    assert excluded == {voter.judge for _, voter in people}
    assert all(find_voter(store, voter.id) is None for _, voter in people)
    verify(store)


def test_the_tombstone_tells_neither_who_nor_when(store: Store, finished: Any) -> None:
    finished.go(link_of(finished.page))
    finished.send(finished.path)
    with store.read() as session:
        [stone] = session.scalars(select(Tombstone)).all()
        [voter] = session.scalars(select(Voter)).all()
    assert set(Tombstone.__table__.columns.keys()) == {"digest"}
    assert re.fullmatch(r"[0-9a-f]{64}", stone.digest)
    assert voter.judge not in stone.digest
