import functools

import pytest
from click.testing import CliRunner

from generator import calibrate
from generator.cli import cli
from generator.methods import all_methods
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.sweep import render
from qsched.coefficients import Coefficients, read_coefficients
from qsched.jaq import jaq
from qsched.racing import race
from qsched.schedulers import QSchedTCDScheduler
from qsched.search import search

BASE, W4A4 = MODELS["shapes"], all_methods()["w4a4"]


@pytest.fixture(autouse=True)
def small_searches(monkeypatch):
    monkeypatch.setattr(calibrate, "search", functools.partial(search, grid=(0.95, 1.05), refine=False))
    monkeypatch.setattr(calibrate, "race", functools.partial(race, candidates=4, races=1))


@pytest.mark.parametrize("how", ["grid", "race"])
def test_what_is_written_can_be_measured_again(tmp_path, how):
    path = tmp_path / "new" / "w4a4.qsched.json"
    calibrate.calibrate(BASE, W4A4, path, how=how, captions=8, heldout=8)
    found = read_coefficients(path)
    assert found.search["how"] == how
    assert found.search["nfe"] == 4 * 8 * found.search["evaluations"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no journal left

    pipeline, prompts = BASE.load(), shapes_prompts("heldout", 8)
    W4A4.apply(pipeline, BASE)
    pipeline.scheduler = QSchedTCDScheduler.from_config(
        pipeline.scheduler.config, c_x=list(found.c_x), c_eps=list(found.c_eps)
    )
    scores = BASE.scorer("judge").scores(render(pipeline, BASE, prompts), [p.text for p in prompts])
    assert jaq(*scores).mean == pytest.approx(found.scores.held_out_judged.after, rel=1e-6)

    full = calibrate.pictures(BASE.load(), BASE, Coefficients.identity(4), prompts)
    before = calibrate.scores(BASE.scorer("clip"), full, prompts).mean()
    assert found.scores.control.before == pytest.approx(before, rel=1e-6)
    assert found.scores.control_searched.before == found.scores.control.before


def test_an_interrupted_calibration_goes_on(tmp_path, monkeypatch):
    path, drawn = tmp_path / "w4a4.qsched.json", []
    draw = calibrate.pictures

    def stop_after_five(*arguments):
        if len(drawn) == 5:
            raise KeyboardInterrupt
        drawn.append(arguments)
        return draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "pictures", stop_after_five)
        with pytest.raises(KeyboardInterrupt):
            calibrate.calibrate(BASE, W4A4, path, captions=8, heldout=8)
    assert not path.exists()
    again = []
    monkeypatch.setattr(calibrate, "pictures", lambda *a: again.append(a) or draw(*a))
    calibrate.calibrate(BASE, W4A4, path, captions=8, heldout=8)
    # Two searches of 17 candidates, five of them from the journal, and the held-out drawings:
    # each model as it is, once, and under the coefficients it is measured with, one set and two.
    assert len(again) == 2 * 17 - 5 + 5


def test_too_few_captions_are_told():
    result = CliRunner().invoke(cli, ["calibrate", "--captions", "3"])
    assert result.exit_code == 2
    assert "--captions" in result.stderr
