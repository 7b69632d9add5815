from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from study import store as stores
from study.ballot import Answer, Answers, answer, current
from study.config import Protocol
from study.participants import add_voter
from study.schema import VOTE_COLUMNS, Assignment, Cell, Event, Quota, Vote, Voter
from study.store import Store, StoreError, check_ready, open_store


def vote_once(store: Store) -> Voter:
    voter = add_voter(store, "key")
    assert voter
    trial = current(store, voter.id).trials[0]
    answers = Answers("v1", (Answer("preference", "left", 900),), {"dpr": 1})
    answer(store, voter.id, trial.trial_id, answers)
    return voter


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql+pymysql://localhost/x", "DATABASE_URL"),
        ("nonsense", "DATABASE_URL"),
        ("postgresql://me:topsecret@127.0.0.1:1/x", "database postgresql"),
    ],
)
def test_a_bad_database_url_is_one_line_without_its_password(tmp_path: Path, url: str, words: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as error:
        check_ready(open_store(tmp_path, url))
    assert words in str(error.value)
    assert "topsecret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_sqlite_is_set_for_durability(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    store.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}


def test_a_connection_that_broke_at_rest_is_replaced(
    store: Store, database: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database is None:
        pytest.skip("SQLite is a file")
    other = create_engine(database)
    with store.read() as session:
        session.execute(text("SELECT 1"))
    with other.connect() as connection:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        assert len(ended.all()) >= 1
    other.dispose()
    monkeypatch.setattr(stores, "IDLE_SECONDS", 0)
    with store.read() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_the_view_has_the_columns_of_the_vote_dump(store: Store, protocol: Protocol) -> None:
    vote_once(store)
    with store.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM votes_v1")).mappings().all()
    assert list(rows[0].keys()) == list(VOTE_COLUMNS)
    assert rows[0]["protocol"] == protocol.hash
    assert rows[0]["study"] == "test"
    assert rows[0]["repeat_of"] is None


@pytest.mark.parametrize("table", ["events", "decisions"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET at = 0", "DELETE FROM {}"])
def test_evidence_cannot_be_changed(store: Store, statement: str, table: str) -> None:
    vote_once(store)
    with pytest.raises(DBAPIError, match="append-only"), store.write() as session:
        session.execute(text(statement.format(table)))


def spoilt_vote(session: Session, **changes: object) -> Vote:
    event = session.query(Event).filter_by(event="assigned").first()
    trial = session.query(Assignment).filter_by(state="open").first()
    assert event and trial
    values = {
        "vote_id": "v2",
        "trial_id": trial.trial_id,
        "event_id": event.id,
        "question": "preference",
        "winner": "tie",
        "at": 1.0,
        "late": False,
    }
    return Vote(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [{"winner": "left"}, {"trial_id": "nobody's"}, {"event_id": 10**6}, {"rt_ms": -1}, {"vote_id": "v1"}],
)
def test_the_database_itself_refuses_what_is_not_allowed(store: Store, changes: dict[str, object]) -> None:
    vote_once(store)
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(spoilt_vote(session, **changes))


def test_the_database_itself_holds_one_vote_a_trial_and_one_trial_a_cell(
    store: Store, protocol: Protocol
) -> None:
    voter = vote_once(store)
    with store.read() as session:
        done = session.query(Assignment).filter_by(state="voted").one()
        other = session.query(Cell).filter(Cell.id != done.cell_id).first()
        assert other
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(spoilt_vote(session, trial_id=done.trial_id))
    for twice in (
        {"cell_id": done.cell_id, "position": 99},
        {"cell_id": other.id, "position": done.position},
    ):
        with pytest.raises(IntegrityError), store.write() as session:
            session.add(
                Assignment(
                    trial_id="new",
                    voter_id=voter.id,
                    left_image=done.left_image,
                    right_image=done.right_image,
                    first_left=True,
                    kind="main",
                    state="open",
                    protocol=protocol.hash,
                    created=1.0,
                    **twice,
                )
            )


def test_postgresql_keeps_statements_prepared_after_a_read(store: Store) -> None:
    if store.engine.dialect.name != "postgresql":
        pytest.skip("SQLite prepares statements by itself")
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT voters%'"
    voter = vote_once(store)
    for _ in range(8):  # psycopg prepares what comes for the sixth time
        current(store, voter.id)
        with store.read() as session:
            session.get(Voter, voter.id)
    with store.read() as session:
        assert session.scalar(text(prepared)) >= 2


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as session:
        session.execute(text("UPDATE quotas SET load = 7"))
        raise ZeroDivisionError
    with store.read() as session:
        assert session.query(Quota).filter_by(load=7).count() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE quotas SET votes = load + 1",
        "UPDATE quotas SET lefts = load + 1",
        "UPDATE quotas SET load = -1, votes = -1, lefts = -1",
        "UPDATE cells SET kind = 'gold'",
        "UPDATE cells SET image_2 = image_1",
        "UPDATE assignments SET kind = 'repeat'",
        "UPDATE assignments SET right_image = left_image",
        "UPDATE assignments SET state = 'lost'",
        "UPDATE images SET variant = 'pixelated'",
        "UPDATE voters SET protocol = 'another'",
    ],
)
def test_the_database_itself_keeps_counters_and_trials_sound(store: Store, statement: str) -> None:
    vote_once(store)
    with pytest.raises(IntegrityError), store.write() as session:
        session.execute(text(statement))
