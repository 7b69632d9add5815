"""`generator measure` over galleries: what is written, resumed, refused, summed up, and read by `elo`."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import stats

from elo.metrics import read_metrics
from generator.cli import cli
from generator.measure import measures, run
from generator.measure.measures import MEASURES, Loaded, Measure, load_measures, with_jaq
from generator.measure.run import MeasureError, Reference, measure, read
from generator.measure.table import interval, summary
from generator.measure.weights import WeightsError
from generator.models import MODELS
from qsched.jaq import jaq
from study.gallery import read_gallery

DEMO = Path(__file__).parents[3] / "demo" / "gallery"


@pytest.fixture
def small_demo(tmp_path):
    """Two methods and three prompts of the demo gallery."""
    folder = tmp_path / "gallery"
    folder.mkdir()
    header = json.loads((DEMO / "gallery.json").read_text())
    header["methods"] = [method for method in header["methods"] if method["id"] in ("fp16", "w4a4")]
    (folder / "gallery.json").write_text(json.dumps(header))
    prompts = (DEMO / "prompts.jsonl").read_text().splitlines()[:3]
    (folder / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
    ids = {json.loads(line)["prompt_id"] for line in prompts}
    rows = [json.loads(line) for line in (DEMO / "images.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["method"] in ("fp16", "w4a4") and row["prompt_id"] in ids]
    for row in rows:
        (folder / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DEMO / row["file"], folder / row["file"])
    (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def pixels(folder, method, prompt):
    with Image.open(folder / "images" / method / f"{prompt}.png") as opened:
        return np.asarray(opened.convert("RGB"))


def invoke(*arguments):
    return CliRunner().invoke(cli, ["measure", *map(str, arguments)])


def test_a_gallery_of_shapes_is_measured_with_what_comes_along(small_demo):
    result = invoke(small_demo, "--table", small_demo / "t.csv", "--by", "category")
    assert result.exit_code == 0, result.output
    table, sources = read(small_demo / "metrics.parquet")
    of_picture = {"clip-score", "clip-iqa", "jaq", "clip-score-judge", "clip-iqa-judge", "jaq-judge"}
    compared = {"psnr_to_fp16", "ssim_to_fp16"}
    assert set(table["metric"]) == of_picture | compared
    assert len(table) == 6 * len(of_picture) + 3 * len(compared)
    assert sources["clip"] == "comes along" and sources["reference"] == "fp16"
    value = table.set_index(["metric", "method", "prompt_id"])["value"]
    gallery = read_gallery(small_demo)
    for prompt in gallery.prompts:
        full, drawn = (pixels(small_demo, method, prompt.prompt_id) for method in ("fp16", "w4a4"))
        assert value["psnr_to_fp16", "w4a4", prompt.prompt_id] == pytest.approx(
            10 * np.log10(255**2 / np.square(full.astype(float) - drawn).mean())
        )
        picture = torch.from_numpy(drawn.copy()).permute(2, 0, 1)[None] / 255
        clip = MODELS["shapes"].scorer("clip").scores(picture, [prompt.text])
        assert value["jaq", "w4a4", prompt.prompt_id] == pytest.approx(float(jaq(*clip).values[0]), rel=1e-5)
    assert "not measured: lpips: alexnet-owt-7be5be79.pth: give its folder with --weights" in result.stderr
    summed = pd.read_csv(small_demo / "t.csv")
    assert {"fid-clip_to_fp16"} == set(summed["metric"]) - set(table["metric"])
    mean = summed.query("metric == 'jaq' and method == 'w4a4' and category == 'all'")["mean"].item()
    assert mean == pytest.approx(table.query("metric == 'jaq' and method == 'w4a4'")["value"].mean())

    read_back = read_metrics(small_demo / "metrics.parquet")
    assert set(read_back.names) == set(table["metric"]) and read_back.methods == ("fp16", "w4a4")


def counting(calls, stop=None, error=KeyboardInterrupt):
    def score(batch):
        if stop is not None and len(calls) == stop:
            raise error
        calls.append(len(batch.texts))
        return {"bright": batch.pictures.mean((1, 2, 3)).double().numpy()}

    return {"bright": Loaded(Measure(("bright",), lambda _: score), score, "here")}


def test_an_interrupted_run_goes_on_and_ends_the_same(gallery, tmp_path):
    content, first, rest, whole = read_gallery(gallery), [], [], []
    expected = measure(content, counting(whole), None, tmp_path / "whole.parquet", batch_size=4)
    path = tmp_path / "new" / "metrics.parquet"
    with pytest.raises(KeyboardInterrupt):
        measure(content, counting(first, stop=3), None, path, batch_size=4)
    assert not path.exists()
    journal = path.with_name("metrics.parquet.journal")
    journal.write_text(journal.read_text() + '["fp16", "00')  # torn
    table = measure(content, counting(rest), None, path, batch_size=4)
    assert sum(first) + sum(rest) == sum(whole) == len(content.images)
    pd.testing.assert_frame_equal(table, expected)
    assert [file.name for file in path.parent.iterdir()] == ["metrics.parquet"]
    again = []
    measure(content, counting(again), None, path)
    assert not again
    pd.testing.assert_frame_equal(read(path)[0], expected)


def test_too_little_memory_is_told_and_what_is_measured_is_kept(gallery, tmp_path, monkeypatch):
    loads = iter([counting([], stop=2, error=torch.OutOfMemoryError), counting(calls := [])])
    monkeypatch.setattr(measures, "load_measures", lambda *_: (next(loads), []))
    arguments = (gallery, "--metrics", "bright", "-o", tmp_path / "m.parquet", "--batch-size", 2)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert (
        "out of memory with 2 pictures at once; give the same command again with a smaller" in result.stderr
    )
    assert invoke(*arguments).exit_code == 0
    assert sum(calls) == len(read_gallery(gallery).images) - 4


def test_a_picture_that_has_changed_is_measured_again(build_gallery, tmp_path):
    folder = build_gallery(tmp_path / "g", methods=("fp16",), prompts=3)
    path, calls = tmp_path / "m.parquet", []
    before = measure(read_gallery(folder), counting(calls), None, path)
    Image.new("RGB", (64, 64), "white").save(folder / "images" / "fp16" / "0001.png")
    lines = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    lines[1]["sha256"] = hashlib.sha256((folder / lines[1]["file"]).read_bytes()).hexdigest()
    (folder / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    after = measure(read_gallery(folder), counting(calls), None, path)
    assert calls == [3, 1]
    assert after.set_index("prompt_id")["value"]["0001"] == 1.0
    assert len(before) == len(after) == 3


def test_numbers_of_other_weights_are_not_mixed(gallery, tmp_path):
    content, path = read_gallery(gallery), tmp_path / "m.parquet"
    measure(content, counting([]), None, path)
    other = {"bright": Loaded(counting([])["bright"].measure, counting([])["bright"].score, "elsewhere")}
    with pytest.raises(MeasureError, match="bright was measured with here, not elsewhere; take another -o"):
        measure(content, other, None, path)
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(MeasureError, match=r"no\.parquet: not a file of generator measure"):
        measure(content, counting([]), None, tmp_path / "no.parquet")


def test_a_reference_of_another_size_is_refused(build_gallery, tmp_path):
    folder = build_gallery(tmp_path / "g", methods=("fp16", "w4a4"), prompts=1)
    content = read_gallery(folder)
    larger = [
        image.model_copy(update={"width": 65}) if image.method == "w4a4" else image
        for image in content.images
    ]
    object.__setattr__(content, "images", tuple(larger))
    loaded, _ = load_measures(["psnr"], None, embedded=False)
    with pytest.raises(MeasureError, match=r"0000\.png: 65×64, but images/fp16/0000\.png 64×64"):
        measure(content, loaded, Reference.of(content, "fp16"), tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "bf16"], "--reference 'bf16': no pictures of it; the gallery has fp16"),
        (["--metrics", "beauty"], "measure 'beauty': unknown; expected one of clip, "),
        (["--metrics", "hpsv2.1"], "HPS_v2.1_compressed.pt: give its folder with --weights"),
        (["--against", "real=nowhere"], "--against real=nowhere: expected NAME=FOLDER"),
        (["--table", "t.xls"], "--table t.xls: expected one of .csv, .json, .md"),
        (["--device", "abacus"], "--device abacus: "),
        (["--device", "cuda:99"], "--device cuda:99: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(gallery, tmp_path, arguments, message):
    result = invoke(gallery, "-o", tmp_path / "m.parquet", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_distances_to_a_folder_and_features_are_kept(small_demo, tmp_path):
    """The folder holds w4a4's own pictures: its distance to them is 0, and fp16's that of fp16 to w4a4."""
    real = small_demo / "images" / "w4a4"
    arguments = (
        small_demo,
        "--metrics",
        "ssim",
        "--against",
        f"real={real}",
        "--table",
        small_demo / "t.json",
    )
    assert invoke(*arguments).exit_code == 0
    rows = {
        (row["metric"], row["method"]): row["mean"] for row in json.loads((small_demo / "t.json").read_text())
    }
    assert rows["fid-clip_to_real", "w4a4"] == pytest.approx(0, abs=1e-6)
    assert rows["fid-clip_to_real", "fp16"] == pytest.approx(rows["fid-clip_to_fp16", "w4a4"], rel=1e-4)
    kept = {file: file.stat().st_mtime_ns for file in (small_demo / "metrics.features").iterdir()}
    assert len(kept) == 3
    assert invoke(*arguments).exit_code == 0
    assert kept == {file: file.stat().st_mtime_ns for file in (small_demo / "metrics.features").iterdir()}


def test_what_cannot_be_loaded_is_left_out_unless_it_was_asked_for():
    loaded, missing = load_measures(None, None, embedded=False)
    assert set(loaded) == {"psnr", "ssim"}
    assert len(missing) == len(MEASURES) - 2
    with pytest.raises(WeightsError, match=r"ViT-L-14\.pt"):
        load_measures(["clip"], None, embedded=False)
    assert set(load_measures(None, None, embedded=True)[0]) == {"clip", "judge", "psnr", "ssim"}


def test_jaq_is_made_of_its_parts_in_every_variant():
    values = {"aq-map": np.array([0.7, np.nan]), "hpsv2.1": np.array([0.25, 0.3])}
    found = with_jaq(values)
    assert found["jaq-preference"] == pytest.approx([0.7 + 0.5, np.nan], nan_ok=True)
    assert found["jaq-preference-reported"] == pytest.approx([0.25 + 1.4, np.nan], nan_ok=True)
    assert set(found) == {*values, "jaq-preference", "jaq-preference-reported"}


def test_means_and_paired_differences_by_hand():
    rows = [
        ("full", "a", 0, 1.0), ("full", "a", 1, 3.0), ("full", "b", 0, 4.0), ("full", "c", 0, 6.0),
        ("quant", "a", 0, 2.5), ("quant", "b", 0, 3.0),
    ]  # fmt: skip
    table = pd.DataFrame([(m, p, r, "score", v, "") for m, p, r, v in rows], columns=run.COLUMNS)
    summed = summary(table, ["full", "quant"], {"a": "x", "b": "y", "c": None}, "full")
    whole = summed[summed["category"] == "all"].set_index("method")
    assert whole["mean"].to_dict() == {"full": 4.0, "quant": 2.75}  # replicates of a prompt are meaned first
    assert whole["n"].to_dict() == {"full": 3, "quant": 2}
    assert whole["difference"]["quant"] == pytest.approx((0.5 - 1.0) / 2)
    assert np.isnan(whole["difference"]["full"])
    only_x = summed[summed["category"] == "x"].set_index("method")
    assert (only_x["mean"]["quant"], only_x["difference"]["quant"]) == (2.5, 0.5)
    assert np.isnan(only_x["low"]["quant"])  # one prompt has no interval


def test_the_interval_is_that_of_the_t_test_where_both_hold():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == (pytest.approx(expected.low, abs=0.03), pytest.approx(expected.high, abs=0.03))
    assert interval(np.ones(5)) == (1.0, 1.0)
    assert interval(np.array([np.inf, 1.0])) == (np.inf, np.inf)


def test_a_measure_says_all_that_it_gives(small_demo, monkeypatch):
    """What `metrics` promises is what `score` returns; a resumed run relies on it."""
    content = read_gallery(small_demo)
    pictures = run.read_pictures(content.root, content.images[:2])
    texts = [prompt.text for prompt in content.prompts[:2]]
    loaded, _ = load_measures(None, None, embedded=True)
    for each in loaded.values():
        assert tuple(each.score(measures.Batch(pictures, texts, pictures))) == each.measure.metrics
