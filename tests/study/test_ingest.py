import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import func, select

from study import ingest as ingest_module
from study.gallery import GalleryError
from study.ingest import ingest
from study.schema import Base, ImageRow
from study.served import DATE
from study.store import Store


def contents(store: Store) -> tuple[int, int]:
    """Rows in all tables, files in served/."""
    with store.read() as session:
        rows = [
            session.scalar(select(func.count()).select_from(table)) for table in Base.metadata.sorted_tables
        ]
    return sum(n or 0 for n in rows), len(list(store.served.glob("*"))) if store.served.exists() else 0


def test_a_gallery_goes_in_whole(empty_store: Store, gallery: Path) -> None:
    done = ingest(gallery, empty_store)
    assert (done.methods, done.prompts, done.images, done.new) == (3, 6, 18, True)
    with empty_store.read() as session:
        images = session.scalars(select(ImageRow)).all()
    assert len({image.served_key for image in images}) == 18
    for image in images:
        served = empty_store.served / f"{image.served_key}.png"
        assert hashlib.sha256(served.read_bytes()).hexdigest() == image.served_sha256
        original = Image.open(gallery / "images" / image.method_id / f"{image.prompt_id}.png")
        with original, Image.open(served) as shown:
            assert shown.tobytes() == original.tobytes()
        assert served.stat().st_mtime == DATE
    lengths = {(i.prompt_id, (empty_store.served / f"{i.served_key}.png").stat().st_size) for i in images}
    assert len(lengths) == 6  # one for each prompt
    assert (empty_store.served.parent / "gallery.json").read_text() == (gallery / "gallery.json").read_text()


def test_the_same_gallery_again_is_no_change(store: Store, gallery: Path) -> None:
    before = contents(store)
    assert not ingest(gallery, store).new
    assert contents(store) == before


def test_another_gallery_is_refused(store: Store, build_gallery: Callable[..., Path], tmp_path: Path) -> None:
    before = contents(store)
    with pytest.raises(GalleryError, match="another gallery"):
        ingest(build_gallery(tmp_path / "other", prompts=2), store)
    assert contents(store) == before


def test_a_fault_on_the_way_leaves_nothing(
    empty_store: Store, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(empty_store)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(ingest_module, "_add_rows", fail)  # after all files
    with pytest.raises(OSError, match="disk full"):
        ingest(gallery, empty_store)
    assert contents(empty_store) == before
    monkeypatch.undo()
    assert ingest(gallery, empty_store).new


def test_one_method_is_no_study(
    empty_store: Store, build_gallery: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(GalleryError, match="2 or more"):
        ingest(build_gallery(tmp_path / "g", methods=("fp16",)), empty_store)


def test_a_prompt_that_a_method_did_not_draw_is_named(
    empty_store: Store, build_gallery: Callable[..., Path], tmp_path: Path
) -> None:
    folder = build_gallery(tmp_path / "g")
    rows = (folder / "images.jsonl").read_text().splitlines(keepends=True)
    (folder / "images.jsonl").write_text("".join(rows[:-2]))
    with pytest.raises(GalleryError, match=r"'qsched-w4a8' for prompt_id '0004' \(2 missing in all\)"):
        ingest(folder, empty_store)
    assert contents(empty_store)[1] == 0


def test_sixteen_bit_pictures_are_refused_not_clipped(
    empty_store: Store, build_gallery: Callable[..., Path], tmp_path: Path
) -> None:
    folder = build_gallery(tmp_path / "g", prompts=1)
    file = folder / "images/fp16/0000.png"
    Image.new("I;16", (64, 64), 40_000).save(file)
    rows = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    rows[0]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(GalleryError, match="I;16"):
        ingest(folder, empty_store)
