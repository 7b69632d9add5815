"""Counting without reading: a database counts and streams, Parquet gives only the columns that matter."""

import sqlite3

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import sqlalchemy as sa

import elo
from elo import database, tally
from elo.errors import VotesError
from elo.online import elo_over_orders, sequential_elo


@pytest.fixture
def dump(five):
    """800 votes as a study has them, with text nobody needs; the later half in reverse order."""
    five["vote_id"] = [f"v{i}" for i in range(len(five))]
    five["supersedes"] = [None] * 700 + [f"v{i}" for i in range(100)]
    five["kind"] = ["main"] * 750 + ["repeat"] * 50
    five["excluded"] = [False] * 600 + [True] * 200
    five["exclude_reason"] = [None] * 600 + ["too fast"] * 200
    five["prompt"], five["display"] = "a long description of a picture", "{}"
    return pd.concat([five[:400], five[:399:-1]])


@pytest.fixture
def store(tmp_path):
    """Put a frame into a database with the view, return the URL."""

    def put(frame):
        with sqlite3.connect(tmp_path / "v.db") as connection:
            frame.to_sql("kept_elsewhere", connection, index=False, if_exists="append")
            connection.execute("CREATE VIEW IF NOT EXISTS votes_v1 AS SELECT * FROM kept_elsewhere")
        connection.close()
        return f"sqlite:///{tmp_path}/v.db"

    return put


@pytest.fixture
def statements(monkeypatch):
    """What is sent to any engine, and how many rows each fetch brought."""
    sent = []

    def note(connection, cursor, statement, *rest):
        if "votes_v1" in statement and "PRAGMA" not in statement and "sqlite_master" not in statement:
            sent.append(" ".join(statement.split()))

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


def same(one, two):
    """Two tallies of the same votes."""
    assert one.names == two.names
    assert (one.left_out, one.order, one.question, one.sides) == (
        two.left_out,
        two.order,
        two.question,
        two.sides,
    )
    np.testing.assert_array_equal(one.counts.number, two.counts.number)
    assert set(one.counts.by) == set(two.counts.by)
    for group, clusters in one.counts.by.items():
        other = two.counts.by[group]
        rows = [
            sorted((label, *row) for label, row in zip(c.labels, c.table.toarray().tolist(), strict=True))
            for c in (clusters, other)
        ]
        assert rows[0] == rows[1]
    whole = [np.concatenate(parts) for parts in zip(*one.in_order(), strict=True)]
    for column, expected in zip(whole, zip(*two.in_order(), strict=True), strict=True):
        np.testing.assert_array_equal(column, np.concatenate(expected))


def test_a_database_counts_and_streams_what_reading_gives(dump, store):
    dump.loc[dump.index[::7], "judge"] = None  # who voted is not always known
    url = store(dump)
    counted = elo.read_tally(url)
    assert counted.left_out == {"kind=repeat": 50, "excluded: too fast": 150, "superseded": 100}
    for whole in (elo.read_votes(dump), elo.read_votes(url)):
        same(counted, tally.tally(whole))
    same(counted, tally.tally(elo.read_votes(url)))  # it may be streamed again
    assert counted.known("judge") == dump["judge"].nunique()


def test_the_table_of_a_database_is_the_table_of_its_votes(dump, store):
    url = store(dump)
    for method in ("bradley-terry", "elo"):
        there = elo.compute(elo.read_tally(url), method=method, bootstrap=30, seed=1)
        here = elo.compute(elo.read_votes(dump), method=method, bootstrap=30, seed=1)
        pd.testing.assert_frame_equal(there.ratings, here.ratings)
        np.testing.assert_allclose(there.draws, here.draws, atol=1e-9)
        assert there.notes == here.notes
        told = {**there.settings, "source": "DataFrame", "design_effect": None}
        assert told == {**here.settings, "design_effect": None}


def test_what_is_sent_and_held_does_not_grow_with_the_votes(dump, store, statements, monkeypatch):
    monkeypatch.setattr(database, "FETCH", 50)
    sizes, held = [], []

    def measured(columns, batches):
        table = from_batches(columns, batches)
        held.append(table.num_rows)
        return table

    from_batches = database.from_batches
    monkeypatch.setattr(database, "from_batches", measured)
    for copy in range(3):
        more = dump.assign(
            vote_id=dump["vote_id"] + f"-{copy}",
            supersedes=dump["supersedes"] + f"-{copy}",
            tstamp=dump["tstamp"] + copy,
        )
        url = store(more)
        counted = elo.read_tally(url)
        elo.compute(counted, bootstrap=20)
        assert len(counted) == 500 * (copy + 1)
        sizes.append([len(chunk[0]) for chunk in counted.in_order()])
    # per table: cells by judge, cells by prompt, the stream; the last is asked again for `sizes`
    assert ["GROUP BY" in sent for sent in statements] == 3 * [True, True, False, False]
    assert not any("display" in sent or "votes_v1.prompt " in sent for sent in statements)
    assert held[:2] == held[2:4] == held[4:]
    assert all(max(size) <= 50 for size in sizes)


def test_votes_that_come_later_are_in_neither_counts_nor_elo(dump, store):
    url = store(dump)
    counted = elo.read_tally(url)
    before = sequential_elo(counted).ratings
    later = dump[:60].assign(vote_id=[f"late{i}" for i in range(60)], supersedes=None, tstamp=2e9)
    store(later.replace({"model_a": {"fp16": "another method"}}))
    np.testing.assert_array_equal(sequential_elo(counted).ratings, before)
    assert len(elo.read_tally(url)) == len(counted) + 60
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("DELETE FROM kept_elsewhere WHERE vote_id LIKE 'v1%' OR vote_id LIKE 'late%'")
    connection.close()
    with pytest.raises(VotesError, match="votes changed while they were read"):
        sequential_elo(counted)


def test_all_counts_are_of_one_moment(dump, store):
    """Somebody votes between the two statements that count."""
    url = store(dump)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    seen = []

    def vote(connection, cursor, statement, *rest):
        seen.append("GROUP BY" in statement)
        if sum(seen) == 2:
            store(dump[300:400].assign(vote_id=[f"n{i}" for i in range(100)], supersedes=None))

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", vote)
    try:
        counted = elo.read_tally(url)
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", vote)
    assert sum(seen) == 2
    for clusters in counted.counts.by.values():
        assert clusters.table.sum() == len(counted) == 500
    assert len(elo.read_tally(url)) == 600


def test_bad_rows_of_a_database_are_refused_or_counted(dump, store):
    dump.loc[dump.index[200:203], "winner"] = "neither"
    url = store(dump)
    with pytest.raises(VotesError, match=r"v.db, votes_v1, column winner: found 'neither'") as caught:
        elo.read_tally(url)
    assert "\n" not in str(caught.value)
    skipped = elo.read_tally(url, on_error="skip")
    assert skipped.left_out["unreadable winner"] == 3
    same(skipped, tally.tally(elo.read_votes(dump, on_error="skip")))


def test_questions_and_missing_times(dump, store):
    dump["question"] = np.where(np.arange(800) % 2, "quality", "match")
    url = store(dump)
    with pytest.raises(VotesError, match=r"several questions \('match', 'quality'\)"):
        elo.read_tally(url)
    same(elo.read_tally(url, question="match"), tally.tally(elo.read_votes(dump, question="match")))
    untimed = store(dump[:0])
    with sqlite3.connect(untimed.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE kept_elsewhere SET tstamp = NULL WHERE vote_id = 'v7'")
        connection.execute("UPDATE kept_elsewhere SET supersedes = NULL")
    connection.close()
    with pytest.raises(VotesError, match="column tstamp: only 299 of 300 votes have a time"):
        elo.read_tally(untimed, question="quality")
    with sqlite3.connect(untimed.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE kept_elsewhere SET tstamp = NULL")
    connection.close()
    assert elo.read_tally(untimed, question="quality").order == "file"


def test_rows_that_hold_several_votes_are_read(store):
    frame = pd.DataFrame(
        {"model_a": ["x", "y"], "model_b": ["y", "x"], "winner": ["left", "left"], "count": [3, 2]}
    )
    url = store(frame)
    assert elo.read_tally(url).counts.wins.tolist() == [[0, 3], [2, 0]]
    assert elo.count_votes(url).wins.tolist() == [[0, 3], [2, 0]]
    assert elo.count_votes(frame).wins.tolist() == [[0, 3], [2, 0]]


def test_parquet_is_read_by_column(dump, tmp_path, monkeypatch):
    dump.to_parquet(tmp_path / "v.parquet", index=False)
    asked = []
    read = pyarrow.parquet.ParquetFile.read

    def noted(self, columns=None, **options):
        asked.append(columns)
        return read(self, columns=columns, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read", noted)
    same(elo.read_tally(tmp_path / "v.parquet"), tally.tally(elo.read_votes(dump)))
    assert len(asked) == 1
    assert set(dump.columns) - set(asked[0]) == {"prompt", "display"}


def test_random_orders_need_only_counts(dump, store):
    there, here = elo.read_tally(store(dump)), tally.tally(elo.read_votes(dump))
    one, two = (elo_over_orders(counted.counts, orders=5) for counted in (there, here))
    np.testing.assert_array_equal(one.mean, two.mean)
