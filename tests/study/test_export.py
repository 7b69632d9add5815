import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import event, text

import elo
from study import export
from study.export import ExportError, export_votes
from study.layouts import OURS
from study.store import Store


@pytest.fixture
def voted(store: Store, robot: Callable[[], Any]) -> Store:
    """Two voters have answered all."""
    for _ in range(2):
        voter = robot()
        for number in range(12):
            voter.answer(["left", "right", "tie"][number % 3])
    return store


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.loads(data)
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return list(csv.DictReader(lines)) if ".csv" in path.name else [json.loads(line) for line in lines]


def test_all_formats_hold_the_same_votes(voted: Store, tmp_path: Path) -> None:
    tables = {}
    for name in ("v.parquet", "v.jsonl", "v.json", "v.csv", "v.csv.gz", "v.jsonl.gz"):
        assert export_votes(voted, tmp_path / name).rows == 24
        tables[name] = read(tmp_path / name)
        assert list(tables[name][0]) == list(OURS.columns)
    for row, typed in zip(tables["v.csv"], tables["v.parquet"], strict=True):
        text = {
            k: "" if v is None else str(v).lower() if isinstance(v, bool) else str(v)
            for k, v in typed.items()
        }
        assert row == text
    assert tables["v.parquet"] == tables["v.jsonl"] == tables["v.json"]
    assert tables["v.csv.gz"] == tables["v.csv"]
    assert sorted(p.name for p in tmp_path.glob("*v.*")) == sorted(tables)  # no temporary file is left


def test_a_vote_says_all_it_knows(voted: Store, tmp_path: Path, gallery: Path) -> None:
    export_votes(voted, tmp_path / "v.jsonl")
    rows = read(tmp_path / "v.jsonl")
    images = {
        (row["method"], row["prompt_id"]): row["sha256"]
        for row in map(json.loads, (gallery / "images.jsonl").read_text().splitlines())
    }
    assert [row["tstamp"] for row in rows] == sorted(row["tstamp"] for row in rows)
    assert len({row["judge"] for row in rows}) == 2
    for row in rows:
        assert row["image_a"] == images[row["model_a"], row["prompt_id"]]
        assert row["image_b"] == images[row["model_b"], row["prompt_id"]]
        assert row["prompt"].endswith(row["prompt_id"])
        assert row["kind"] == "main"
        assert row["rt_ms"] == 1234
        assert row["excluded"] is False
        assert row["late"] is False
        assert row["question"] == "preference"
        assert row["category"] == "shapes"


@pytest.mark.parametrize("name", ["v.parquet", "v.jsonl", "v.json", "v.csv", "v.csv.gz"])
def test_elo_reads_what_study_writes(voted: Store, tmp_path: Path, name: str) -> None:
    export_votes(voted, tmp_path / name)
    votes = elo.read_votes(tmp_path / name)
    assert len(votes) == 24
    assert votes.left_out == {}


def test_elo_reads_the_database(voted: Store) -> None:
    votes = elo.read_votes(voted.engine.url.render_as_string(hide_password=False))
    assert len(votes) == 24


def test_an_empty_study_exports_an_empty_table(empty_store: Store, tmp_path: Path) -> None:
    for name in ("v.parquet", "v.csv"):
        assert export_votes(empty_store, tmp_path / name).rows == 0
    assert pq.read_schema(tmp_path / "v.parquet").names == list(OURS.columns)
    assert (tmp_path / "v.csv").read_text().strip() == ",".join(OURS.columns)


@pytest.mark.parametrize(("name", "words"), [("v.xlsx", "'xlsx'"), ("no/folder/v.csv", "cannot be written")])
def test_a_bad_target_is_one_line_and_leaves_nothing(
    empty_store: Store, tmp_path: Path, name: str, words: str
) -> None:
    before = list(tmp_path.rglob("*v*"))
    with pytest.raises(ExportError) as error:
        export_votes(empty_store, tmp_path / name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.rglob("*v*")) == before


class Spy:
    """A database cursor that notes how many rows are asked for at a time."""

    def __init__(self, cursor: Any, fetched: list[int]) -> None:
        self._cursor, self._fetched = cursor, fetched

    def __getattr__(self, name: str) -> Any:
        assert name != "fetchall", "all rows at once"
        return getattr(self._cursor, name)

    def fetchmany(self, size: int) -> Any:
        self._fetched.append(size)
        return self._cursor.fetchmany(size)


def test_votes_come_out_of_the_database_a_batch_at_a_time(
    voted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH", 5)
    fetched: list[int] = []
    kinds: set[str] = set()

    def spy(_connection: Any, cursor: Any, statement: str, _values: Any, context: Any, _many: bool) -> None:
        if "ORDER BY votes_v1.tstamp" in statement:
            kinds.add(type(cursor).__name__)
            context.cursor = Spy(cursor, fetched)

    event.listen(voted.engine, "after_cursor_execute", spy)
    pieces = export.stream_votes(voted, "jsonl")
    assert next(pieces).count(b"\n") == 5
    assert sum(fetched) <= 6  # SQLAlchemy takes one row, and then batches
    assert b"".join(pieces).count(b"\n") == 19
    assert set(fetched) <= {1, 5}
    # SQLite finds rows as they are fetched; PostgreSQL would send them all, but for a cursor of its own.
    assert kinds == {"Cursor" if voted.engine.dialect.name == "sqlite" else "ServerCursor"}


class Counted(dict[str, Any]):
    """A row that knows how many of its kind are in memory."""

    alive = most = 0

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


@pytest.mark.parametrize("kind", export.WRITERS)
def test_a_writer_holds_a_batch_of_rows_at_most(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH", 50)
    monkeypatch.setattr(Counted, "most", 0)
    empty = dict.fromkeys(OURS.columns)
    rows = (Counted(empty, vote_id=str(number)) for number in range(1000))
    with (tmp_path / "v").open("wb") as stream:
        for piece in export.WRITERS[kind](rows, OURS.columns):
            stream.write(piece)
    assert 1 <= Counted.most <= 51
    assert Counted.alive == 0
    if kind == "parquet":
        assert pq.ParquetFile(tmp_path / "v").num_row_groups == 20


def test_votes_that_were_taken_back_go_out_on_request_only(voted: Store, tmp_path: Path) -> None:
    with voted.engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT * FROM votes_v1"))
        connection.execute(text("DROP VIEW votes_v1"))
        connection.execute(text("ALTER TABLE kept RENAME TO votes_v1"))
        ids = connection.scalars(text("SELECT vote_id FROM votes_v1 ORDER BY tstamp LIMIT 2")).all()
        later = text("UPDATE votes_v1 SET supersedes = :first WHERE vote_id = :second")
        connection.execute(later, {"first": ids[0], "second": ids[1]})
    done = export_votes(voted, tmp_path / "v.csv")
    assert (done.rows, done.left_out) == (23, {"superseded by a later vote": 1})
    assert ids[0] not in {row["vote_id"] for row in read(tmp_path / "v.csv")}
    assert len(elo.read_votes(tmp_path / "v.csv")) == 23
    done = export_votes(voted, tmp_path / "v.csv", superseded=True)
    assert (done.rows, done.left_out) == (24, {})
    assert elo.read_votes(tmp_path / "v.csv").left_out == {"superseded": 1}
