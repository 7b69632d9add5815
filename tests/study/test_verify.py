import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from study import exclusions
from study.ballot import Answer, Answers, answer, current, undo
from study.chain import canonical
from study.config import Checks, Protocol, Quota
from study.dumps import verify_dump
from study.exclusions import ExclusionError, exclude, lift, rules
from study.export import export_votes
from study.ingest import ingest
from study.participants import add_voter
from study.protocols import open_protocol
from study.schema import votes_v1
from study.store import Store, migrate, open_store
from study.verify import VerifyError, verify

PROTOCOL = Protocol(
    name="t",
    title="t",
    trials_per_voter=10,
    quota=Quota(votes=5),
    checks=Checks(golds=1, repeats=1, repeat_gap=3),
)


def fill(store: Store) -> None:
    """Votes of two voters, one exclusion made and another one lifted."""
    judges = vote_all(store, 2)
    exclude(store, "judge", judges[:1], "a friend of the authors")
    exclude(store, "prompt", ["0001"], "a typing error in it")
    lift(store, 2)


def vote_all(store: Store, voters: int) -> list[str]:
    """Whole sessions, with one vote undone in each; returns the judges."""
    rng, judges = random.Random(7), []
    for _ in range(voters):
        voter = add_voter(store, "key")
        assert voter
        judges.append(voter.judge)
        ballot = current(store, voter.id)
        while not ballot.finished:
            trial = ballot.trials[0].trial_id
            side = rng.choice(("left", "right", "tie"))
            ballot = answer(store, voter.id, trial, vote(f"1-{trial}", side))
            if ballot.done == 4:
                undo(store, voter.id, trial, f"1-{trial}")
                ballot = answer(store, voter.id, trial, vote(f"2-{trial}", "left"))
    return judges


def vote(vote_id: str, side: str) -> Answers:
    return Answers(vote_id, (Answer("preference", side, 800),), {"dpr": 1.25, "hidden_ms": 0})


@pytest.fixture
def filled(empty_store: Store, gallery: Path) -> Store:
    ingest(gallery, empty_store)
    open_protocol(empty_store, PROTOCOL)
    fill(empty_store)
    return empty_store


def test_an_honest_study_fits(filled: Store, gallery: Path) -> None:
    said = verify(filled, gallery)
    assert said[0] == "1 protocol versions have their hashes"
    assert said[1] == "4 decisions are a chain, and the exclusions are as decided"
    assert "20 trials and 22 votes are what the events say" in said[3]
    assert "what the gallery holds" in said[5]


@pytest.fixture(scope="module")
def kept(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled study on SQLite, to be copied and spoilt."""
    folder = tmp_path_factory.mktemp("kept")
    store = open_store(folder)
    migrate(store)
    ingest(gallery, store)
    open_protocol(store, PROTOCOL)
    fill(store)
    store.close()
    return folder


SPOILT = {
    "an answer": (
        "UPDATE events SET body = replace(body, 'model_a', 'model_b') WHERE event = 'voted'",
        "does not follow the one before it",
    ),
    "a time": ("UPDATE events SET at = at - 1 WHERE seq = 2", "event 3: does not follow"),
    "an event in the middle": ("DELETE FROM events WHERE seq = 5", "event 6: does not follow"),
    "the last event": (
        "DELETE FROM events WHERE id = (SELECT max(id) FROM events)",
        "the chain ends after event",
    ),
    "the end of a chain": ("UPDATE voters SET head = 'x'", "the chain ends after event"),
    "the protocol": ("UPDATE protocols SET body = replace(body, '\"t\"', '\"u\"')", "protocol version 1"),
    "a decision": ("UPDATE decisions SET at = 0 WHERE seq = 2", "decision 3: does not follow"),
    "a decision with its exclusion": (
        "DELETE FROM decisions WHERE seq = 2",
        "decision 3: does not follow",
    ),
    "an exclusion": ("UPDATE exclusions SET reason = 'none' WHERE id = 1", "exclusion 1: differs"),
    "an exclusion lifted": ("UPDATE exclusions SET lifted = 1 WHERE id = 1", "exclusion 1: differs"),
    "a missing exclusion": ("DELETE FROM exclusions WHERE id = 1", "exclusion 1: was decided"),
    "a vote": (
        "UPDATE votes SET winner = CASE winner WHEN 'tie' THEN 'model_a' ELSE 'tie' END",
        ": winner is",
    ),
    "the time of a vote": ("UPDATE votes SET rt_ms = 5", "rt_ms is 5, the events say 800"),
    "a late mark": ("UPDATE votes SET late = TRUE", "late is True"),
    "an undone vote": ("UPDATE votes SET undone_by = event_id WHERE undone_by IS NULL", "undone_by is"),
    "a missing vote": ("DELETE FROM votes WHERE supersedes IS NOT NULL", "but is missing"),
    "a trial": ("UPDATE assignments SET position = position + 100", "position is 1"),
    "a side": ("UPDATE assignments SET first_left = NOT first_left", "first_left is"),
    "a state": ("UPDATE assignments SET state = 'open'", "state is 'open'"),
    "a lease": ("UPDATE assignments SET expires = 9e9", "holds a lease until"),
    "a counter": ("UPDATE quotas SET votes = 0", "votes is 0, counted are"),
    "a load": ("UPDATE quotas SET load = load + 1", "load is"),
    "the sides of a quota": ("UPDATE quotas SET lefts = 0", "lefts is 0"),
    "a cell": ("UPDATE cells SET votes = votes + 1", "votes is"),
    "the hash of an image": ("UPDATE images SET served_sha256 = 'x'", "the file that voters get"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_whatever_is_changed_is_named(kept: Path, tmp_path: Path, what: str) -> None:
    statement, words = SPOILT[what]
    (tmp_path / "study.db").write_bytes((kept / "study.db").read_bytes())
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection:  # as somebody with the file would
        for table in ("events", "decisions"):
            for verb in ("update", "delete"):
                connection.execute(f"DROP TRIGGER {table}_no_{verb}")
        assert connection.execute(statement).rowcount > 0
        connection.commit()
    store = open_store(tmp_path)
    store = Store(store.engine, kept / "served", store.turn)
    with pytest.raises(VerifyError) as error:
        verify(store)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    store.close()


def test_a_changed_file_is_named(filled: Store, gallery: Path, tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"the gallery's file, .* cannot be read"):
        verify(filled, tmp_path)
    file = min(filled.served.iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(VerifyError, match="the file that voters get") as error:
        verify(filled)
    assert file.name in str(error.value)


@pytest.mark.parametrize("name", ["v.csv", "v.jsonl", "v.parquet"])
def test_a_dump_is_held_against_the_study(filled: Store, tmp_path: Path, name: str) -> None:
    export_votes(filled, tmp_path / name)
    assert "20 rows of" in verify_dump(filled, tmp_path / name)
    vote_all(filled, 1)
    assert "10 votes came later" in verify_dump(filled, tmp_path / name)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows[:5] + rows[6:], "is missing"),
        (lambda rows: [*rows, rows[-1].replace("1-", "9-")], "is not in this study"),
        (lambda rows: [row.replace("fp16", "fp32") for row in rows], "'fp32"),
        (lambda rows: [rows[0].replace("served_a", "served"), *rows[1:]], "no column served_a"),
    ],
)
def test_a_changed_dump_is_named(kept: Path, tmp_path: Path, spoil: Any, words: str) -> None:
    store = open_store(kept)
    path = tmp_path / "v.csv"
    export_votes(store, path)
    path.write_text("\n".join(spoil(path.read_text().splitlines())) + "\n")
    with pytest.raises(VerifyError) as error:
        verify_dump(store, path)
    assert words in str(error.value)
    store.close()


# ---------------------------------------------------------------- exclusions


def test_exclusions_are_applied_by_the_view_and_can_be_lifted(filled: Store) -> None:
    def reasons() -> set[str | None]:
        with filled.read() as session:
            rows = session.execute(select(votes_v1.c.excluded, votes_v1.c.exclude_reason)).all()
        assert all(bool(out) == (why is not None) for out, why in rows)
        return {why for _, why in rows}

    assert reasons() == {None, "undone", "a friend of the authors"}
    lift(filled, 1)
    assert reasons() == {None, "undone"}
    with filled.read() as session:
        vote_id = session.scalars(select(votes_v1.c.vote_id).where(~votes_v1.c.excluded)).first()
    assert vote_id
    made = exclude(filled, "vote", [vote_id, vote_id], "  pressed the\n wrong key ")
    assert [(rule.field, rule.value, rule.reason) for rule in made] == [
        ("vote", vote_id, "pressed the wrong key")
    ]
    assert exclude(filled, "vote", [vote_id], "again") == []
    assert reasons() == {None, "undone", "pressed the wrong key"}
    assert [rule.lifted for rule in rules(filled)] == [True, True, False]
    verify(filled)


@pytest.mark.parametrize(
    ("field", "values", "reason", "words"),
    [
        ("judge", ["nobody"], "x", "no judge 'nobody'"),
        ("prompt", ["0002", "9999"], "x", "no prompt '9999'"),
        ("prompt", ["0002"], " ", "reason: found 0"),
        ("prompt", ["0002"], "x" * 501, "reason: found 501"),
    ],
)
def test_a_bad_rule_is_refused_and_leaves_nothing(
    filled: Store, field: str, values: list[str], reason: str, words: str
) -> None:
    with pytest.raises(ExclusionError, match=words):
        exclude(filled, field, values, reason)
    with pytest.raises(ExclusionError, match="no rule 2 stands"):
        exclusions.lift(filled, 2)
    assert len(rules(filled)) == 2
    verify(filled)


def test_there_is_one_canonical_form() -> None:
    assert canonical({"b": 1.5, "a": ["é", None, True]}) == '{"a":["é",null,true],"b":1.5}'
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})
