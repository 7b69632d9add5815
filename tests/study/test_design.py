import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import select

from study.checks import POOL, change, degrade
from study.config import Checks, ConfigError, Pairs, Prompts, Protocol, Quota
from study.ingest import ingest
from study.protocols import count_cells, newest, open_protocol
from study.schema import Cell, Decision, ImageRow, ProtocolRow
from study.schema import Quota as QuotaRow
from study.store import Store, StoreError, migrate, open_store
from study.verify import verify


@pytest.fixture
def held(tmp_path: Path, gallery: Path) -> Store:
    """A store on SQLite that holds the gallery, with nothing open."""
    store = open_store(tmp_path)
    migrate(store)
    ingest(gallery, store)
    return store


def opened(store: Store, **keys: object) -> list[Cell]:
    open_protocol(store, Protocol(name="t", title="t", **keys))
    with store.read() as session:
        version = newest(session)
        assert version
        return list(session.scalars(select(Cell).where(Cell.protocol == version.hash)))


def met(cells: list[Cell]) -> set[tuple[str, str]]:
    return {(cell.method_1, cell.method_2) for cell in cells}


def test_which_methods_meet(held: Store) -> None:
    assert met(opened(held)) == {
        ("fp16", "naive-w4a4"),
        ("fp16", "qsched-w4a8"),
        ("naive-w4a4", "qsched-w4a8"),
    }
    assert met(opened(held, pairs=Pairs(methods=("fp16", "naive-w4a4")))) == {("fp16", "naive-w4a4")}
    assert met(opened(held, pairs=Pairs(against="qsched-w4a8"))) == {
        ("qsched-w4a8", "fp16"),
        ("qsched-w4a8", "naive-w4a4"),
    }
    listed = (("naive-w4a4", "fp16"),)
    assert met(opened(held, pairs=Pairs(listed=listed))) == set(listed)
    held.close()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"pairs": Pairs(methods=("fp61", "fp16"))}, "pairs: method 'fp61' is not in the gallery, which has"),
        ({"pairs": Pairs(against="x")}, "pairs: method 'x'"),
        ({"pairs": Pairs(listed=(("fp16", "x"),))}, "pairs: method 'x'"),
        ({"pairs": Pairs(methods=("fp16",))}, "no two methods meet"),
        ({"prompts": Prompts(categories=("people",))}, "prompts.categories: 'people' is not in the gallery"),
        ({"prompts": Prompts(per_category=7)}, "prompts.per_category: 7 wanted, category 'shapes' has 6"),
        ({"checks": Checks(noise_floor=1)}, "1 noise_floor wanted, the gallery has a second replicate for 0"),
        ({"trials_per_voter": 100, "checks": Checks(golds=20)}, "20 gold wanted"),
    ],
)
def test_what_the_gallery_cannot_do_is_named_and_leaves_nothing(
    held: Store, keys: dict[str, object], words: str
) -> None:
    files = sorted(held.served.iterdir())
    with pytest.raises(ConfigError) as error:
        open_protocol(held, Protocol(name="t", title="t", **keys))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(held.served.iterdir()) == files
    with held.read() as session:
        assert newest(session) is None
        assert session.scalars(select(Cell)).all() == []
    held.close()


def test_base_models_meet_only_if_the_study_says_so(
    build_gallery: Callable[..., Path], tmp_path: Path
) -> None:
    folder = build_gallery(tmp_path / "g", prompts=1)
    header = json.loads((folder / "gallery.json").read_text())
    header["methods"][0]["base_model"] = "other"
    (folder / "gallery.json").write_text(json.dumps(header))
    store = open_store(tmp_path)
    migrate(store)
    ingest(folder, store)
    assert met(opened(store)) == {("naive-w4a4", "qsched-w4a8")}
    assert len(opened(store, pairs=Pairs(across_base_models=True))) == 3
    with pytest.raises(ConfigError, match="no two methods share a base model"):
        opened(store, pairs=Pairs(against="fp16"))
    with pytest.raises(ConfigError, match="'fp16' and 'naive-w4a4' have different base models"):
        opened(store, pairs=Pairs(listed=(("fp16", "naive-w4a4"),)))
    store.close()


def test_prompts_a_category_nest(held: Store) -> None:
    few = {cell.prompt_id for cell in opened(held, prompts=Prompts(per_category=2))}
    more = {cell.prompt_id for cell in opened(held, prompts=Prompts(per_category=4))}
    assert len(few) == 2
    assert len(more) == 4
    assert few < more
    held.close()


def test_flagged_prompts_are_left_out_for_all_methods_if_the_protocol_says_so(
    tmp_path: Path, gallery: Path
) -> None:
    rows = [json.loads(line) for line in (gallery / "images.jsonl").read_text().splitlines()]
    black, broken = rows[0]["prompt_id"], rows[-1]["prompt_id"]
    assert (black, rows[0]["method"]) != (broken, rows[-1]["method"])
    rows[0]["flags"], rows[-1]["flags"] = ["black"], ["nan"]
    (gallery / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = open_store(tmp_path)
    migrate(store)
    ingest(gallery, store)
    everything = {cell.prompt_id for cell in opened(store)}
    assert {black, broken} <= everything

    def shown(*flags: str, pairs: Pairs | None = None) -> set[str]:
        wanted = Prompts(leave_out_flagged=flags)
        return {cell.prompt_id for cell in opened(store, prompts=wanted, pairs=pairs or Pairs())}

    assert shown("black") == everything - {black}
    assert shown("black", "nan") == everything - {black, broken}
    others = [m for m in dict.fromkeys(row["method"] for row in rows) if m != rows[0]["method"]]
    assert shown("black", pairs=Pairs(methods=tuple(others))) == everything
    store.close()


def test_a_quota_per_category_holds_all_its_prompts(held: Store) -> None:
    cells = opened(held, quota=Quota(per="category", votes=10))
    assert Counter(cell.quota_id for cell in cells) == dict.fromkeys({c.quota_id for c in cells}, 6)
    with held.read() as session:
        strata = session.scalars(select(QuotaRow.stratum)).all()
    assert strata == ["shapes"] * 3
    held.close()


def test_checks_are_made_from_the_gallery(held: Store) -> None:
    cells = opened(held, checks=Checks(golds=1, practice=2, nulls=1, repeat_gap=3))
    kinds = Counter(cell.kind for cell in cells)
    assert kinds == {"main": 18, "gold": POOL, "practice": 2 * POOL, "null": POOL}
    with held.read() as session:
        images = {image.id: image for image in session.scalars(select(ImageRow))}
    assert len({(cell.image_1, cell.image_2) for cell in cells}) == len(cells)
    for cell in cells:
        clean, other = images[cell.image_1], images[cell.image_2]
        assert clean.variant == ""
        assert (clean.prompt_id, clean.method_id) == (cell.prompt_id, cell.method_1)
        if cell.kind == "null":
            assert clean is other
        elif cell.kind != "main":
            assert other.variant in ("jpeg", "blur")
            assert (other.method_id, other.prompt_id) == (clean.method_id, clean.prompt_id)
            shown = [held.served / f"{i.served_key}.png" for i in (clean, other)]
            assert len({file.stat().st_size for file in shown}) == 1
            with Image.open(shown[0]) as one, Image.open(shown[1]) as two:
                assert one.size == two.size
                assert change(one, two) > 2
    golds = [cell for cell in cells if cell.kind == "gold"]
    assert len({cell.prompt_id for cell in golds}) == POOL  # as far apart as they can be
    assert {images[cell.image_2].variant for cell in golds} == {"jpeg", "blur"}
    verify(held)
    held.close()


def test_degraded_is_degraded() -> None:
    image = Image.effect_mandelbrot((128, 96), (-2, -1.5, 1, 1.5), 20).convert("RGB")
    for variant in ("jpeg", "blur"):
        worse = degrade(image, variant)
        assert (worse.size, worse.mode) == (image.size, "RGB")
        assert change(image, worse) > 2
    flat = Image.new("RGB", (64, 64), "grey")
    assert change(flat, degrade(flat, "blur")) == 0  # which is why such an image makes no gold


def test_versions_are_numbered_frozen_and_counted_apart(held: Store) -> None:
    first = Protocol(name="t", title="t", checks=Checks(golds=1))
    second = first.model_copy(update={"title": "u"})
    assert open_protocol(held, first).new
    assert not open_protocol(held, first).new
    files = sorted(held.served.iterdir())
    version = open_protocol(held, second)
    assert (version.number, version.new) == (2, True)
    assert sorted(held.served.iterdir()) == files  # degraded images are made once
    with pytest.raises(ConfigError, match="were version 1"):
        open_protocol(held, first)
    with held.read() as session:
        rows = session.scalars(select(ProtocolRow).order_by(ProtocolRow.version)).all()
        assert [(row.version, row.hash) for row in rows] == [(1, first.hash), (2, second.hash)]
        assert [count_cells(session, row.hash) for row in rows] == [18, 18]
        decisions = session.scalars(select(Decision).order_by(Decision.seq)).all()
        assert [(d.decision, d.body["version"]) for d in decisions] == [("opened", 1), ("opened", 2)]
    held.close()


def test_nothing_to_open(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    migrate(store)
    with pytest.raises(StoreError, match="study ingest"):
        open_protocol(store, Protocol(name="t", title="t"))
    store.close()
