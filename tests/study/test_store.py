from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from study.ballot import Answer, answer, current
from study.config import Protocol
from study.participants import add_voter
from study.schema import VOTE_COLUMNS, Assignment, Base, Cell, Event, Vote, Voter
from study.store import Store, StoreError, check_ready, migrate, open_store, register_protocol


def vote_once(store: Store, protocol: Protocol) -> Voter:
    voter = add_voter(store, protocol, "key")
    assert voter
    trial = current(store, voter.id, protocol).trials[0]
    answer(store, voter.id, trial.trial_id, Answer("v1", "left", 900, {"dpr": 1}), protocol)
    return voter


def test_migrations_make_exactly_the_models_tables(empty_store: Store) -> None:
    with empty_store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_check_constraints_are_those_of_the_models(empty_store: Store) -> None:
    found = inspect(empty_store.engine)
    for table in Base.metadata.sorted_tables:
        declared = {str(c.name) for c in table.constraints if type(c).__name__ == "CheckConstraint"}
        made = {c["name"] for c in found.get_check_constraints(table.name)}
        assert made == {f"ck_{table.name}_{name.removeprefix(f'ck_{table.name}_')}" for name in declared}


def test_down_and_up_again_with_data_in_the_tables(store: Store, protocol: Protocol) -> None:
    vote_once(store, protocol)
    migrate(store, "base")
    assert inspect(store.engine).get_table_names() == ["alembic_version"]
    assert inspect(store.engine).get_view_names() == []
    migrate(store)
    check_ready(store)


def test_migrating_twice_is_once(store: Store, protocol: Protocol) -> None:
    vote_once(store, protocol)
    migrate(store)
    with store.read() as session:
        assert session.query(Vote).count() == 1


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="study init"):
        check_ready(store)
    store.close()


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


def test_the_view_has_the_columns_of_the_vote_dump(store: Store, protocol: Protocol) -> None:
    vote_once(store, protocol)
    with store.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM votes_v1")).mappings().all()
    assert list(rows[0].keys()) == list(VOTE_COLUMNS)
    assert rows[0]["protocol"] == protocol.hash
    assert rows[0]["study"] == "test"
    assert rows[0]["repeat_of"] is None


@pytest.mark.parametrize("statement", ["UPDATE events SET event = 'voted'", "DELETE FROM events"])
def test_events_cannot_be_changed(store: Store, protocol: Protocol, statement: str) -> None:
    vote_once(store, protocol)
    with pytest.raises(DBAPIError, match="append-only"), store.write() as session:
        session.execute(text(statement))


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
    }
    return Vote(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [{"winner": "left"}, {"trial_id": "nobody's"}, {"event_id": 10**6}, {"rt_ms": -1}, {"vote_id": "v1"}],
)
def test_the_database_itself_refuses_what_is_not_allowed(
    store: Store, protocol: Protocol, changes: dict[str, object]
) -> None:
    vote_once(store, protocol)
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(spoilt_vote(session, **changes))


def test_the_database_itself_holds_one_vote_a_trial_and_one_trial_a_cell(
    store: Store, protocol: Protocol
) -> None:
    voter = vote_once(store, protocol)
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
                    kind="main",
                    state="open",
                    protocol=protocol.hash,
                    created=1.0,
                    **twice,
                )
            )


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as session:
        session.add(Voter(id="x", judge="x", trials=1, source="link", created=0.0))
        session.flush()
        raise ZeroDivisionError
    with store.read() as session:
        assert session.get(Voter, "x") is None


def test_a_protocol_is_noted_once(store: Store, protocol: Protocol) -> None:
    register_protocol(store, protocol)
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM protocols")).scalar() == 1
