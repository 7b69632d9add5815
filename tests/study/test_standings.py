from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elo
from study.config import Pairs, Protocol, Question
from study.exclusions import exclude
from study.export import export_votes
from study.gallery import Method, write_gallery_json
from study.ingest import ingest
from study.protocols import open_protocol
from study.standings import questions, standings
from study.store import Store
from study.voters import Voters

SIDES = ["left", "right", "right", "tie", "left"]


def cells(panel: Any, head: str) -> tuple[str, ...]:
    (found,) = (column.cells for column in panel.columns if column.head == head)
    return found


def test_they_are_what_elo_makes_of_the_dump(
    store: Store, robot: Callable[[], Any], tmp_path: Path, gallery: Path
) -> None:
    for start in range(4):
        voter = robot()
        for number in range(12):
            voter.answer(SIDES[(start + number * number) % 5])
    with store.read() as session:
        outsider = Voters().lines(session)[0].judge
    exclude(store, "judge", [outsider], "a friend")
    export_votes(store, tmp_path / "v.csv")
    votes = elo.read_votes(tmp_path / "v.csv")
    assert len(votes) == 36
    expected = elo.compute(votes, bootstrap=200, seed=0, sizes=elo.read_sizes(gallery / "gallery.json"))
    (standing,) = standings(store)
    (panel,) = standing.panels
    assert cells(panel, "method") == tuple(expected.ratings["method"])
    assert cells(panel, "rating") == tuple(f"{rating:.0f}" for rating in expected.ratings["rating"])
    assert cells(panel, "votes") == tuple(map(str, expected.ratings["votes"]))
    assert standing.plot is not None
    assert b"<svg" in standing.plot
    assert any("from this study" in note for note in panel.notes)
    assert not any("sqlite" in note or "postgres" in note for note in panel.notes)
    ends = expected.ratings[["ci_low", "ci_high"]]
    span = ends["ci_high"].max() - ends["ci_low"].min()
    for place, (low, high) in zip(panel.places, ends.to_numpy(), strict=True):
        assert place is not None
        assert 96 * (high - low) / span == pytest.approx(place[2] - place[0], abs=0.02)
    assert min(place[0] for place in panel.places if place) == 2
    assert max(place[2] for place in panel.places if place) == 98


def test_a_table_for_each_question_of_any_version(
    empty_store: Store, gallery: Path, make_app: Any, robot_on: Any
) -> None:
    ingest(gallery, empty_store)
    first = Protocol(name="t", title="t", trials_per_voter=12)
    both = first.model_copy(
        update={"questions": (Question(id="preference", text="Better?"), Question(id="text", text="Closer?"))}
    )
    open_protocol(empty_store, first)
    open_protocol(empty_store, both)
    assert questions(empty_store) == {"preference": "Better?", "text": "Closer?"}
    voter = robot_on(make_app())
    for number in range(12):
        voter.answer(SIDES[number % 5], questions=("preference", "text"))
    found = standings(empty_store)
    assert [standing.text for standing in found] == ["Better?", "Closer?"]
    assert all(sum(map(int, cells(s.panels[0], "votes"))) == 24 for s in found)


def test_base_models_that_never_met_have_panels_and_sizes_are_optional(
    empty_store: Store, build_gallery: Any, make_app: Any, robot_on: Any, tmp_path: Path
) -> None:
    names = ["one/fp16", "one/w4a8", "two/fp16", "two/w4a8"]
    folder = build_gallery(tmp_path / "g", methods=names, prompts=4)
    methods = [Method(id=name, base_model=name[:3]) for name in names]
    write_gallery_json(folder, name="g", created="", prompt_set="", software={}, methods=methods)
    ingest(folder, empty_store)
    open_protocol(empty_store, Protocol(name="t", title="t", trials_per_voter=8, pairs=Pairs()))
    app = make_app()
    for start in range(3):
        voter = robot_on(app)
        for number in range(8):
            voter.answer(SIDES[(start + number) % 5])
    (standing,) = standings(empty_store)
    assert [set(cells(panel, "method")) for panel in standing.panels] == [set(names[:2]), set(names[2:])]
    assert all(place is not None for panel in standing.panels for place in panel.places)
    assert standing.plot is None
    assert "No method of the gallery has a size" in standing.notes[0]
