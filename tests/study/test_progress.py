"""Progress against a second, plain count of the same study."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from study.ballot import Answer, Answers, answer, current, undo
from study.config import Checks, Protocol, Quota
from study.ingest import ingest
from study.participants import add_voter
from study.progress import Fill, progress
from study.protocols import open_protocol
from study.schema import Vote, votes_v1
from study.store import Store


def vote(store: Store, trials: int) -> tuple[str, list[str]]:
    """A new voter who answers so many trials: their id, and their trials."""
    voter = add_voter(store, "a key for tests")
    assert voter is not None
    ballot, done = current(store, voter.id), []
    for number in range(trials):
        done.append(ballot.trials[0].trial_id)
        answers = Answers(f"{voter.id[:12]}-{number:03}", (Answer("preference", "left", 900),))
        ballot = answer(store, voter.id, done[-1], answers)
    return voter.id, done


@pytest.mark.parametrize("per", ["prompt", "category"])
def test_what_is_there_and_what_is_missing(
    empty_store: Store, build_gallery: Callable[..., Path], tmp_path: Path, per: Any
) -> None:
    folder = build_gallery(tmp_path / "g", prompts=4)
    lines = (folder / "prompts.jsonl").read_text().replace("shapes", "animals", 1)
    (folder / "prompts.jsonl").write_text(lines)
    ingest(folder, empty_store)
    wanted = 2 if per == "prompt" else 5
    protocol = Protocol(
        name="t", title="t", trials_per_voter=12, quota=Quota(votes=wanted, per=per),
        checks=Checks(golds=2, practice=1),
    )  # fmt: skip
    open_protocol(empty_store, protocol)
    for trials in (13, 7, 3):
        vote(empty_store, trials)
    with empty_store.read() as session:
        found = progress(session)
        rows = session.execute(select(votes_v1).where(votes_v1.c.kind == "main")).mappings().all()
    cells: Counter[Any] = Counter()
    pairs: Counter[Any] = Counter()
    strata: Counter[Any] = Counter()
    for row in rows:
        pair = tuple(sorted((row["model_a"], row["model_b"])))
        stratum = row["prompt_id"] if per == "prompt" else row["category"]
        cells[pair, stratum] += 1
        pairs[pair] += 1
        strata[row["category"]] += 1
    quotas = 3 * (4 if per == "prompt" else 2)
    missing = quotas * wanted - sum(min(wanted, number) for number in cells.values())
    total = found.total()
    assert (total.votes, total.wanted, total.missing) == (len(rows), quotas * wanted, missing)
    assert total.share == pytest.approx(1 - missing / (quotas * wanted))
    assert {tuple(sorted(pair)): fill.votes for pair, fill in found.pairs().items()} == pairs
    assert {name: fill.votes for name, fill in found.categories().items()} == strata
    assert sum((found.total(name) for name in found.categories()), Fill()) == total
    assert sum(found.pairs("animals").values(), Fill()) == found.total("animals")
    assert found.methods == ["fp16", "naive-w4a4", "qsched-w4a8"]
    assert (found.voters, found.finished, found.older) == (3, 1, 0)
    assert found.version is not None
    assert found.version.number == 1


def test_pace_and_time_left(store: Store, protocol: Protocol) -> None:
    first, _ = vote(store, 12)
    vote(store, 12)
    now = time.time()
    with store.write() as session:  # as if the first voter had come five hours ago
        theirs = Vote.vote_id.startswith(first[:12])
        session.execute(update(Vote).where(theirs).values(at=now - 5 * 3600))
    with store.read() as session:
        found = progress(session, now)
        assert found.per_hour == (12, 24 / 24)
        assert found.pace == 12
        assert found.hours_left is None  # no end is set
        later = progress(session, now + 3700)
        assert later.per_hour == (0, 1)
        assert later.pace == 1
        assert later.leases == 0
    quick = {"quota": Quota(votes=2), "trials_per_voter": 9}
    open_protocol(store, protocol.model_copy(update=quick))
    with store.read() as session:
        fresh = progress(session)
        assert (fresh.older, fresh.total().votes, fresh.total().missing) == (24, 0, 36)
        assert fresh.hours_left is None  # nobody voted under the new version
    vote(store, 9)
    with store.read() as session:
        found = progress(session)
        assert found.hours_left == pytest.approx(27 / 9)
    for _ in range(3):
        vote(store, 9)
    with store.read() as session:
        done = progress(session)
        assert (done.total().missing, done.hours_left) == (0, 0)
        assert done.total().share == 1


def test_a_vote_that_was_taken_back_is_neither_pace_nor_finish(store: Store) -> None:
    voter, trials = vote(store, 12)
    with store.read() as session:
        assert progress(session).finished == 1
    undo(store, voter, trials[-1], f"{voter[:12]}-011")
    with store.read() as session:
        found = progress(session)
    assert (found.finished, found.per_hour[0], found.total().votes, found.leases) == (0, 11, 11, 1)


def test_nothing_open_is_no_progress(empty_store: Store) -> None:
    with empty_store.read() as session:
        found = progress(session)
    assert (found.version, found.total(), found.methods, found.hours_left) == (None, Fill(), [], None)


def test_a_look_reads_no_more_votes_than_those_of_the_last_day(store: Store) -> None:
    """Whatever is read of `votes` is found by the index on time."""
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with store.read() as session:
        progress(session)
    of_votes = [statement for statement in statements if "FROM votes" in statement]
    assert len(of_votes) == 1
    assert "votes.at >=" in of_votes[0].split("WHERE")[1]
    assert len(statements) <= 12
