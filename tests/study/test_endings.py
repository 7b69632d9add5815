"""Trials that end without a vote: skipped, or an image of them reported."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select, text

from study.ballot import Answer, Answers, Ballot, RefusedError, answer, current, undo
from study.chain import NoVoterError, digest
from study.config import Checks, Page, Protocol, Quota
from study.endings import report, skip
from study.ingest import ingest
from study.participants import add_voter, find_person
from study.protocols import open_protocol
from study.schema import Assignment, Cell, Event, Report, Vote, votes_v1
from study.schema import Quota as QuotaRow
from study.store import Store
from study.verify import VerifyError, verify
from study.withdrawal import withdraw


@pytest.fixture
def protocol() -> Protocol:
    return Protocol(name="test", title="t", trials_per_voter=6, prefetch=1, page=Page(skip=True))


def new(store: Store) -> str:
    voter = add_voter(store, "key")
    assert voter
    return voter.id


def vote(store: Store, voter: str, trial: str) -> Ballot:
    return answer(store, voter, trial, Answers(f"vote-{trial}", (Answer("preference", "left", 500),)))


def loads(store: Store) -> tuple[int, int, int]:
    """Votes, places taken, and those that show the first method left, over all quotas."""
    with store.read() as session:
        sums = func.sum(QuotaRow.votes), func.sum(QuotaRow.load), func.sum(QuotaRow.lefts)
        return tuple(session.execute(select(*sums)).one())  # type: ignore[return-value]


def test_a_skipped_trial_is_done_and_is_no_vote(store: Store) -> None:
    voter = new(store)
    first = current(store, voter).trials[0]
    assert loads(store)[:2] == (0, 2)
    after = skip(store, voter, first.trial_id, "skip-1", "cannot_judge")
    assert (after.done, after.total, [trial.position for trial in after.trials]) == (1, 6, [1, 2])
    assert loads(store)[:2] == (0, 2)  # its place went back, the next trial took one
    with store.read() as session:
        event = session.scalars(select(Event).where(Event.event == "skipped")).one()
        assert (event.trial_id, event.body) == (first.trial_id, {"id": "skip-1", "reason": "cannot_judge"})
        assert session.scalar(select(func.count()).select_from(votes_v1)) == 0
    verify(store)
    while not after.finished:
        after = skip(store, voter, after.trials[0].trial_id, "skip", "other")
    assert (after.done, loads(store)) == (6, (0, 0, 0))  # six trials were asked, no seventh came
    with store.read() as session:
        given = session.scalars(select(Assignment.cell_id).where(Assignment.voter_id == voter)).all()
    assert len(set(given)) == 6
    verify(store)


def test_skipping_needs_leave(store: Store, protocol: Protocol) -> None:
    open_protocol(store, protocol.model_copy(update={"page": Page()}))
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    with pytest.raises(RefusedError, match="skip_not_allowed"):
        skip(store, voter, trial, "skip-1", "other")
    assert current(store, voter).trials[0].trial_id == trial
    assert report(store, voter, trial, "report-1", "left").done == 1  # reporting needs none


def test_undo_needs_leave(store: Store, protocol: Protocol) -> None:
    open_protocol(store, protocol.model_copy(update={"page": Page(undo=False)}))
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    vote(store, voter, trial)
    with pytest.raises(RefusedError, match="undo_not_allowed"):
        undo(store, voter, trial, f"vote-{trial}")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_report_ends_the_trial_and_names_the_image(store: Store, side: str) -> None:
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    after = report(store, voter, trial, "report-1", side, "not for children")
    assert (after.done, len(after.trials)) == (1, 2)
    with store.read() as session:
        told = session.scalars(select(Report)).one()
        shown = session.get(Assignment, trial)
        assert shown
        assert told.image_id == (shown.left_image if side == "left" else shown.right_image)
        assert (told.trial_id, told.side, told.reason) == (trial, side, "not for children")
        assert told.seen is None
        event = session.get(Event, told.event_id)
        assert event
        assert "not for children" not in str(event.body)  # a voter's own words stay erasable
        assert event.body["reason"] == digest("not for children")
    verify(store)
    with store.write() as session:
        session.execute(text("UPDATE reports SET reason = NULL, seen = 5"))
    verify(store)


def test_the_words_of_somebody_who_withdraws_are_erased(store: Store) -> None:
    voter, other = new(store), new(store)
    for somebody in (voter, other):
        trial = current(store, somebody).trials[0].trial_id
        report(store, somebody, trial, "report-1", "left", f"{somebody} was here")
    person = find_person(store, voter_id=voter)
    assert person
    withdraw(store, "key", person.id)
    with store.read() as session:
        assert set(session.scalars(select(Report.reason))) == {None, f"{other} was here"}
    verify(store)
    with pytest.raises(NoVoterError):
        current(store, voter)


def test_ten_identical_reports_at_once_are_one(store: Store) -> None:
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    together = Barrier(10)

    def send(_: int) -> int:
        together.wait()
        return report(store, voter, trial, "the-one", "right", "bad").done

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(send, range(10))) == [1] * 10
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(Report)) == 1
        assert session.scalar(select(func.count()).where(Event.event == "reported")) == 1
    verify(store)


ENDINGS: dict[str, Callable[[Store, str, str, str], Ballot]] = {
    "skip": lambda store, voter, trial, name: skip(store, voter, trial, name, "other"),
    "report": lambda store, voter, trial, name: report(store, voter, trial, name, "left"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_a_trial_ends_once(store: Store, how: str) -> None:
    end, (voter, other) = ENDINGS[how], (new(store), new(store))
    voted, ended = (trial.trial_id for trial in current(store, voter).trials)
    vote(store, voter, voted)
    after = end(store, voter, ended, "first")
    assert end(store, voter, ended, "first") == after  # sent again
    for what, trial in ((end, voted), (end, ended), *((other_end, ended) for other_end in ENDINGS.values())):
        with pytest.raises(RefusedError, match="already_answered"):
            what(store, voter, trial, "second")
    with pytest.raises(RefusedError, match="already_answered"):
        vote(store, voter, ended)
    with pytest.raises(RefusedError, match="foreign_trial"):
        end(store, other, after.trials[0].trial_id, "third")
    with pytest.raises(RefusedError, match="unknown_trial"):
        end(store, voter, "nothing", "third")
    assert undo(store, voter, voted, f"vote-{voted}").done == 1  # the vote before it can still be taken back
    assert end(store, voter, voted, "third").done == 2  # and its trial ended in this way then
    with store.read() as session:
        assert session.scalar(select(func.count()).where(Vote.undone_by.is_(None))) == 0
    assert loads(store)[0] == 0
    verify(store)


def test_an_ended_trial_is_not_repeated(empty_store: Store, gallery: Path, protocol: Protocol) -> None:
    ingest(gallery, empty_store)
    checks = Checks(repeats=2, repeat_gap=2)
    open_protocol(empty_store, protocol.model_copy(update={"checks": checks, "prefetch": 0}))
    for _ in range(5):
        voter = new(empty_store)
        ballot = current(empty_store, voter)
        while not ballot.finished:
            ballot = skip(empty_store, voter, ballot.trials[0].trial_id, "skip", "other")
        with empty_store.read() as session:
            kinds = session.scalars(select(Assignment.kind).where(Assignment.voter_id == voter)).all()
        assert kinds == ["main"] * 6  # nothing was answered, so there is nothing to compare with
    verify(empty_store)


def test_an_ended_check_holds_no_place(empty_store: Store, gallery: Path, protocol: Protocol) -> None:
    ingest(gallery, empty_store)
    asked = protocol.model_copy(update={"checks": Checks(golds=2, nulls=1), "quota": Quota(votes=1)})
    open_protocol(empty_store, asked)
    voter = new(empty_store)
    ballot = current(empty_store, voter)
    while not ballot.finished:
        ballot = report(empty_store, voter, ballot.trials[0].trial_id, "report", "right", "x")
    assert loads(empty_store) == (0, 0, 0)
    with empty_store.read() as session:
        assert set(session.scalars(select(Cell.votes))) == {0}
    verify(empty_store)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE reports SET reason = 'fine'", "its reason is not what the voter wrote"),
        ("UPDATE reports SET side = 'right'", "side is 'right'"),
        ("DELETE FROM reports", "but is missing"),
        ("UPDATE assignments SET state = 'skipped' WHERE state = 'reported'", "state is 'skipped'"),
        ("UPDATE assignments SET expires = 2e9 WHERE state = 'reported'", "holds a lease"),
    ],
)
def test_a_changed_report_is_named(store: Store, change: str, words: str) -> None:
    voter = new(store)
    report(store, voter, current(store, voter).trials[0].trial_id, "report-1", "left", "bad")
    verify(store)
    with store.write() as session:
        session.execute(text(change))
    with pytest.raises(VerifyError, match=words):
        verify(store)


SKIP: dict[str, Any] = {"skip_id": "a-skip-id-01234567", "reason": "cannot_judge"}
REPORT: dict[str, Any] = {"report_id": "a-report-id-012345", "side": "left", "reason": "not for children"}


def test_over_http(store: Store, robot: Callable[[], Any]) -> None:
    voter, other = robot(), robot()
    first, second = voter.trials
    assert (first["skip"], first["report"]) == tuple(f"/trials/{first['id']}/{how}" for how in ENDINGS)
    assert other.post(first["id"], SKIP, what="skip").json["error"] == "foreign_trial"
    assert voter.post(first["id"], SKIP, what="skip", token="").json["error"] == "csrf"
    for what, body in (
        ("skip", {**SKIP, "reason": "no idea"}),
        ("skip", {"skip_id": SKIP["skip_id"]}),
        ("report", {**REPORT, "side": "both"}),
        ("report", {**REPORT, "reason": "x" * 201}),
        ("report", {**REPORT, "report_id": "x"}),
        ("report", SKIP),
    ):
        assert voter.post(first["id"], body, what=what).json["error"] == "bad_request"
    for _ in range(2):
        skipped = voter.post(first["id"], SKIP, what="skip")
        assert (skipped.status_code, skipped.json["done"]) == (200, 1)
    for _ in range(2):
        reported = voter.post(second["id"], REPORT, what="report")
        assert (reported.status_code, reported.json["done"]) == (200, 2)
    stale = voter.post(second["id"], SKIP, what="skip")
    assert (stale.status_code, stale.json["error"]) == (409, "already_answered")
    assert stale.json["trials"] == reported.json["trials"]
    verify(store)
