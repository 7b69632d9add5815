"""Revision 0001 with votes in it, up and down again: nothing is lost, and the study goes on."""

import hashlib
import json
import random
from typing import Any

import pytest
from sqlalchemy import text

from study.ballot import Answer, Answers, answer, current, undo
from study.config import Checks, Protocol
from study.ingest import ingest
from study.participants import add_voter, find_person, find_voter
from study.protocols import newest, open_protocol
from study.store import Store, check_ready, migrate, open_store
from study.verify import VerifyError, verify
from study.withdrawal import withdraw

OLD = {
    "name": "test",
    "title": "Which?",
    "question": "Which picture do you prefer?",
    "instructions": "",
    "trials_per_voter": 4,
    "ties": True,
    "seed": 0,
    "prefetch": 1,
    "across_base_models": False,
}
BODY = json.dumps(OLD)
HASH = hashlib.sha256(BODY.encode()).hexdigest()
VOTE = ("vote_id", "trial_id", "judge", "model_a", "model_b", "winner", "rt_ms", "tstamp", "kind", "protocol")


def rows(store: Store, table: str = "votes_v1", columns: tuple[str, ...] = VOTE) -> list[tuple[Any, ...]]:
    order = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {columns[0]}"  # noqa: S608
    with store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(order))]


def insert(store: Store, table: str, **values: Any) -> None:
    names = ", ".join(values)
    with store.engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO {table} ({names}) VALUES (:{', :'.join(values)})"),  # noqa: S608
            {k: json.dumps(v) if isinstance(v, dict) else v for k, v in values.items()},
        )


@pytest.fixture
def old(empty_store: Store) -> Store:
    """A study as revision 0001 kept it: two voters, three votes, one trial open."""
    migrate(empty_store, "0001")
    put = insert
    put(empty_store, "galleries", digest="g", name="old", body={}, ingested=1.0)
    for method in ("a", "b"):
        put(empty_store, "methods", id=method, gallery="g", body={})
    for number in range(3):
        put(empty_store, "prompts", id=f"p{number}", text=f"prompt {number}")
        for place, method in enumerate(("a", "b")):
            put(
                empty_store,
                "images",
                id=10 * number + place,
                method_id=method,
                prompt_id=f"p{number}",
                replicate=0,
                sha256=f"{method}{number}",
                served_key=f"{method}{number}",
                served_sha256="x",
                width=8,
                height=8,
                body={},
            )
        put(
            empty_store,
            "cells",
            id=number + 1,
            prompt_id=f"p{number}",
            method_1="a",
            method_2="b",
            image_1=10 * number,
            image_2=10 * number + 1,
            shuffle=number,
            votes=(2, 1, 0)[number],
        )
    put(empty_store, "protocols", hash=HASH, study="test", body=BODY, created=1.0)
    event = 0
    for voter, trials in (("ada", 3), ("bob", 1)):
        put(empty_store, "voters", id=voter, judge=f"j-{voter}", trials=4, source="link", created=1.0)
        for position in range(trials):
            left = position % 2
            trial = {"trial_id": f"{voter}{position}", "voter_id": voter}
            images = {"left": 10 * position + left, "right": 10 * position + 1 - left}
            put(
                empty_store,
                "assignments",
                **trial,
                cell_id=position + 1,
                position=position,
                left_image=images["left"],
                right_image=images["right"],
                kind="main",
                state="voted" if position < 2 else "open",
                protocol=HASH,
                created=1.0,
            )
            event += 1
            body: dict[str, Any] = {"cell": position + 1, "position": position, **images, "kind": "main"}
            body |= {"protocol": HASH, "draws": [0.5, 0.25]}
            put(empty_store, "events", id=event, **trial, event="assigned", at=2.5 + event, body=body)
            if position < 2:
                event += 1
                answer_ = {"question": "preference", "winner": "model_a", "rt_ms": 700}
                body = {"vote_id": f"v-{voter}{position}", **answer_, "display": None}
                put(empty_store, "events", id=event, **trial, event="voted", at=2.5 + event, body=body)
                put(
                    empty_store,
                    "votes",
                    vote_id=f"v-{voter}{position}",
                    trial_id=trial["trial_id"],
                    event_id=event,
                    **answer_,
                    at=2.5 + event,
                )
    return empty_store


def test_votes_of_0001_are_kept_chained_and_counted(old: Store) -> None:
    before = rows(old)
    migrate(old)
    check_ready(old)
    assert rows(old) == before
    assert rows(old, "quotas", ("id", "votes", "load", "lefts")) == [(1, 2, 2, 2), (2, 1, 1, 0), (3, 0, 0, 0)]
    with old.read() as session:
        version = newest(session)
    assert version
    assert version.number == 2
    assert version.protocol.questions[0].tie
    assert version.protocol.trials_per_voter == 4
    with pytest.raises(VerifyError, match=r"the file that voters get, .*, cannot be read"):
        verify(old)  # the pictures of this study never existed; all that is looked at before fits


def test_a_study_of_0001_goes_on(old: Store) -> None:
    migrate(old)
    found = current(old, "ada")
    assert (found.done, found.total, [trial.position for trial in found.trials]) == (2, 4, [2])
    after = answer(old, "ada", "ada2", Answers("v-ada2", (Answer("preference", "right", 5),)))
    assert (after.done, after.trials) == (3, [])  # three pairs are all there are
    after = answer(
        old,
        "bob",
        current(old, "bob").trials[0].trial_id,
        Answers("v-bob1", (Answer("preference", "tie", 5),)),
    )
    assert after.done == 2
    assert add_voter(old, "key")


def test_who_voted_before_there_were_persons_can_withdraw(old: Store) -> None:
    migrate(old)
    person, other = find_person(old, voter_id="ada"), find_person(old, voter_id="bob")
    assert person
    assert other
    assert (person.source, person.platform_id, person.screened_out) == ("link", None, False)
    assert person.key != other.key
    withdraw(old, "key", person.id)
    assert (find_voter(old, "ada"), find_person(old, voter_id="ada")) == (None, None)
    assert find_voter(old, "bob")
    with pytest.raises(VerifyError, match="the file that voters get"):
        verify(old)  # all but the pictures


def test_down_to_0001_and_up_again_with_votes(old: Store) -> None:
    before = {table: rows(old, table, ("id",)) for table in ("events", "cells", "images")}
    votes = rows(old)
    migrate(old)
    migrate(old, "0001")
    assert {table: rows(old, table, ("id",)) for table in before} == before
    assert rows(old) == votes
    migrate(old)
    assert rows(old) == votes


def test_what_0001_has_no_place_for_is_left_out(empty_store: Store, gallery: Any) -> None:
    ingest(gallery, empty_store)
    checks = Checks(golds=1, repeats=1, repeat_gap=2, nulls=1, practice=1)
    protocol = Protocol(name="t", title="t", trials_per_voter=8, checks=checks)
    open_protocol(empty_store, protocol)
    rng = random.Random(1)
    for number in range(2):
        if number:
            open_protocol(empty_store, protocol.model_copy(update={"title": "u"}))
        voter = add_voter(empty_store, "key")
        assert voter
        found = current(empty_store, voter.id)
        while not found.finished:
            trial = found.trials[0].trial_id
            side = rng.choice(("left", "right"))
            found = answer(empty_store, voter.id, trial, Answers(trial, (Answer("preference", side, 1),)))
        undo(empty_store, voter.id, trial, trial)
    main = [row for row in rows(empty_store) if row[8] == "main" and not was_undone(empty_store, row[0])]
    migrate(empty_store, "0001")
    assert rows(empty_store) == main
    migrate(empty_store)
    assert rows(empty_store) == main
    voter = add_voter(empty_store, "key")
    assert voter
    assert current(empty_store, voter.id).trials


def was_undone(store: Store, vote_id: str) -> bool:
    with store.engine.connect() as connection:
        found = text("SELECT undone_by IS NOT NULL FROM votes WHERE vote_id = :id")
        return bool(connection.execute(found, {"id": vote_id}).scalar())


def test_a_study_of_0001_that_was_never_served(empty_store: Store, gallery: Any) -> None:
    ingest(gallery, empty_store)
    migrate(empty_store, "0001")
    migrate(empty_store)
    assert open_protocol(empty_store, Protocol(name="t", title="t")).number == 1
    store = open_store(empty_store.served.parent, str(empty_store.engine.url.render_as_string(False)))
    check_ready(store)
    store.close()
