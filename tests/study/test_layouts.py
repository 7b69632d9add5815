"""What goes out in another system's columns and is read back counts the same votes as our own dump."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Boolean, Column, Float, Integer, MetaData, Table, Text, insert, text

import elo
from study import layouts
from study.export import ExportError, export_votes
from study.layouts import OTHERS, OURS
from study.schema import VOTE_COLUMNS
from study.store import Store

# Names that databases and Python sort differently.
METHODS = ("fp16", "Naive-W4A4", "qsched_w4a8", "q-sched/w4a8", "sdxl/w4a8")
TYPES = {"tstamp": Float, "rt_ms": Integer, "late": Boolean, "excluded": Boolean}


def a_vote(number: int, rng: random.Random, **columns: Any) -> dict[str, Any]:
    left, right = rng.sample(METHODS, 2)
    prompt = f"{rng.randrange(4):04d}"
    image = {method: f"{method}/{prompt}".encode().hex().ljust(64, "0")[:64] for method in METHODS}
    return {
        **dict.fromkeys(VOTE_COLUMNS),
        "vote_id": f"vote-{number:04d}",
        "study": "s",
        "trial_id": f"trial-{number:04d}",
        "judge": f"judge-{rng.randrange(7)}",
        "model_a": left,
        "model_b": right,
        "winner": rng.choice(["model_a", "model_a", "model_b", "tie", "tie (bothbad)"]),
        "question": "preference",
        "prompt_id": prompt,
        "category": "shapes",
        "prompt": f'a red circle, "{prompt}",\nand a blue one',
        "image_a": image[left],
        "image_b": image[right],
        "tstamp": 1_790_000_000 + number / 8,
        "rt_ms": rng.randrange(300, 4000),
        "kind": "main",
        "late": False,
        "source": "link",
        "excluded": False,
        "display": json.dumps({"dpr": 2.0}),
        "protocol": "p" * 64,
        **columns,
    }


def votes(number: int = 400) -> list[dict[str, Any]]:
    """Votes of all kinds; a tenth each is gold, excluded, or taken back by the vote after it."""
    rng = random.Random(3)
    rows = []
    for i in range(number):
        fate = i % 10
        columns: dict[str, Any] = {}
        if fate == 1:
            columns = {"kind": "gold"}
        if fate == 2:
            columns = {"excluded": True, "exclude_reason": "too fast"}
        if fate == 4:
            columns = {"supersedes": f"vote-{i - 1:04d}"}
        rows.append(a_vote(i, rng, **columns))
    return rows


@pytest.fixture
def hold(empty_store: Store) -> Callable[[list[dict[str, Any]]], Store]:
    """Make the view hold given rows: a table takes its place."""

    def fill(rows: list[dict[str, Any]]) -> Store:
        table = Table("votes_v1", MetaData(), *(Column(name, TYPES.get(name, Text)) for name in VOTE_COLUMNS))
        with empty_store.engine.begin() as connection:
            connection.execute(text("DROP VIEW votes_v1"))
            table.create(connection)
            connection.execute(insert(table), rows)
        return empty_store

    return fill


def tallied(path: Path) -> Counter[tuple[str, str, int]]:
    """(left, right, outcome) → votes, as elo reads them."""
    read = elo.read_votes(path)
    return Counter(
        (read.names[a], read.names[b], int(winner))
        for a, b, winner in zip(read.a, read.b, read.winner, strict=True)
    )


def won(counts: Counter[tuple[str, str, int]]) -> Counter[tuple[str, str]]:
    """(preferred, other) → votes: what is left of a vote when sides and ties are not told."""
    pairs: Counter[tuple[str, str]] = Counter()
    for (left, right, outcome), number in counts.items():
        if outcome < 2:
            pairs[(left, right) if outcome == 0 else (right, left)] += number
    return pairs


@pytest.mark.parametrize("schema", OTHERS)
def test_what_is_read_back_is_what_our_own_dump_says(
    hold: Callable[..., Store], tmp_path: Path, schema: str
) -> None:
    store = hold(votes())
    export_votes(store, tmp_path / "ours.parquet")
    ours = tallied(tmp_path / "ours.parquet")
    ties = sum(number for (_, _, outcome), number in ours.items() if outcome == 2)
    assert ties > 20
    for kind in OTHERS[schema].formats:
        path = tmp_path / f"theirs.{kind}"
        done = export_votes(store, path, schema=schema)
        assert columns_of(path, kind) == list(OTHERS[schema].columns)
        theirs = tallied(path)
        unplaced = sum(number for reason, number in done.left_out.items() if "no place" in reason)
        if schema in ("lmarena", "pickapic"):
            assert theirs == ours
            assert unplaced == 0
        elif schema == "label-studio":
            assert theirs == Counter({key: number for key, number in ours.items() if key[2] < 2})
            assert unplaced == ties
        else:
            assert won(theirs) == won(ours)
            assert sum(theirs.values()) == sum(ours.values()) - ties
            assert unplaced == ties
        assert done.votes == sum(theirs.values())
        assert {reason: n for reason, n in done.left_out.items() if "no place" not in reason} == {
            "kind=gold": 40,
            "excluded: too fast": 40,
            "superseded by a later vote": 40,
        }
        assert sum(done.left_out.values()) + done.votes == 400


def columns_of(path: Path, kind: str) -> list[str]:
    if kind == "parquet":
        return pq.read_schema(path).names
    if kind == "csv":
        return path.read_text().splitlines()[0].split(",")
    if kind == "json":
        return list(json.loads(path.read_text())[0])
    return list(json.loads(path.read_text().splitlines()[0]))


# As the dataset cards print them; the layouts must not drift from these.
PUBLISHED = {
    "lmarena": """question_id model_a model_b winner judge conversation_a conversation_b turn anony language
        tstamp""",
    "pickapic": """are_different best_image_uid caption created_at has_label image_0_uid image_0_url
        image_1_uid image_1_url jpg_0 jpg_1 label_0 label_1 model_0 model_1 ranking_id user_id
        num_example_per_prompt""",
    "hpd": "prompt choice_dist confidence path1 path2 model1 model2",
    "rapidata": """prompt image1 image2 votes_image1 votes_image2 model1 model2 detailed_results image1_path
        image2_path""",
    "label-studio": "id data annotations",
}


@pytest.mark.parametrize("schema", OTHERS)
def test_the_columns_are_the_published_ones(schema: str) -> None:
    assert list(OTHERS[schema].columns) == PUBLISHED[schema].split()


def test_our_own_columns_are_those_of_the_view() -> None:
    assert tuple(OURS.columns) == (*VOTE_COLUMNS, "flags")


def test_a_judge_stays_one_judge_where_the_columns_have_one(
    hold: Callable[..., Store], tmp_path: Path
) -> None:
    store = hold(votes())
    for schema in ("lmarena", "pickapic", "label-studio"):
        assert "judge" in OTHERS[schema].holds
        export_votes(store, tmp_path / f"{schema}.json", schema=schema)
        read = elo.read_votes(tmp_path / f"{schema}.json")
        assert sorted(read.labels["judge"]) == [f"judge-{i}" for i in range(7)]


def test_a_pair_of_images_is_one_row_whichever_was_left(hold: Callable[..., Store], tmp_path: Path) -> None:
    rows = votes()
    store = hold(rows)
    rated = [r for i, r in enumerate(rows) if i % 10 not in (1, 2, 3) and r["winner"].startswith("model")]
    pairs = {(r["prompt_id"], frozenset((r["model_a"], r["model_b"]))) for r in rated}
    for schema in ("hpd", "rapidata"):
        assert export_votes(store, tmp_path / "v.jsonl", schema=schema).rows == len(pairs)
    sided = {(r["prompt_id"], r["model_a"], r["model_b"]) for r in rated}
    assert export_votes(store, tmp_path / "v.jsonl", schema="label-studio").rows == len(sided)


def test_the_first_image_of_hpd_is_the_preferred_one(hold: Callable[..., Store], tmp_path: Path) -> None:
    export_votes(hold(votes()), tmp_path / "v.json", schema="hpd")
    entries = json.loads((tmp_path / "v.json").read_text())
    assert any(entry["choice_dist"][1] for entry in entries)
    for entry in entries:
        first, other = entry["choice_dist"]
        assert first >= other
        assert entry["confidence"] == first / (first + other)
        assert entry["path1"].rpartition("/")[0] == entry["model1"]


def test_a_pair_with_very_many_votes_takes_several_rows(
    hold: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = hold(votes())
    whole = {}
    for schema in ("hpd", "rapidata", "label-studio"):
        whole[schema] = (
            export_votes(store, tmp_path / "v.json", schema=schema).rows,
            tallied(tmp_path / "v.json"),
        )
    monkeypatch.setattr(layouts, "MOST_IN_ONE", 2)
    for schema, (rows, counts) in whole.items():
        assert export_votes(store, tmp_path / "v.json", schema=schema).rows > rows
        assert won(tallied(tmp_path / "v.json")) == won(counts)


def test_of_several_questions_one_must_be_chosen(hold: Callable[..., Store], tmp_path: Path) -> None:
    rows = votes()
    for i, row in enumerate(rows):
        row["question"] = ("alignment", "preference")[i % 2]
    store = hold(rows)
    for schema in OTHERS:
        with pytest.raises(ExportError, match=r"several questions \(alignment, preference\); choose one"):
            export_votes(store, tmp_path / "v.json", schema=schema)
        with pytest.raises(ExportError, match="no votes on the question 'looks'; there are alignment"):
            export_votes(store, tmp_path / "v.json", schema=schema, question="looks")
    assert list(tmp_path.glob("*v*")) == []
    done = export_votes(store, tmp_path / "v.json", schema="lmarena", question="alignment")
    assert done.left_out["question=preference"] > 0
    expected = [r for i, r in enumerate(rows) if i % 2 == 0 and i % 10 not in (1, 2, 3)]
    assert done.votes == len(expected) == len(elo.read_votes(tmp_path / "v.json"))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("v.csv", {"schema": "hpd"}, "csv cannot hold the nested rows of hpd, expected json or jsonl"),
        ("v.parquet", {"schema": "label-studio"}, "parquet cannot hold the nested rows of label-studio"),
        ("v.json", {"schema": "arena"}, "schema 'arena' is unknown, expected lmarena, pickapic, hpd"),
        ("v.json", {"schema": "hpd", "superseded": True}, "--all does not go with --schema hpd"),
        ("v.json", {"question": "preference"}, "--question goes with --schema"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    hold: Callable[..., Store], tmp_path: Path, name: str, options: dict[str, Any], words: str
) -> None:
    store = hold(votes(20))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportError) as error:
        export_votes(store, tmp_path / name, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_study_without_votes_goes_out_empty(empty_store: Store, tmp_path: Path) -> None:
    for schema, layout in OTHERS.items():
        for kind in layout.formats:
            done = export_votes(empty_store, tmp_path / f"v.{kind}", schema=schema)
            assert (done.rows, done.votes, dict(done.left_out)) == (0, 0, {})
    assert json.loads((tmp_path / "v.json").read_text()) == []
