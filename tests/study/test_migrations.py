"""The tables as migrations make them, and what a migration does to a study that was voted on."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from study import store as stores
from study.ballot import Answer, Answers, answer, current, undo
from study.exclusions import exclude
from study.ingest import ingest
from study.participants import add_voter
from study.protocols import open_protocol
from study.schema import Base
from study.store import Store, StoreError, check_ready, migrate, open_store
from study.verify import verify

FIRST = "20261122"
# A later revision, as a release may bring it: a column that is filled from the votes that are there.
SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "20991231"
down_revision = "20261122"


def upgrade():
    op.add_column("voters", sa.Column("answered", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE voters SET answered = (SELECT count(*) FROM votes JOIN assignments"
        " ON assignments.trial_id = votes.trial_id WHERE assignments.voter_id = voters.id)"
    )


def downgrade():
    op.drop_column("voters", "answered")
"""


def rows(store: Store, table: str) -> list[tuple[Any, ...]]:
    with store.engine.connect() as connection:
        return sorted(tuple(map(str, row)) for row in connection.execute(text(f"SELECT * FROM {table}")))  # noqa: S608


def everything(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows(store, table) for table in (*Base.metadata.tables, "votes_v1")}


def vote(store: Store, voter: str, vote_id: str) -> str:
    """Answer the voter's next trial; returns which one it was."""
    trial = current(store, voter).trials[0].trial_id
    answer(store, voter, trial, Answers(vote_id, (Answer("preference", "left", 900),), {"dpr": 1}))
    return trial


@pytest.fixture
def voted(store: Store) -> Store:
    """A study with two voters, five votes, one of them undone, and one left out."""
    for name, votes in (("ada", 3), ("bob", 2)):
        voter = add_voter(store, "key")
        assert voter
        for number in range(votes):
            trial = vote(store, voter.id, f"{name}-{number}")
    undo(store, voter.id, trial, "bob-1")
    exclude(store, "prompt", ["0001"], "a typing error in it")
    return store


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pairstudy of a later release, with one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(stores.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "20991231_answered.py").write_text(SECOND)
    monkeypatch.setattr(stores, "MIGRATIONS", folder)
    return folder


def test_migrations_make_exactly_the_models_tables(empty_store: Store) -> None:
    with empty_store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_check_constraints_are_those_of_the_models(empty_store: Store) -> None:
    found = inspect(empty_store.engine)
    for table in Base.metadata.sorted_tables:
        declared = {
            (f"ck_{table.name}_{str(c.name).removeprefix(f'ck_{table.name}_')}", plain(c.sqltext.text))
            for c in table.constraints
            if type(c).__name__ == "CheckConstraint"
        }
        made = {(c["name"], plain(c["sqltext"])) for c in found.get_check_constraints(table.name)}
        if empty_store.engine.dialect.name == "postgresql":  # which writes the same in other words
            declared, made = {name for name, _ in declared}, {name for name, _ in made}
        assert made == declared


def plain(condition: str) -> str:
    return " ".join(condition.split())


def test_down_to_nothing_and_up_again_with_data_in_the_tables(
    voted: Store, protocol: Any, gallery: Path
) -> None:
    migrate(voted, "base")
    assert inspect(voted.engine).get_table_names() == ["alembic_version"]
    assert inspect(voted.engine).get_view_names() == []
    migrate(voted)
    check_ready(voted)
    ingest(gallery, voted)
    open_protocol(voted, protocol)
    voter = add_voter(voted, "key")
    assert voter
    vote(voted, voter.id, "eve-0")
    verify(voted)


def test_migrating_twice_is_once(voted: Store) -> None:
    before = everything(voted)
    migrate(voted)
    assert everything(voted) == before


def test_a_later_revision_up_and_down_with_votes(voted: Store, later: Path) -> None:
    before = everything(voted)
    with pytest.raises(StoreError, match=f"revision {FIRST}, expected 20991231; .*`study upgrade`"):
        check_ready(voted)
    migrate(voted)
    check_ready(voted)
    assert sorted(int(row[-1]) for row in rows(voted, "voters")) == [2, 3]
    assert {table: there for table, there in everything(voted).items() if table != "voters"} == {
        table: there for table, there in before.items() if table != "voters"
    }
    voter = rows(voted, "voters")[0][0]
    vote(voted, voter, "later")  # the study goes on
    verify(voted)
    after = everything(voted)
    migrate(voted, FIRST)
    assert everything(voted) == {**after, "voters": [row[:-1] for row in after["voters"]]}
    migrate(voted)
    assert sum(int(row[-1]) for row in rows(voted, "voters")) == 6


def test_a_revision_that_fails_midway_changes_nothing(voted: Store, later: Path) -> None:
    file = later / "versions" / "20991231_answered.py"
    file.write_text(SECOND.replace("\n\n\ndef downgrade", "\n    op.execute('nonsense')\n\n\ndef downgrade"))
    before, columns = everything(voted), inspect(voted.engine).get_columns("voters")
    with pytest.raises(StoreError, match="nonsense"):
        migrate(voted)
    assert everything(voted) == before
    assert len(inspect(voted.engine).get_columns("voters")) == len(columns)


@pytest.mark.parametrize("revision", ["0005", "20991231"])
def test_tables_of_an_unknown_revision_are_refused_and_left_alone(voted: Store, revision: str) -> None:
    with voted.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    before = everything(voted)
    for use in (check_ready, migrate):
        with pytest.raises(StoreError, match=f"revision {revision}, unknown to this pairstudy"):
            use(voted)
    assert everything(voted) == before


def test_a_database_without_tables_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="study init"):
        check_ready(store)
    store.close()
