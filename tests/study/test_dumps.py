"""Dumps and rating tables held against the study they came from: whatever was changed in one is named."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

import elo
from elo.formats import write_table
from study.ballot import Answer, Answers, answer, current
from study.cli import cli
from study.config import Checks, Protocol
from study.dumps import EVIDENCE, verify_dump, verify_table
from study.exclusions import exclude
from study.export import export_votes
from study.ingest import ingest
from study.layouts import OURS
from study.participants import add_voter
from study.protocols import open_protocol
from study.schema import votes_v1
from study.store import Store, migrate, open_store
from study.verify import VerifyError

PROTOCOL = Protocol(
    name="t", title="t", trials_per_voter=18, checks=Checks(golds=2, repeats=2, repeat_gap=3, practice=1)
)


def vote_all(store: Store, voters: int, seed: int = 0) -> str:
    """Whole sessions; returns the last judge."""
    rng = random.Random(seed)
    for _ in range(voters):
        voter = add_voter(store, "key")
        assert voter is not None
        ballot = current(store, voter.id)
        while not ballot.finished:
            trial = ballot.trials[0].trial_id
            given = (Answer("preference", rng.choice(("left", "right", "tie")), rng.randint(500, 5000)),)
            shown = {"dpr": 1.25, "viewport": [1440, 900], "hidden_ms": 0}
            ballot = answer(store, voter.id, trial, Answers(f"1-{trial}", given, shown))
    return voter.judge


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Path:
    """The folder of a study with votes, which nobody changes."""
    folder = tmp_path_factory.mktemp("kept")
    store = open_store(folder)
    migrate(store)
    ingest(gallery, store)
    open_protocol(store, PROTOCOL)
    exclude(store, "judge", [vote_all(store, 6)], "a friend")
    store.close()
    return folder


@pytest.fixture
def store(kept: Path) -> Any:
    store = open_store(kept)
    yield store
    store.close()


def test_all_that_was_voted_is_compared() -> None:
    """But not what a later decision may change, and what says nothing."""
    assert set(OURS.columns) - set(EVIDENCE) == {"condition", "excluded", "exclude_reason", "flags"}


@pytest.mark.parametrize("name", ["v.csv", "v.jsonl", "v.json", "v.parquet", "v.csv.gz"])
def test_a_dump_of_any_format_fits(store: Store, tmp_path: Path, name: str) -> None:
    export_votes(store, tmp_path / name)
    said = verify_dump(store, tmp_path / name)
    assert said == f"114 rows of {tmp_path / name} are as they were voted; 0 votes came later"


@pytest.mark.parametrize("column", EVIDENCE)
def test_any_changed_value_is_named(store: Store, tmp_path: Path, column: str) -> None:
    path = tmp_path / "v.csv"
    export_votes(store, path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    gold = next(row for row in rows if row["kind"] == "gold")
    other = {"tstamp": "1.5", "rt_ms": "77", "late": "true", "display": '{"dpr": 3}'}
    gold[column] = other.get(column, "another")
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(VerifyError) as error:
        verify_dump(store, path)
    words = "is missing" if column == "vote_id" else f": {column} is "
    assert words in str(error.value)


def test_a_row_that_is_there_twice_is_named(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    export_votes(store, path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[5]]) + "\n")
    with pytest.raises(VerifyError, match="is in it twice"):
        verify_dump(store, path)


def test_what_was_decided_since_is_said(empty_store: Store, gallery: Path, tmp_path: Path) -> None:
    ingest(gallery, empty_store)
    open_protocol(empty_store, PROTOCOL)
    judge = vote_all(empty_store, 2)
    export_votes(empty_store, tmp_path / "v.parquet")
    exclude(empty_store, "judge", [judge], "too late")
    vote_all(empty_store, 1, seed=1)
    said = verify_dump(empty_store, tmp_path / "v.parquet")
    assert "38 rows" in said
    assert said.endswith("19 votes came later; of 19 it was decided since whether they count")


# ---------------------------------------------------------------- rating tables


@pytest.fixture
def table(store: Store, tmp_path: Path, gallery: Path) -> Callable[..., Path]:
    """Make a table of the study's dump, as `elo compute --out` does."""

    def make(**settings: Any) -> Path:
        export_votes(store, tmp_path / "v.parquet")
        settings = {"bootstrap": 20, "sizes": elo.read_sizes(gallery / "gallery.json")} | settings
        write_table(elo.compute(elo.read_tally(tmp_path / "v.parquet"), **settings), tmp_path / "r.json")
        return tmp_path / "r.json"

    return make


def fits(store: Store, path: Path) -> str:
    """What is said of a table that fits. A repeat that cannot be had is a main trial: votes are counted."""
    with store.read() as session:
        rated = session.execute(select(votes_v1.c.kind, votes_v1.c.excluded)).all()
    number = sum(kind == "main" and not excluded for kind, excluded in rated)
    assert number >= 70
    return f"{path} is what its settings make of {number} votes"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "davidson", "side": True, "cluster": "both"},
        {"method": "elo", "k": 16},
        {"anchor": {"fp16": 1000}, "scale": 100, "prior": 0.5, "sizes": None, "cluster": "vote"},
        {"method": "rao-kupper", "cluster": "judge", "base": 0, "bootstrap": 0},
    ],
)
def test_a_table_is_made_again_with_its_own_settings(
    store: Store, table: Callable[..., Path], tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = table(**settings)
    for dump in (None, tmp_path / "v.parquet"):
        assert verify_table(store, path, dump) == fits(store, path)


SPOILT: dict[str, tuple[Callable[[Any], None], str]] = {
    "a rating": (lambda t: t["ratings"][1].update(rating=t["ratings"][1]["rating"] + 0.01), "rating is"),
    "an interval": (lambda t: t["ratings"][0].update(ci_low=0), "ci_low is 0"),
    "a count": (lambda t: t["ratings"][2].update(wins=99), "wins is 99"),
    "a rank": (lambda t: t["ratings"][0].update(rank=2), "rank is 2"),
    "a size": (lambda t: t["ratings"][0].update(size_gb=5), "size_gb is 5"),
    "K": (lambda t: t["settings"].update(k=20), "elo is"),
    "the model": (lambda t: t["settings"].update(method="davidson"), "tie_parameter is None"),
    "the cluster": (lambda t: t["settings"].update(cluster="judge"), "clusters is"),
    "a method gone": (lambda t: t["ratings"].pop(), "is missing"),
    "a method too many": (lambda t: t["ratings"].append({"method": "x"}), "x: nobody voted on it"),
    "a method twice": (lambda t: t["ratings"].append(t["ratings"][0]), "twice"),
    "the votes": (lambda t: t["settings"].update(n=999), "made of 999 votes, the study has "),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_was_changed_in_a_table_is_named(store: Store, table: Callable[..., Path], what: str) -> None:
    path = table(cluster="vote")
    spoil, words = SPOILT[what]
    told = json.loads(path.read_text())
    spoil(told)
    path.write_text(json.dumps(told))
    with pytest.raises(VerifyError) as error:
        verify_table(store, path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "expected one rating table"),
        ("[]", "expected one rating table"),
        ('{"by": "category", "tables": {}}', "expected one rating table"),
        ('{"settings": {}, "ratings": [{"method": "a"}]}', "its settings lack anchor"),
    ],
)
def test_what_is_no_table_is_said(store: Store, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(elo.InputError, match=words):
        verify_table(store, tmp_path / "r.json")
    with pytest.raises(elo.InputError, match="No such file"):
        verify_table(store, tmp_path / "none.json")


def test_the_command_exits_with_1_for_what_differs_and_2_for_what_is_no_table(
    kept: Path, store: Store, table: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (kept / "study.toml").write_text('name = "t"\ntitle = "t"\n')
    path = table()
    line = ["verify", "--study", str(kept), "--dump", str(tmp_path / "v.parquet"), "--table", str(path)]
    good = CliRunner().invoke(cli, line)
    assert good.exit_code == 0, good.output
    assert good.output.splitlines()[-1] == fits(store, path)
    path.write_text(path.read_text().replace('"wins": ', '"wins": 1'))
    differs = CliRunner().invoke(cli, line)
    assert (differs.exit_code, "wins is" in differs.output) == (1, True)
    path.write_text("{}")
    assert CliRunner().invoke(cli, line).exit_code == 2
