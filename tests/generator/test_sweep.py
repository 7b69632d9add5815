import dataclasses
import shutil

import numpy as np
import pytest
import small_run as small
import torch
from PIL import Image

from generator import sweep
from generator.methods import MethodError, all_methods
from generator.models import MODELS
from generator.prompts import noise_seed, shapes_prompts, subset
from study import gallery

BASE, METHODS = MODELS["shapes"], all_methods()
PROMPTS = subset(shapes_prompts(), 3)


def test_a_run_on_the_shapes_world_is_a_gallery_that_study_reads(tmp_path):
    methods = [METHODS[name] for name in ("fp16", "w4a8")]
    outcome = sweep.run(BASE, methods, PROMPTS, tmp_path / "g", prompt_set="shapes", batch_size=2)
    assert (outcome.new, outcome.total, outcome.flagged) == (6, 6, {})
    found = gallery.read_gallery(tmp_path / "g")
    assert [m.id for m in found.methods] == ["fp16", "w4a8"]
    assert {(i.width, i.height, i.steps, i.batch_size) for i in found.images} == {
        (64, 64, 4, 2),
        (64, 64, 4, 1),
    }
    assert found.methods[0].size_bytes > 2.5 * found.methods[1].size_bytes
    assert {m.nfe for m in found.methods} == {4}


def test_every_image_has_the_seed_and_noise_of_its_prompt(made):
    for row in gallery.read_images(made):
        assert row.seed == noise_seed(row.prompt_id)
        noise = torch.rand((3, 8, 8), generator=torch.Generator().manual_seed(row.seed))
        noise[0] = (noise[0] + {"plain": 0, "red": 0.5}[row.method]).clamp(0, 1)
        expected = (noise * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
        assert np.array_equal(np.asarray(Image.open(made / row.file)), expected)


def test_rows_come_in_the_order_of_drawing_and_say_how_many_were_drawn_at_once(made):
    rows = gallery.read_images(made)
    assert [(r.method, r.prompt_id) for r in rows] == [
        (method.id, prompt.prompt_id) for method in small.METHODS for prompt in small.PROMPTS
    ]
    assert [row.batch_size for row in rows[:7]] == [3, 3, 3, 3, 3, 3, 1]


def test_a_finished_run_does_nothing_more(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.*")}
    assert small.run(made, base=small.model(load=None)).new == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.*")} == before


def test_a_method_can_be_added_and_the_others_are_not_loaded_again(made, tmp_path):
    copy, loaded = shutil.copytree(made, tmp_path / "copy"), []
    blue = small.method("blue", 0.25)
    base = small.model(load=lambda: loaded.append(1) or small.Pipeline())
    assert small.run(copy, [*small.METHODS, blue], base=base).new == len(small.PROMPTS)
    assert len(loaded) == 1
    assert [m.id for m in gallery.read_gallery(copy).methods] == ["plain", "red", "blue"]


# ---------------------------------------------------------------- what a run refuses


def planned(folder, methods=small.METHODS, prompts=small.PROMPTS, base=None):
    return sweep.plan(base or small.model(), methods, prompts, folder, small.BATCH)


@pytest.mark.parametrize("run", [small.run, planned])
def test_other_prompts_methods_or_models_or_a_changed_image_stop_the_run_and_its_plan(made, tmp_path, run):
    with pytest.raises(sweep.SweepError, match="other prompts"):
        run(made, prompts=small.PROMPTS[:2])
    with pytest.raises(sweep.SweepError, match="images of 'red', which this run does not make"):
        run(made, methods=small.METHODS[:1])
    with pytest.raises(sweep.SweepError, match="begun with model 'noise', not 'other'"):
        run(made, base=small.model("other"))
    of_revision = {r: small.model(ready=lambda r=r: {"revision": r}) for r in "ab"}
    small.run(tmp_path / "two", base=of_revision["a"])
    with pytest.raises(sweep.SweepError, match="begun with revision 'a', not 'b'"):
        run(tmp_path / "two", base=of_revision["b"])
    copy = shutil.copytree(made, tmp_path / "copy")
    (copy / "images" / "plain" / "p0.png").write_bytes(b"")
    with pytest.raises(sweep.SweepError, match=r"p0\.png: missing or changed"):
        run(copy)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(sweep.SweepError, match="not empty, and not a gallery"):
        run(tmp_path / "full")


def test_a_gallery_that_does_not_tell_how_it_was_drawn_stops_the_run(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "copy")
    for text, message in {
        "{": r"run\.json: not what a run writes \(Expecting",
        "{}": r"run\.json: not what a run writes \('identity'\)",
        None: r"copy: holds images, but no \.run/run\.json on how they were drawn",
    }.items():
        (copy / ".run" / "run.json").unlink()
        if text:
            (copy / ".run" / "run.json").write_text(text)
        with pytest.raises(sweep.SweepError, match=message):
            small.run(copy)
    assert small.files(copy) == small.files(made)


def test_a_method_that_is_not_what_it_was_stops_the_run(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "copy")
    rows = (copy / "images.jsonl").read_text().splitlines(keepends=True)
    (copy / "images.jsonl").write_text("".join(rows[:-1]))
    with pytest.raises(sweep.SweepError, match=r"red is not what it was .* \(label, notes\)"):
        small.run(copy, [small.METHODS[0], dataclasses.replace(small.METHODS[1], label="pink", notes="!")])


def test_another_batch_size_is_told_as_pixels_may_differ(made, tmp_path, capsys):
    copy = shutil.copytree(made, tmp_path / "copy")
    (copy / "gallery.json").unlink()
    small.run(copy, batch_size=2)
    assert "may differ in pixels: batch_size was 3, is 2" in capsys.readouterr().err


def test_a_prompt_the_model_cannot_read_is_named_before_anything_is_drawn(tmp_path):
    dog = gallery.Prompt(prompt_id="x", text="a red dog")
    with pytest.raises(sweep.SweepError, match="unknown word 'dog'"):
        sweep.run(BASE, [METHODS["fp16"]], [dog], tmp_path / "g", prompt_set="dogs")
    assert not (tmp_path / "g").exists()


def test_a_file_that_a_method_lacks_is_told_before_anything_is_drawn(tmp_path):
    def lacks(base):
        raise MethodError("no coefficients")

    with pytest.raises(MethodError, match="no coefficients"):
        small.run(tmp_path / "g", [small.METHODS[0], small.method("late", check=lacks)])
    assert not (tmp_path / "g").exists()


# ---------------------------------------------------------------- memory, and pictures that failed


def of_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def of_the_machine():
    torch.empty(2**50)  # 4 PB


def out_of_memory_above(most, monkeypatch, fail=of_a_gpu):
    draw, sizes = sweep.artist.draw, []

    def limited(pipeline, base, prompts, conditions):
        if len(prompts) > most:
            fail()
        sizes.append(len(prompts))
        return draw(pipeline, base, prompts, conditions)

    monkeypatch.setattr(sweep.artist, "draw", limited)
    return sizes


@pytest.mark.parametrize("fail", [of_a_gpu, of_the_machine])
def test_out_of_memory_halves_the_batch_and_says_so(made, tmp_path, monkeypatch, capsys, fail):
    sizes = out_of_memory_above(2, monkeypatch, fail)
    assert small.run(tmp_path / "g", batch_size=7).new == small.TOTAL
    assert sizes == [2, 2, 2, 1] * 2
    assert capsys.readouterr().err.count("out of memory with 7 pictures at once, so 4 now") == 2
    assert [row.batch_size for row in gallery.read_images(tmp_path / "g")] == [2, 2, 2, 2, 2, 2, 1] * 2
    assert small.files(tmp_path / "g") == small.files(made)


def test_a_resumed_run_stays_with_the_batch_that_fitted(tmp_path, monkeypatch):
    out_of_memory_above(2, monkeypatch)
    small.run(tmp_path / "g", batch_size=7)
    (tmp_path / "g" / "gallery.json").unlink()
    rows = (tmp_path / "g" / "images.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "g" / "images.jsonl").write_text("".join(rows[:3] + rows[7:]))
    monkeypatch.undo()
    assert small.run(tmp_path / "g", batch_size=7).new == 4
    added = gallery.read_images(tmp_path / "g")[-4:]
    assert [(row.prompt_id, row.batch_size) for row in added] == [("p3", 2), ("p4", 2), ("p5", 2), ("p6", 1)]


def test_one_picture_that_does_not_fit_is_an_error(tmp_path, monkeypatch):
    out_of_memory_above(0, monkeypatch)
    with pytest.raises(sweep.SweepError, match="plain: out of memory with one picture at a time: CUDA out"):
        small.run(tmp_path / "g")


def test_too_little_memory_for_the_model_is_an_error(tmp_path):
    with pytest.raises(sweep.SweepError, match="plain: out of memory while it was made ready"):
        small.run(tmp_path / "g", base=small.model(load=of_the_machine))


def test_black_pictures_and_what_is_no_number_are_kept_flagged_and_counted(tmp_path):
    class Broken(small.Pipeline):
        def __call__(self, prompt, **named):
            images = super().__call__(prompt, **named).images
            images[[text == "picture 2" for text in prompt]] = 0
            images[[text == "picture 4" for text in prompt], 1, 3, 3] = float("nan")
            return small.SimpleNamespace(images=images)

    outcome = small.run(tmp_path / "g", small.METHODS[:1], base=small.model(load=Broken))
    assert outcome.flagged == {"plain": {"black": 1, "nan": 1}}
    found = gallery.read_gallery(tmp_path / "g")
    flags = {row.prompt_id: row.flags for row in found.images if row.flags}
    assert flags == {"p2": ["black"], "p4": ["nan"]}
    assert found.methods[0].model_extra == {"flagged": {"black": 1, "nan": 1}}
    assert not np.asarray(Image.open(tmp_path / "g" / "images/plain/p2.png")).any()
    assert "flags" not in (tmp_path / "g" / "images.jsonl").read_text().splitlines()[0]
    assert (
        small.run(tmp_path / "g", small.METHODS[:1], base=small.model(load=Broken)).flagged == outcome.flagged
    )
