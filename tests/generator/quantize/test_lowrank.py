import copy
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import numpy as np
import torch
from torch import nn

from generator.quantize.layers import Grouped, QuantLinear, Weights
from generator.quantize.lowrank import EXPONENTS, decompose, low_rank_layers, smoothings, truncated_svd
from generator.quantize.size import size_bytes

W4, A4 = Weights(4, group=16), Grouped(4, 16)


def layer_and_tokens(seed, n_out=24, n_in=32, outliers=30.0):
    """A weight with two large directions, and tokens of which one channel is an outlier."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(n_in, n_out)
    layer.weight.data = torch.randn(n_out, n_in, generator=generator)
    up, down = torch.randn(n_out, 2, generator=generator), torch.randn(2, n_in, generator=generator)
    layer.weight.data += 5 * up @ down
    layer.bias.data = torch.randn(n_out, generator=generator)
    X = torch.randn(200, n_in, generator=generator)
    X[:, 3] *= outliers
    return layer, X


def error(made, layer, X):
    return float((made(X) - layer(X)).square().sum())


def test_there_are_39_candidates_by_the_formula():
    layer, X = layer_and_tokens(0)
    found = smoothings(layer.weight.detach(), X, torch.float16)
    assert len(found) == len(set(EXPONENTS)) == 39
    assert torch.equal(found[0], torch.ones(32))
    x, w = X.abs().amax(0).double().numpy(), layer.weight.detach().abs().amax(0).double().numpy()
    for (alpha, beta), smooth in zip(EXPONENTS, found, strict=True):
        assert np.allclose(smooth, x**alpha / w**beta, rtol=2**-10)


def test_a_channel_without_values_is_not_smoothed():
    layer, X = layer_and_tokens(0)
    X[:, 5] = 0
    assert all(smooth[5] == 1 for smooth in smoothings(layer.weight.detach(), X, torch.float16))


def test_truncated_svd_leaves_the_small_singular_values():
    """Eckart–Young: the squared error is the sum of the squares of the values left out."""
    W = layer_and_tokens(0)[0].weight.detach()
    up, down = truncated_svd(W, 3, torch.float16)
    values = np.linalg.svd(W.double().numpy(), compute_uv=False)
    assert (up.shape, down.shape) == ((24, 3), (3, 32))
    assert np.isclose((W - up @ down).square().sum(), (values[3:] ** 2).sum(), rtol=1e-3)
    assert torch.equal(up, up.half().float())
    tall, wide = truncated_svd(W.T, 3, torch.float16), (up, down)
    assert torch.allclose(tall[0] @ tall[1], (wide[0] @ wide[1]).T, atol=0.05)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), rank=st.integers(1, 4), outliers=st.sampled_from([0.0, 1.0, 30.0]))
def test_never_worse_than_plain_quantization(seed, rank, outliers):
    layer, X = layer_and_tokens(seed, 8, 16, outliers)
    layer.requires_grad_(False)
    plain = nn.Linear(16, 8, bias=False)
    plain.weight = layer.weight
    found = decompose(layer.weight, X, rank, W4, A4)
    assert found.error <= error(QuantLinear.from_float(plain, W4, A4), plain, X)


@torch.no_grad()
def test_smoothing_and_branch_each_help_on_fresh_tokens():
    layer, _ = layer_and_tokens(0)
    X, fresh = layer_and_tokens(0)[1], torch.roll(layer_and_tokens(1)[1], 0)
    (made,) = low_rank_layers([layer], X, 2, W4, A4)
    naive = error(QuantLinear.from_float(layer, W4, A4), layer, fresh)
    assert error(made, layer, fresh) < naive / 10
    made.up.zero_()  # without its branch the layer is far off: the branch does carry something
    assert error(made, layer, fresh) > naive


@torch.no_grad()
def test_the_layer_is_its_formula_and_its_error_is_the_one_found():
    """y = L₂ L₁ x̂ + Q(R) Q(x̂) + b in float64, each of its parts as it is stored."""
    layer, X = layer_and_tokens(0)
    found = decompose(layer.weight, X, 4, W4, A4)
    (made,) = low_rank_layers([layer], X, 4, W4, A4)
    assert np.isclose(error(made, layer, X), found.error, rtol=1e-3)
    state = {name: value.double() for name, value in made.state_dict().items()}
    x = X.double() / state["entry.smooth"]
    groups = x.view(-1, 2, 16)
    s = groups.abs().amax(-1, keepdim=True) / 7
    q_x = (groups / s).round() * s
    y = x @ state["entry.down"].T @ state["up"].T + layer.bias
    y = y + q_x.flatten(1) @ made.residual.dequantized_weight().double().T
    assert torch.allclose(made(X).double(), y, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_what_bf16_takes_from_the_branch_stands_in_the_residual():
    """Large directions, which bf16 (FLUX's) rounds by more than 4 bits take from the rest."""
    generator = torch.Generator().manual_seed(0)
    W, X, up, down = (
        torch.randn(shape, generator=generator) for shape in ((64, 64), (99, 64), (64, 2), (2, 64))
    )
    layer, errors = nn.Linear(64, 64, bias=False), []
    layer.weight.data = (W + 50 * up @ down).bfloat16().float()
    for dtype in (torch.float32, torch.bfloat16):
        (made,) = low_rank_layers([copy.deepcopy(layer).to(dtype)], X.to(dtype), 4, W4, A4)
        branch = made.up.double() @ made.entry.down.double()
        stored = (made.residual.dequantized_weight() + branch) / made.entry.smooth.double()
        errors.append(float((stored - layer.weight).square().mean().sqrt()))
    assert errors[1] < 1.5 * errors[0]


@torch.no_grad()
def test_shifted_inputs_are_quantized_without_sign():
    """Inputs behind a GELU: a shifted layer has the same output, on a grid twice as fine."""
    layer, X = layer_and_tokens(0, outliers=1.0)
    X = nn.functional.gelu(X)
    (signed,) = low_rank_layers([layer], X, 4, Weights(8, 16), Grouped(4, 16))
    (shifted,) = low_rank_layers([layer], X, 4, Weights(8, 16), Grouped(4, 16, 0.1701))
    assert error(shifted, layer, X) < 0.5 * error(signed, layer, X)
    assert error(shifted, layer, X) < 1e-2 * float(layer(X).square().sum())


@torch.no_grad()
def test_layers_with_one_input_share_what_belongs_to_it():
    (q, X), (k, _) = layer_and_tokens(0), layer_and_tokens(1)
    both = low_rank_layers([q, k], X, 4, W4, A4)
    assert both[0].entry is both[1].entry
    stacked = nn.Linear(32, 48)
    stacked.weight.data, stacked.bias.data = torch.cat([q.weight, k.weight]), torch.cat([q.bias, k.bias])
    (one,) = low_rank_layers([stacked], X, 4, W4, A4)
    assert torch.allclose(torch.cat([made(X) for made in both], 1), one(X), atol=1e-3)
    # Two bytes: 32 λ, 4 · 32 of L₁, 48 · 4 of L₂, 48 · 2 scales, 48 biases; half a byte: 48 · 32 weights.
    assert size_bytes(nn.ModuleList(both)) == 2 * (32 + 4 * 32 + 48 * 4 + 48 * 2 + 48) + 48 * 16


def test_bad_input_is_refused():
    layer, X = layer_and_tokens(0)
    with pytest.raises(ValueError, match="do not fit"):
        decompose(layer.weight, X[:, 1:], 4, W4, A4)
    with pytest.raises(ValueError, match="rank must be 1 to 24"):
        decompose(layer.weight, X, 25, W4, A4)
