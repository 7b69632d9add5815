"""A study that is paused or closed: who still gets what, and what is stored all the same."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from study.ballot import Answer, Answers, answer, current, undo
from study.gate import AFTER, standing, turn
from study.participants import add_voter
from study.progress import progress
from study.schema import Decision
from study.store import Store
from study.verify import verify

NewRobot = Callable[[], Any]


def is_(store: Store) -> str:
    with store.read() as session:
        return standing(session)


def given(number: int) -> Answers:
    return Answers(f"a-vote-of-mine-{number:03}", (Answer("preference", "left", 900),))


def test_decisions_are_recorded_in_their_chain(store: Store) -> None:
    assert is_(store) == "open"
    turns = [("resumed", False), ("paused", True), ("paused", False), ("closed", True), ("resumed", True)]
    for decision, changed in turns:
        assert turn(store, decision) is changed
        assert is_(store) == AFTER[decision]
    with store.read() as session:
        said = session.scalars(select(Decision.decision).order_by(Decision.seq)).all()
    assert said == ["opened", "paused", "closed", "resumed"]
    assert "4 decisions are a chain" in " ".join(verify(store))


def test_of_many_at_once_one_counts(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        changed = list(pool.map(lambda _: turn(store, "paused"), range(4)))
    assert sorted(changed) == [False, False, False, True]
    verify(store)


@pytest.mark.parametrize("decision", ["paused", "closed"])
def test_no_further_pair_is_handed_out_and_open_ones_are_stored(store: Store, decision: str) -> None:
    voter = add_voter(store, "a key for tests")
    assert voter is not None
    there = current(store, voter.id).trials
    assert len(there) == 4  # one and three ahead
    turn(store, decision)
    for number, trial in enumerate(there):
        ballot = answer(store, voter.id, trial.trial_id, given(number))
        assert [t.trial_id for t in ballot.trials] == [t.trial_id for t in there[number + 1 :]]
    assert (ballot.done, ballot.total) == (4, 12)
    assert (ballot.paused, ballot.finished) == ((True, False) if decision == "paused" else (False, True))
    again = undo(store, voter.id, there[-1].trial_id, "a-vote-of-mine-003")
    assert [t.trial_id for t in again.trials] == [there[-1].trial_id]
    answer(store, voter.id, there[-1].trial_id, given(9))
    with store.read() as session:
        assert progress(session).total().votes == 4
    turn(store, "resumed")
    assert len(current(store, voter.id).trials) == 4
    verify(store)


def test_who_has_had_all_is_finished_also_in_a_pause(store: Store) -> None:
    voter = add_voter(store, "a key for tests")
    assert voter is not None
    ballot = current(store, voter.id)
    for number in range(12):
        if number == 10:
            turn(store, "paused")
        ballot = answer(store, voter.id, ballot.trials[0].trial_id, given(number))
    assert (ballot.done, ballot.finished) == (12, True)


def test_pages_of_a_pause(store: Store, browser: NewRobot) -> None:
    voter, new = browser(), browser()
    voter.agree()
    new.go("/")
    turn(store, "paused")
    for person in (voter, new, browser()):
        for path in ("/", "/vote"):
            page = person.go(path)
            assert (page.status_code, person.heading) == (503, "Back soon")
    turn(store, "resumed")
    assert "ballot" in voter.go("/vote").text
    assert new.go("/").status_code == 200
    turn(store, "paused")
    assert new.send("/start").status_code == 503
    with store.read() as session:
        assert progress(session).voters == 1


def test_pages_of_a_closed_study(store: Store, browser: NewRobot) -> None:
    voter, new = browser(), browser()
    voter.agree()
    new.go("/")
    turn(store, "closed")
    for path in ("/", "/i/x", "/vote"):
        page = browser().go(path)
        assert page.status_code in (404, 410), path
    page = new.send("/start")
    assert (page.status_code, new.heading) == (410, "This study has ended")
    voter.vote()
    assert (voter.path, voter.heading) == ("/done", "Thank you!")
    assert voter.go("/").status_code == 200
    with store.read() as session:
        found = progress(session)
    assert (found.voters, found.total().votes, found.standing) == (1, 4, "closed")


def test_the_voting_page_is_told_of_a_pause(store: Store, robot: NewRobot) -> None:
    voter = robot()
    turn(store, "paused")
    for left in (3, 2, 1, 0):
        reply = voter.answer()
        assert reply.status_code == 200
        assert (len(reply.json["trials"]), reply.json["finished"]) == (left, False)
        assert reply.json["paused"] is True
    assert voter.get("/ballot").json["paused"] is True


def test_the_researcher_decides(store: Store, researcher: Any) -> None:
    assert ">Pause<" in researcher.get("/admin/").text
    for decision, told in (("paused", ">Resume<"), ("closed", "Closed: nobody new"), ("resumed", ">Pause<")):
        assert researcher.submit("/admin/standing", decision=decision).location == "/admin/"
        assert told in researcher.get("/admin/").text
        assert is_(store) == AFTER[decision]
    assert researcher.submit("/admin/standing", decision="burnt").status_code == 400
