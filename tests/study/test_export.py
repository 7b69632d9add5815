import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import elo
from study.export import ExportError, export_votes
from study.schema import VOTE_COLUMNS
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
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return list(csv.DictReader(lines)) if ".csv" in path.name else [json.loads(line) for line in lines]


def test_all_formats_hold_the_same_votes(voted: Store, tmp_path: Path) -> None:
    tables = {}
    for name in ("v.parquet", "v.jsonl", "v.csv", "v.csv.gz", "v.jsonl.gz"):
        assert export_votes(voted, tmp_path / name) == 24
        tables[name] = read(tmp_path / name)
        assert list(tables[name][0]) == list(VOTE_COLUMNS)
    for row, typed in zip(tables["v.csv"], tables["v.parquet"], strict=True):
        text = {
            k: "" if v is None else str(v).lower() if isinstance(v, bool) else str(v)
            for k, v in typed.items()
        }
        assert row == text
    assert tables["v.parquet"] == tables["v.jsonl"]
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


@pytest.mark.parametrize("name", ["v.parquet", "v.jsonl", "v.csv", "v.csv.gz"])
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
        assert export_votes(empty_store, tmp_path / name) == 0
    assert pq.read_schema(tmp_path / "v.parquet").names == list(VOTE_COLUMNS)
    assert (tmp_path / "v.csv").read_text().strip() == ",".join(VOTE_COLUMNS)


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
