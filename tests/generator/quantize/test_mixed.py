import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import numpy as np
import torch
from torch import nn

from generator.quantize import Weights, quantized
from generator.quantize.mixed import (
    allocate,
    extremes,
    fisher_sensitivities,
    mean_bits,
    sensitivities,
    sqnr,
)


@settings(max_examples=50)
@given(data=st.data(), layers=st.integers(1, 5), mean=st.floats(2, 8))
def test_allocation_is_the_best_of_all(data, layers, mean):
    bits = (2, 4, 8)
    score = st.floats(-10, 50, allow_nan=False)
    scores = {f"l{i}": {b: data.draw(score) for b in bits} for i in range(layers)}
    sizes = {name: data.draw(st.integers(1, 10_000)) for name in scores}
    chosen = allocate(scores, sizes, mean)
    assert set(chosen) == set(scores) and mean_bits(chosen, sizes) <= mean * (1 + 1e-6)
    best = max(
        sum(scores[name][b] for name, b in zip(scores, choice, strict=True))
        for choice in itertools.product(bits, repeat=layers)
        if sum(b * n for b, n in zip(choice, sizes.values(), strict=True)) <= mean * sum(sizes.values())
    )
    assert sum(scores[name][b] for name, b in chosen.items()) >= best - 1e-6 * (1 + abs(best))


def test_small_differences_between_scores_near_one_count():
    """As SSIMs are; all but the last, l23, want their eight bits."""
    scores = {f"l{i}": {4: 1 - 2e-5, 8: 1.0} for i in range(24)}
    scores["l23"] = {4: 1 - 1e-6, 8: 1.0}
    chosen = allocate(scores, dict.fromkeys(scores, 100), 8 - 4 / 24)
    assert [name for name, bits in chosen.items() if bits == 4] == ["l23"]


def test_a_budget_that_cannot_be_met_is_refused():
    with pytest.raises(ValueError, match="mean of 3"):
        allocate({"a": {4: 1.0, 8: 2.0}}, {"a": 10}, 3)


def test_more_budget_never_scores_less():
    rng = np.random.default_rng(0)
    scores = {f"l{i}": dict(zip((2, 4, 8), np.sort(rng.random(3)), strict=True)) for i in range(12)}
    sizes = {name: int(n) for name, n in zip(scores, rng.integers(1, 100, 12), strict=True)}
    totals = [
        sum(scores[name][b] for name, b in allocate(scores, sizes, mean).items()) for mean in (2, 3, 4, 5, 8)
    ]
    assert totals == sorted(totals)


def test_sqnr_by_hand():
    assert sqnr(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) == pytest.approx(20.0)  # 25 / 0.25


def test_a_layer_that_changes_nothing_gets_the_fewest_bits_the_others_leave():
    """Equal outputs are at float32's own noise: a number that JSON and the program can take."""
    still = sqnr(torch.ones(2), torch.ones(2))
    assert still == pytest.approx(20 * np.log10(2.0**24))
    scores = {"still": {4: still, 8: still}, "a": {4: 20.0, 8: 40.0}}
    assert allocate(scores, {"still": 10, "a": 10}, 6) == {"still": 4, "a": 8}


@torch.no_grad()
def test_sensitivities_are_of_one_layer_at_a_time():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    before, x = [*model], torch.randn(5, 8)
    target = model(x)

    def make(name, bits):
        return quantized(before[int(name)], Weights(bits), None)

    found = sensitivities(model, ["0", "1"], (2, 4, 8), make, lambda: sqnr(target, model(x)))
    assert [*model] == before
    for name in ("0", "1"):
        layers = list(before)
        layers[int(name)] = make(name, 4)
        assert found[name][4] == sqnr(target, nn.Sequential(*layers)(x))
        assert found[name][2] < found[name][4] < found[name][8]


def test_fisher_sensitivities_are_those_of_the_closed_form():
    """Two linear layers, least squares on three samples, in float64 by hand."""
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
    X, Y = rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
    slopes = {"a": [], "b": []}
    for x, y in zip(X, Y, strict=True):  # L_m = |B A x − y|²
        back = 2 * (B @ A @ x - y)
        slopes["a"].append((np.outer(B.T @ back, x) * A).sum())
        slopes["b"].append((np.outer(back, A @ x) * B).sum())
    weights = {name: torch.tensor(W, requires_grad=True) for name, W in (("a", A), ("b", B))}
    losses = (
        (weights["b"] @ weights["a"] @ torch.tensor(x) - torch.tensor(y)).square().sum()
        for x, y in zip(X, Y, strict=True)
    )
    found = fisher_sensitivities(weights, losses)
    for name, each in slopes.items():
        assert found[name] == pytest.approx(abs(np.mean(each) - 0.5 * np.mean(each) ** 2))


def test_extremes_are_five_percent_at_either_end():
    scores = {f"l{i}": float((7 * i) % 260) for i in range(260)}  # SD v1-4 has so many, and 13 of each
    most, least = extremes(scores, 0.05)
    assert {scores[name] for name in most} == set(range(247, 260))
    assert {scores[name] for name in least} == set(range(13))
    assert extremes({"a": 1.0, "b": 2.0, "c": 0.0}, 0.05) == (["b"], ["c"])
