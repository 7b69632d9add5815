import copy
import itertools
import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch
from torch import nn

from generator.quantize import Weights
from generator.quantize.rounding import Rounding, round_by_blocks
from generator.quantize.uniform import snap


def noise(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_begins_at_the_weight_and_ends_beside_it():
    layer = nn.Linear(40, 8)
    rounding, x = Rounding(copy.deepcopy(layer), Weights(4)), noise(5, 40)
    assert torch.allclose(rounding(x), layer(x), atol=1e-5)
    decided, grid = rounding.decided()
    rows = layer.weight.detach().unsqueeze(1)
    assert torch.allclose(decided.weight.unsqueeze(1), snap(rows, grid))  # where nothing was learned: nearest
    with torch.no_grad():
        rounding.v.neg_()
    rounding.decided()
    assert ((rounding.layer.weight - layer.weight).abs() <= grid.s.float().squeeze(-1) * 1.001).all()


def test_indecision_ends_where_every_weight_has_decided():
    rounding = Rounding(nn.Linear(4, 2), Weights(4))
    with torch.no_grad():
        rounding.v.fill_(0)
        assert float(rounding.indecision(2.0)) == 8
        rounding.v.fill_(9)
        assert float(rounding.indecision(2.0)) == 0


class Two(nn.Module):
    """Two layers, the second with a sibling in its block, registered against the order of the data."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
        self.first = nn.Linear(6, 6)
        self.never = nn.Linear(6, 6)

    def forward(self, sample):
        return self.block(self.first(sample))


def block_of(name):
    return name.split(".")[0]


def test_learned_rounding_is_near_the_best_of_all_and_better_than_nearest():
    """Eight outputs of six correlated inputs: for each, all 2⁶ roundings can be tried."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8, bias=False)).requires_grad_(False)
    x = noise(64, 1) + 0.3 * noise(64, 6, seed=4)
    teacher, weights = copy.deepcopy(model), Weights(3)
    start = Rounding(copy.deepcopy(model[0]), weights)

    def errors(weight):
        return (x @ (weight - teacher[0].weight).T).square().mean(0)

    nearest = errors(snap(teacher[0].weight.unsqueeze(1), start.grid).squeeze(1)).sum()
    ways = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)))
    best = torch.stack([errors(start._weight(up.expand(8, 1, 6))) for up in ways]).amin(0).sum()
    found = round_by_blocks(model, teacher, ["0"], block_of, weights, [{"input": x}], 1500)
    layer, grid = found["0"]
    assert best <= errors(layer.weight).sum() < min(1.2 * best, 0.7 * nearest)
    assert torch.allclose(layer.weight, snap(layer.weight.unsqueeze(1), grid).squeeze(1))


def test_blocks_are_learned_in_the_order_of_the_data():
    model = Two().requires_grad_(False)
    teacher, calls = copy.deepcopy(model), [{"sample": noise(8, 6, seed=i)} for i in range(2)]
    layers = ["block.0", "block.2", "first"]
    found = round_by_blocks(model, teacher, layers, block_of, Weights(4), calls, 5)
    assert list(found) == ["first", "block.0", "block.2"]
    assert all(model.get_submodule(name) is found[name][0] for name in layers)
    with pytest.raises(ValueError, match="'never' is never called"):
        round_by_blocks(model, teacher, [*layers, "never"], block_of, Weights(4), calls, 5)
