import copy
import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch
from torch import nn

from generator.errors import InputError
from generator.quantize import ByStep, QuantConv2d, QuantLinear, Static, Weights
from generator.quantize.clock import Clock
from generator.quantize.observe import ranges_by_step
from generator.quantize.uniform import quantize

RANGES = ((-1.0, 2.0), (-0.1, 0.3), (0.0, 5.0))
TIMES = (900.0, 500.0, 100.0)


class Model(nn.Module):
    """One layer, called as a U-Net is."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, sample, timestep, encoder_hidden_states=None):
        return self.layer(sample)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def watched(make, layer):
    clock = Clock(TIMES)
    model = Model(make.from_float(layer, Weights(4), ByStep.between(8, RANGES, clock)))
    clock.watch(model)
    return model


@pytest.mark.parametrize(
    ("make", "layer", "x"),
    [
        (QuantLinear, nn.Linear(6, 5), noise(4, 7, 6)),
        (QuantConv2d, nn.Conv2d(3, 5, 3, padding=1), noise(4, 3, 8, 8)),
    ],
)
def test_every_sample_gets_the_grid_of_its_timestep(make, layer, x):
    model = watched(make, layer)
    mixed = model(x, torch.tensor([100, 900, 500, 100]))
    for i, step in enumerate([2, 0, 1, 2]):
        alone = make.from_float(layer, Weights(4), Static(8, *RANGES[step]))
        assert torch.allclose(mixed[i], alone(x[i : i + 1])[0], atol=1e-6)
        assert torch.equal(model.layer.act_scale[step], alone.act_scale)
    assert torch.allclose(
        model(x, timestep=900), make.from_float(layer, Weights(4), Static(8, *RANGES[0]))(x)
    )


def test_a_step_equals_integer_accumulation():
    """y = s_x s_w (Σ q_x q_w − z_x Σ q_w) + b with int32 sums, s_x and z_x of the sample's timestep."""
    model, x = watched(QuantLinear, layer := nn.Linear(6, 5)), noise(2, 7, 6)
    y = model(x, torch.tensor([500, 900]))
    grid = model.layer.act_grid(x)
    assert grid.s.shape == (2, 1, 1)
    q_x, q_w = quantize(x, grid).int(), model.layer.integer_weight().int()
    sums = torch.einsum("bti,oi->bto", q_x, q_w) - grid.z.int() * q_w.sum(1, dtype=torch.int32)
    expected = sums * grid.s.float() * model.layer.weight_scale.float().T + layer.bias
    assert torch.allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_timestep_that_was_not_calibrated_is_refused():
    model = watched(QuantLinear, nn.Linear(6, 5))
    with pytest.raises(ValueError, match=r"timestep 750 is not one that was calibrated: \[900.0, 500.0"):
        model(noise(1, 2, 6), 750)


def test_a_copy_has_a_clock_of_its_own():
    model = watched(QuantLinear, nn.Linear(6, 5))
    other = copy.deepcopy(model)
    x = noise(1, 2, 6)
    model(x, 900)
    other(x, 100)
    assert (int(model.layer.acts.clock.index), int(other.layer.acts.clock.index)) == (0, 2)


def test_ranges_are_found_for_each_timestep():
    clock, model, x = Clock(TIMES), Model(nn.Linear(6, 5)), noise(6, 2, 6)
    clock.watch(model)

    def run():
        model(x[:3], torch.tensor([100.0, 900.0, 500.0]))
        model(x[3:5], torch.tensor(500.0))

    found = ranges_by_step(model, ["layer"], clock, run)["layer"]
    for step, rows in enumerate(([1], [2, 3, 4], [0])):
        assert found[step] == (float(x[rows].min()), float(x[rows].max()))
    with pytest.raises(InputError, match="'layer' is not called at every timestep"):
        ranges_by_step(model, ["layer"], clock, lambda: model(x, 900))
    with pytest.raises(InputError, match="'layer' gets values that are not finite"):
        ranges_by_step(model, ["layer"], clock, lambda: model(x / 0, torch.tensor([900.0, 500.0, 100.0] * 2)))
