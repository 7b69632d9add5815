import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from generator import calibrate
from generator.calibrate import prepared
from generator.candidates import Candidates
from generator.cli import cli
from generator.measure import scorers
from generator.measure.objectives import objective_and_judge
from generator.methods import MethodError, all_methods
from generator.methods.ptqd import read_statistics, statistics_file
from generator.methods.qsched import coefficients_file
from generator.models import ENTRIES, MODELS, of_entry
from generator.prompts import PromptError, half_of, load_prompts, shapes_prompts, subset
from generator.sweep import render
from qsched.coefficients import Coefficients, read_coefficients
from qsched.jaq import jaq
from qsched.schedulers import QSchedTCDScheduler

BASE, METHODS = MODELS["shapes"], all_methods()
W4A4 = METHODS["w4a4"]
FEW = {"captions": 8, "heldout": 8}
pytestmark = pytest.mark.usefixtures("small_searches")


@pytest.mark.parametrize("how", ["grid", "race"])
def test_what_is_written_can_be_measured_again(tmp_path, how):
    path = tmp_path / "new" / "w4a4.qsched.json"
    calibrate.calibrate(prepared(BASE, W4A4, how=how, **FEW), path)
    found = read_coefficients(path)
    assert (found.search["how"], found.search["prompt_set"]) == (how, "shapes")
    drawn = found.search.get("images", 8 * found.search["evaluations"])
    assert found.search["nfe"] == 3 * drawn + 8  # the first step of a prompt is evaluated once
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no journal left

    pipeline, prompts = BASE.load(), shapes_prompts("heldout", 8)
    W4A4.apply(pipeline, BASE)
    pipeline.scheduler = QSchedTCDScheduler.from_config(
        pipeline.scheduler.config, c_x=list(found.c_x), c_eps=list(found.c_eps)
    )
    scores = BASE.scorer("judge").scores(render(pipeline, BASE, prompts), [p.text for p in prompts])
    assert jaq(*scores).mean == pytest.approx(found.scores.held_out_judged.after, rel=1e-6)

    full = render(BASE.load(), BASE, prompts)
    before = jaq(*BASE.scorer("clip").scores(full, [p.text for p in prompts])).mean
    assert found.scores.control.before == pytest.approx(before, rel=1e-6)
    assert found.scores.control_searched.before == found.scores.control.before


@pytest.fixture
def quick(tiny, tiny_scorers):
    """A calibration of a model that takes no time."""
    base = of_entry(tiny(ENTRIES["lcm-dreamshaper-2"], steps=2))
    return prepared(base, W4A4, how="grid", scorers=tiny_scorers, **FEW)


@pytest.mark.parametrize("stop", [5, 20])  # in the search; in the check of the quantized model
def test_an_interrupted_calibration_goes_on(quick, tmp_path, monkeypatch, stop):
    path, draw = tmp_path / "w4a4.qsched.json", Candidates.__call__

    def counted(least):
        drawn = []

        def pictures(self, coefficients, some=None):
            if len(drawn) == least:
                raise KeyboardInterrupt
            drawn.append(coefficients)
            return draw(self, coefficients, some)

        monkeypatch.setattr(Candidates, "__call__", pictures)
        return drawn

    drawn = counted(None)
    calibrate.calibrate(quick, path)
    whole, total = path.read_text(), len(drawn)
    # The plan's batch, two searches of 17 candidates, and on the held-out prompts each model as it is, once,
    # and under the coefficients it is measured with, one set and two (or one, if they are the same).
    found = json.loads(whole)
    same = all(found["search"]["full_precision"][name] == found[name] for name in ("c_x", "c_eps"))
    assert total == 1 + 2 * 17 + 5 - same
    path.unlink()
    counted(stop)
    with pytest.raises(KeyboardInterrupt):
        calibrate.calibrate(quick, path)
    assert not path.exists()
    again = counted(None)
    calibrate.calibrate(quick, path)
    assert len(again) == total - (stop - 1)
    assert path.read_text() == whole


def test_a_journal_of_another_calibration_is_told(tiny, tiny_scorers, tmp_path, monkeypatch):
    monkeypatch.setitem(ENTRIES, "sdxl-turbo", tiny(ENTRIES["sdxl-turbo"], steps=2))
    command = ["calibrate", "--model", "sdxl-turbo", "--method", "w4a4", "--scorers", str(tiny_scorers)]
    command += ["-o", str(tmp_path / "w4a4.qsched.json"), "--heldout", "8", "--captions"]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "_measured", interrupted)
    result = CliRunner().invoke(cli, [*command, "8"])
    assert result.exit_code == 130 and "the same command goes on" in result.stderr
    result = CliRunner().invoke(cli, [*command, "9"])
    assert result.exit_code == 2
    assert "w4a4.search.journal: begun under other settings; remove it to begin anew" in result.stderr


def test_a_dry_run_tells_what_it_would_take_and_writes_nothing(tmp_path):
    path = tmp_path / "w4a4.qsched.json"
    command = ["calibrate", "--method", "w4a4", "--search", "grid", "-o", str(path), "--dry-run"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "about 17 candidates, 340 pictures; as many for full precision" in result.stdout
    assert f"about {2 * (3 * 340 + 20) + 5 * 4 * 384:,}, at most 4 a picture" in result.stdout
    assert "time: about 0:" in result.stdout
    assert not list(tmp_path.iterdir())


def test_too_little_memory_is_told(tiny, tiny_scorers, tmp_path, monkeypatch):
    monkeypatch.setitem(ENTRIES, "sdxl-turbo", tiny(ENTRIES["sdxl-turbo"], steps=2))
    sizes = []

    def full(pipeline, base, prompts):
        sizes.append(len(prompts))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(calibrate, "draw", full)
    command = ["calibrate", "--model", "sdxl-turbo", "--scorers", str(tiny_scorers), "--batch-size", "3"]
    result = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "x.qsched.json")])
    assert result.exit_code == 2 and sizes == [3]
    assert (
        "out of memory with 3 pictures at once; give the same command again with a smaller" in result.stderr
    )


def test_the_plot_of_a_search_is_drawn_and_a_race_begins_at_ptqds_closed_form(tmp_path):
    path, plot = tmp_path / "w4a8.qsched.json", tmp_path / "w4a8.svg"
    command = ["calibrate", "--method", "w4a8", "--captions", "8", "--heldout", "2", "-o", str(path)]
    result = CliRunner().invoke(cli, [*command, "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert "c_x, first" in plot.read_text()
    k = [step.k for step in read_statistics(statistics_file(BASE, "w4a8")).steps]
    slope, start = np.polyfit(range(4), [1 / (1 + each) for each in k], 1)
    (begun,) = read_coefficients(path).search["starts"]
    assert begun == pytest.approx([1, 1, start, start + 3 * slope])
    result = CliRunner().invoke(cli, [*command, "--plot", "w4a8.gif"])
    assert result.exit_code == 2 and "--plot w4a8.gif" in result.stderr


def test_the_committed_coefficients_are_worth_what_their_file_says():
    """On the calibration prompts, with the weights as they are."""
    file = read_coefficients(coefficients_file(BASE, "w4a8"))
    pipeline, prompts = BASE.load(), shapes_prompts("calibration", 20)
    assert file.calibration_prompts == tuple(prompt.prompt_id for prompt in prompts)
    METHODS["w4a8"].apply(pipeline, BASE)
    draw = Candidates(pipeline, BASE, prompts)
    for coefficients, told in (
        (Coefficients.identity(4), file.scores.calibration.before),
        (file.coefficients, file.scores.calibration.after),
    ):
        scores = BASE.scorer("clip").scores(draw(coefficients), [prompt.text for prompt in prompts])
        assert jaq(*scores).mean == pytest.approx(told, abs=1e-3)  # of another machine's rounding


def test_too_few_captions_are_told():
    result = CliRunner().invoke(cli, ["calibrate", "--captions", "3"])
    assert result.exit_code == 2
    assert "--captions" in result.stderr


# ---------------------------------------------------------------- prompts and scorers


def test_the_halves_of_a_set_never_meet(tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("".join(f"prompt {i}\n" for i in [*range(40), *range(5)]))
    texts = {half: [p.text for p in half_of(str(file), half, 20)] for half in ("calibration", "heldout")}
    assert sorted(texts["calibration"] + texts["heldout"]) == sorted(f"prompt {i}" for i in range(40))
    assert [p.text for p in half_of(str(file), "heldout", 7)] == texts["heldout"][:7]
    drawn = {p.text for p in subset(load_prompts(str(file)), 20)}
    assert drawn & set(texts["heldout"])  # not the prompts that -n 20 takes
    with pytest.raises(PromptError, match=r"some\.txt: 21 heldout prompts asked for, but that half has 20"):
        half_of(str(file), "heldout", 21)
    shapes = [{p.text for p in half_of("shapes", half, 200)} for half in ("calibration", "heldout")]
    assert [p.prompt_id for p in half_of("shapes", "heldout", 2)] == ["heldout-0000", "heldout-0001"]
    assert all(shapes)


def test_missing_weights_of_scorers_are_named_before_anything_is_loaded(tmp_path):
    command = ["calibrate", "--model", "sdxl-turbo", "--weights", str(tmp_path / "none")]
    for options, file in (
        ([], "ViT-L-14.pt: give its folder with --weights"),
        (["--scorers", str(tmp_path)], f"ViT-L-14.pt: not in {tmp_path}; it is OpenAI's CLIP ViT-L/14"),
        (["--jaq", "preference"], "ViT-B-16.pt"),
    ):
        result = CliRunner().invoke(cli, [*command, *options])
        assert result.exit_code == 2 and file in result.stderr, result.stderr


# ---------------------------------------------------------------- real models, small


@pytest.mark.parametrize(
    ("family", "variant", "how"),
    [
        ("sdxl-turbo", "preference", "race"),
        ("flux-schnell", "clip", "grid"),
        ("lcm-dreamshaper-2", "clip", "race"),
    ],
)
def test_what_is_searched_for_a_model_is_what_a_run_draws_with(
    tiny, tiny_scorers, tmp_path, monkeypatch, family, variant, how
):
    monkeypatch.setitem(ENTRIES, family, tiny(ENTRIES[family], steps=2))
    model = ["--model", family, "--calibrated", str(tmp_path / "calibrated")]
    options = ["--jaq", variant, "--search", how, "--scorers", str(tiny_scorers)]
    few = ["--captions", "8", "--heldout", "3"]
    result = CliRunner().invoke(cli, ["calibrate", *model, *options, *few])
    assert result.exit_code == 0, result.output
    found = read_coefficients(tmp_path / "calibrated" / f"{family}-w4a8.qsched.json")
    assert (found.base_model, found.steps, found.jaq_variant) == (family, 2, variant)
    assert found.scores.held_out_judged.prompts == found.scores.control_searched.prompts == 3
    objective, judge = found.search["objective"], found.search["judge"]
    assert objective.count("sha256:") == (1 if variant == "clip" else 2)
    assert ("ViT-B-32.pt" if variant == "clip" else "ViT-L-14.pt") in judge
    calibrated = {p.prompt_id for p in half_of("partiprompts", "calibration", 8)}
    assert set(found.calibration_prompts) == calibrated

    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\ntwo dogs\n")
    drawn = ["--methods", "fp16,qsched-w4a8", "--prompts", str(prompts), "-o", str(tmp_path / "g")]
    result = CliRunner().invoke(cli, ["run", *model, *drawn])
    assert result.exit_code == 0, result.output
    methods = {m["id"]: m for m in json.loads((tmp_path / "g" / "gallery.json").read_text())["methods"]}
    assert methods["qsched-w4a8"]["coefficients"] == {"c_x": list(found.c_x), "c_eps": list(found.c_eps)}


def test_a_sampler_without_a_twin_is_told(tiny, tiny_scorers, tmp_path):
    base = of_entry(tiny(ENTRIES["sd14-pndm-10"], steps=2))
    work = prepared(base, W4A4, scorers=tiny_scorers, **FEW)
    with pytest.raises(MethodError, match="PNDMScheduler has no Q-Sched twin"):
        calibrate.calibrate(work, tmp_path / "x.qsched.json")


def test_a_text_without_a_noun_counts_the_same_for_all_candidates(tiny_scorers, monkeypatch):
    monkeypatch.setattr(scorers, "spacy_nouns", lambda: lambda text: ["dog"] if "dog" in text else [])
    objective, _ = objective_and_judge("preference", tiny_scorers, embedded=False)
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    values = objective(pictures, ["nothing here", "a dog"])
    assert values[0] == 0 and values[1] != 0
