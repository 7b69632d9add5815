import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import insert, text

from study.card import MARK
from study.config import Protocol
from study.export import export_votes
from study.layouts import OTHERS, OURS
from study.schema import ProtocolRow
from study.store import Store


@pytest.fixture
def voted(store: Store, robot: Callable[[], Any]) -> Store:
    """Three voters have answered all."""
    for _ in range(3):
        voter = robot()
        for number in range(12):
            voter.answer(["left", "right", "tie"][number % 3])
    return store


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


def test_a_card_counts_what_is_in_the_dump(voted: Store, tmp_path: Path, protocol: Protocol) -> None:
    done = export_votes(voted, tmp_path / "votes.jsonl", license="cc-by-4.0")
    assert done.card == tmp_path / "README.md"
    card = done.card.read_text()
    rows = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]

    for first, other in (("fp16", "naive-w4a4"), ("fp16", "qsched-w4a8"), ("naive-w4a4", "qsched-w4a8")):
        pair = [row for row in rows if {row["model_a"], row["model_b"]} == {first, other}]
        for_first = sum(row.get(row["winner"]) == first for row in pair)
        for_other = sum(row.get(row["winner"]) == other for row in pair)
        ties = sum(row["winner"] == "tie" for row in pair)
        left = sum(row["model_a"] == first for row in pair)
        assert for_first + for_other + ties == len(pair)
        counts = f"{len(pair)} | {for_first} | {for_other} | {ties} | 0 | {left}"
        assert f"| {first} | {other} | preference | {counts} |" in card
    assert "| judges | 3, 12 to 12 votes each, median 12 |" in card
    assert "| main | preference | 36 |" in card
    assert "| shapes | 36 |" in card
    assert "| prompts | 6 |" in card
    assert f"`{protocol.hash}`, 36 votes:" in card
    printed = json.loads(card.split("```json\n")[1].split("```")[0])
    assert printed == protocol.model_dump(mode="json")
    assert "Not rated" not in card
    for name in OURS.columns:
        assert f"| `{name}` |" in card


def test_the_front_matter_is_what_hugging_face_reads(voted: Store, tmp_path: Path) -> None:
    export_votes(voted, tmp_path / "votes.parquet", license="cc-by-4.0")
    front = front_matter((tmp_path / "README.md").read_text())
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"] == [{"config_name": "default", "data_files": "votes.parquet"}]
    assert front["pretty_name"] == "Which picture is better?"
    export_votes(voted, tmp_path / "votes.parquet")
    card = (tmp_path / "README.md").read_text()
    assert front_matter(card)["license"] == "unknown"
    assert "| licence | not stated" in card


def test_a_card_names_no_voter(voted: Store, tmp_path: Path) -> None:
    with voted.engine.connect() as connection:
        people = connection.execute(text("SELECT id, judge FROM voters")).all()
    export_votes(voted, tmp_path / "votes.csv")
    card = (tmp_path / "README.md").read_text()
    assert len(people) == 3
    assert [name for person in people for name in person if name in card] == []


def test_exclusions_are_told_with_their_reasons(voted: Store, tmp_path: Path) -> None:
    with voted.engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT * FROM votes_v1"))
        connection.execute(text("DROP VIEW votes_v1"))
        connection.execute(text("ALTER TABLE kept RENAME TO votes_v1"))
        ids = connection.scalars(text("SELECT vote_id FROM votes_v1 ORDER BY tstamp LIMIT 5")).all()
        out = text("UPDATE votes_v1 SET excluded = :yes, exclude_reason = 'too|fast' WHERE vote_id = :id")
        connection.execute(out, [{"yes": True, "id": vote_id} for vote_id in ids[:3]])
        gold = text("UPDATE votes_v1 SET kind = 'gold' WHERE vote_id = :id")
        connection.execute(gold, [{"id": vote_id} for vote_id in ids[3:]])
    done = export_votes(voted, tmp_path / "votes.csv")
    card = done.card.read_text()
    assert done.rows == 36  # our own dump holds them all
    assert "| rated votes of the study | 31 |" in card
    assert "| 3 | excluded: too\\|fast |" in card
    assert "| 2 | kind=gold |" in card
    assert "| gold | preference | 2 |" in card


def test_a_card_of_other_columns_says_what_they_cannot_hold(voted: Store, tmp_path: Path) -> None:
    for schema, layout in OTHERS.items():
        done = export_votes(voted, tmp_path / "v.json", schema=schema)
        card = done.card.read_text()
        for name in OURS.columns:
            lost = card.split("have no place for what our own dump calls")[1].split("##")[0]
            assert (f"`{name}`" in lost) == (name not in layout.holds)
        for name in layout.columns:
            assert f"| `{name}` |" in card
        assert ("| 12 | tie: the columns of" in card) == ("tie" not in layout.winners)


def test_codes_that_pay_are_withheld(empty_store: Store, tmp_path: Path) -> None:
    body = {"title": "A <b>title</b> | with signs", "completion": {"finished": "C0DE", "no_consent": ""}}
    with empty_store.write() as session:
        values = {"hash": "h" * 64, "version": 1, "study": "s", "body": json.dumps(body), "created": 1.0}
        session.execute(insert(ProtocolRow).values(values))
    card = export_votes(empty_store, tmp_path / "v.csv").card.read_text()
    assert "C0DE" not in card
    printed = json.loads(card.split("```json\n")[1].split("```")[0])
    assert printed["completion"] == {"finished": "withheld", "no_consent": ""}
    assert front_matter(card)["pretty_name"] == body["title"]


def test_somebody_elses_readme_is_left_alone(voted: Store, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My project")
    done = export_votes(voted, tmp_path / "votes.csv")
    assert (tmp_path / "README.md").read_text() == "# My project"
    assert done.card == tmp_path / "votes.csv.README.md"
    assert MARK in done.card.read_text()
    (tmp_path / "README.md").unlink()
    first = export_votes(voted, tmp_path / "votes.csv").card
    assert export_votes(voted, tmp_path / "votes.csv").card == first == tmp_path / "README.md"
