import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import numpy as np
import torch
from torch import nn

from generator.errors import InputError
from generator.quantize.observe import VALUES, input_ranges, input_tokens

CALLS = 3


@pytest.fixture
def seen():
    """A model, what runs it, and all that arrives at its second layer: a bell with one far outlier a call."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), nn.Linear(50, 2))
    inputs = torch.randn(CALLS, 2, 20, 50) + 0.5
    inputs[:, 0, 0, 0] = 30 + torch.arange(CALLS)
    return model, lambda: [model(x) for x in inputs], inputs


def test_min_max_is_exact(seen):
    model, run, inputs = seen
    assert input_ranges(model, ["1"], run) == {"1": (float(inputs.min()), 32.0)}


def test_percentiles_leave_the_outermost_thousandth_outside(seen):
    model, run, inputs = seen
    assert inputs[0].numel() <= VALUES  # so that all of them are looked at
    ((low, high),) = input_ranges(model, ["1"], run, "percentile").values()
    expected = np.quantile(inputs.numpy(), [0.0005, 0.9995])
    assert (low, high) == pytest.approx(expected, abs=(high - low) / 255)


def test_mse_is_the_best_share_of_the_whole_range(seen):
    """By a plain second computation: every share of [least, largest], rounded and clipped by hand."""
    model, run, inputs = seen
    ((low, high),) = input_ranges(model, ["1"], run, "mse", bits=4).values()
    x = inputs.double().numpy()

    def error(low, high):
        s = (high - low) / 15
        z = np.round(-low / s)
        return np.square((np.clip(np.round(x / s) + z, 0, 15) - z) * s - x).sum()

    errors = {share: error(share * x.min() / 100, share * x.max() / 100) for share in range(100, 28, -2)}
    assert error(low, high) == pytest.approx(min(errors.values()), rel=1e-3)
    assert error(low, high) < 0.6 * errors[100]


def test_what_cannot_be_calibrated_is_named(seen):
    model, run, _ = seen
    with pytest.raises(ValueError, match="rule 'best'"):
        input_ranges(model, ["1"], run, "best")
    for look in (input_ranges, input_tokens):
        with pytest.raises(InputError, match="layer '1' is never called"):
            look(model, ["1"], lambda: None)
        with pytest.raises(InputError, match="layer '1' gets values that are not finite"):
            look(model, ["1"], lambda: model(torch.full((1, 50), torch.inf)))


def test_tokens_are_rows_of_what_arrives(seen):
    model, run, inputs = seen
    tokens = input_tokens(model, ["1"], run)["1"]
    assert tokens.shape == (CALLS * 40, 50)
    assert {row.numpy().tobytes() for row in tokens} == {x.numpy().tobytes() for x in inputs.flatten(0, -2)}
