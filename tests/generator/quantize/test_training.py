import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch
import torch.nn.functional as F
from torch import nn

from generator.quantize import ByStep, Weights
from generator.quantize.clock import Clock
from generator.quantize.training import EVERY, Learning, train


def noise(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def at(clock, *index):
    clock.index = torch.tensor(index)
    return clock


def learning(layer, acts=True):
    clock = Clock((900, 100))
    return Learning(layer, Weights(4), ByStep.between(8, ((-3, 3), (-1, 2)), clock) if acts else None), clock


@pytest.mark.parametrize(
    ("layer", "x"),
    [(nn.Linear(6, 5), noise(2, 7, 6)), (nn.Conv2d(3, 5, 3, stride=2, padding=1), noise(2, 3, 8, 8))],
)
@pytest.mark.parametrize("acts", [True, False])
def test_what_is_stored_is_what_was_trained(layer, x, acts):
    learned, clock = learning(layer, acts)
    with torch.no_grad():
        for i, parameter in enumerate(learned.parameters()):
            parameter.add_(0.1 * noise(*parameter.shape, seed=i))
    at(clock, 1, 0)
    expected = learned(x)
    assert torch.allclose(learned.frozen()(x), expected, atol=1e-6)


def test_scales_get_the_gradients_of_lsq():
    """d ŵ / d ln s = ŵ − w inside the range and ŵ outside; d ŵ / d w = 1 inside and 0 outside."""
    learned, _ = learning(nn.Linear(6, 1, bias=False), acts=False)
    with torch.no_grad():
        learned.log_scale.fill_(0.0)
        learned.weight.copy_(torch.tensor([[0.3, -2.6, 6.9, 7.2, 9.0, -20.0]]))
    for i, inside in enumerate([True, True, True, False, False, False]):
        learned.zero_grad()
        one = torch.eye(6)[i]
        rounded = learned(one)
        rounded.backward()
        expected = rounded - learned.weight[0, i] if inside else rounded
        assert learned.log_scale.grad.item() == pytest.approx(expected.item(), abs=1e-5)
        assert learned.weight.grad[0, i].item() == float(inside)


def test_each_timestep_learns_its_own_scale():
    learned, clock = learning(nn.Linear(6, 5))
    at(clock, 1)
    learned(noise(1, 7, 6)).square().sum().backward()
    assert learned.log_act_scales.grad[0] == 0 != learned.log_act_scales.grad[1]


class StopError(Exception):
    pass


def trained(folder, stop=None):
    torch.manual_seed(0)
    learned, clock = learning(nn.Linear(6, 5))
    reference, values = nn.Linear(6, 5).requires_grad_(False), []

    def loss(i):
        if i == stop:
            raise StopError
        at(clock, 0, 1)
        x = noise(2, 7, 6, seed=i)
        values.append(F.mse_loss(learned(x), reference(x)))
        return values[-1]

    train(learned, [(learned.parameters(), 1e-2)], loss, 3 * EVERY, folder / "x.training")
    return learned, [float(value.detach()) for value in values]


def test_training_goes_on_where_it_was_interrupted(tmp_path):
    whole, losses = trained(tmp_path)
    assert losses[-1] < 0.5 * losses[0]
    assert not list(tmp_path.iterdir())
    with pytest.raises(StopError):
        trained(tmp_path, stop=EVERY + 7)
    again, rest = trained(tmp_path)
    assert rest == losses[EVERY:]
    assert all(map(torch.equal, whole.parameters(), again.parameters()))
    assert not list(tmp_path.iterdir())


def test_the_state_of_another_training_is_refused(tmp_path):
    with pytest.raises(StopError):
        trained(tmp_path, stop=EVERY + 7)
    layer, _ = learning(nn.Linear(6, 5))
    with pytest.raises(ValueError, match=r"x\.training: of a training of 75 steps, not 10"):
        train(
            layer,
            [(layer.parameters(), 1e-2)],
            lambda i: layer(noise(2, 6)).sum(),
            10,
            tmp_path / "x.training",
        )
