import functools
import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from scipy.stats import linregress

from generator.cli import cli
from generator.methods import MethodError, all_methods, ptqd
from generator.methods.ptqd import StatisticsError, measure, read_statistics, statistics_file
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.quantize import numbers_bytes
from generator.sweep import render
from qsched.trajectories import by_step, recorded

BASE, METHODS = MODELS["shapes"], all_methods()
PROMPTS = shapes_prompts("heldout", 8)


def pipeline_of(method):
    pipeline = BASE.load()
    return pipeline, METHODS[method].apply(pipeline, BASE)


def path_of(pipeline):
    with recorded(pipeline.scheduler) as visits:
        pictures = render(pipeline, BASE, PROMPTS)
    return pictures, visits


def test_statistics_are_those_of_both_models_on_the_same_samples(tmp_path):
    """The first step by hand, in float64: there both models see the same noise in any case."""
    file = measure(BASE, METHODS["w4a4"], tmp_path / "new" / "x.ptqd.json", count=8)
    assert read_statistics(tmp_path / "new" / "x.ptqd.json") == file
    assert len(file.steps) == len(file.steps_as_released) == BASE.steps
    assert file.nfe == 2 * 8 * BASE.steps
    calibration = shapes_prompts("calibration", 8)
    assert file.prompts == tuple(prompt.prompt_id for prompt in calibration)
    outputs = []
    for method in ("fp16", "w4a4"):
        pipeline, _ = pipeline_of(method)
        with recorded(pipeline.scheduler) as visits:
            render(pipeline, BASE, calibration)
        outputs.append(by_step(visits)[0][1].double().numpy())
    eps, error = outputs[0], outputs[1] - outputs[0]
    centred = eps - eps.mean((0, 2, 3), keepdims=True)
    slope = (centred * error).sum() / (centred**2).sum()
    assert file.steps[0].k == pytest.approx(max(slope, 0))
    assert file.steps_as_released[0].k == pytest.approx(linregress(eps.ravel(), -error.ravel()).slope)
    assert file.steps[0].bias == pytest.approx((error - max(slope, 0) * eps).mean((0, 2, 3)))


@pytest.mark.parametrize(
    ("prefix", "quantizer", "field"),
    [
        ("ptqd", "w4a8", "steps"),
        ("ptqd", "svdquant-w4a4", "steps"),
        ("ptqd-released", "w4a4", "steps_as_released"),
    ],
)
def test_each_step_is_the_samplers_own_from_the_corrected_output(prefix, quantizer, field):
    pipeline, correction = pipeline_of(f"{prefix}-{quantizer}")
    found = getattr(read_statistics(statistics_file(BASE, quantizer)), field)
    assert correction.steps == found
    plain = BASE.load().scheduler
    plain.set_timesteps(BASE.steps)
    _, visits = path_of(pipeline)
    for step, visit, t in zip(found, visits, plain.timesteps, strict=True):
        repaired = (visit.output - torch.tensor(step.bias)[:, None, None]) / (1 + step.k)
        expected = plain.step(repaired, t, visit.sample, eta=0.0).prev_sample
        assert torch.allclose(visit.after, expected, atol=1e-4)


def test_it_repairs_a_planted_error_and_the_released_port_doubles_it(tmp_path):
    """A backbone whose output is 8 % too large and off by 0.05."""

    def loud(pipeline, base):
        pipeline.unet.register_forward_hook(lambda *call: (1.08 * call[2][0] + 0.05,))

    method = ptqd.Method("loud", "loud", 16, 16, "", loud)
    base = replace(BASE, calibrated=tmp_path)
    measure(base, method, statistics_file(base, "loud"), count=8)
    full, _ = path_of(BASE.load())
    distance = {}
    for variant in (method, *ptqd.over(method)):
        pipeline = BASE.load()
        variant.apply(pipeline, base)
        distance[variant.id] = float((path_of(pipeline)[0] - full).square().mean().sqrt())
    assert distance["ptqd-loud"] < 0.02 * distance["loud"]
    assert distance["ptqd-released-loud"] > 1.2 * distance["loud"]


def test_what_is_stored_counts():
    _, correction = pipeline_of("ptqd-w4a8")
    assert numbers_bytes(correction) == 2 * BASE.steps * (1 + 8 + 1)  # k, a bias a channel, sigma
    assert numbers_bytes(pipeline_of("qsched-w4a8")[1]) == 2 * BASE.steps * 2
    assert numbers_bytes(None) == 0


def test_missing_and_spoiled_statistics_are_named(tmp_path):
    committed = json.loads(statistics_file(BASE, "w4a8").read_text())
    base = replace(BASE, calibrated=tmp_path)
    with pytest.raises(MethodError, match=r"No such file .* generator ptqd --model shapes --method w4a8$"):
        METHODS["ptqd-w4a8"].apply(base.load(), base)
    path = statistics_file(base, "w4a8")
    path.write_text(json.dumps(committed | {"steps": committed["steps"][:2]}))
    with pytest.raises(StatisticsError, match="has 2 steps, not 4"):
        METHODS["ptqd-w4a8"].apply(base.load(), base)
    committed["steps"][1]["k"] = "much"
    path.write_text(json.dumps(committed))
    with pytest.raises(StatisticsError, match=r"steps\.1\.k"):
        read_statistics(path)
    result = CliRunner().invoke(cli, ["run", "--methods", "ptqd-w8a8", "-n", "2", "-o", str(tmp_path / "g")])
    assert result.exit_code == 2
    assert "generator ptqd" in result.stderr


def test_the_command_measures(tmp_path, monkeypatch):
    path = tmp_path / "x.ptqd.json"
    monkeypatch.setattr(ptqd, "measure", functools.partial(measure, count=4))
    result = CliRunner().invoke(cli, ["ptqd", "--method", "w4a8", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert len(read_statistics(path).prompts) == 4
