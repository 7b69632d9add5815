import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch
from torch import nn

from generator.quantize.layers import Dynamic, Grouped, QuantConv2d, QuantLinear, Static, Weights
from generator.quantize.uniform import dequantize, in_groups, quantize


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(n_in=7, n_out=5, bias=True):
    layer = nn.Linear(n_in, n_out, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(rand(*parameter.shape))
    return layer


def conv(**settings):
    layer = nn.Conv2d(4, 6, 3, **settings)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(rand(*parameter.shape))
    return layer


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(8, 8), (4, 8), (4, 4)])
def test_linear_equals_integer_accumulation(weight_bits, act_bits):
    """y = s_x s_w (Σ q_x q_w − z_x Σ q_w) + b with int32 sums."""
    layer = linear()
    quantized = QuantLinear.from_float(layer, Weights(weight_bits), Dynamic(act_bits))
    x = rand(2, 3, 7, seed=1)
    grid = quantized.act_grid(x)
    q_x, q_w = quantize(x, grid).int(), quantized.integer_weight().int()
    sums = torch.einsum("bti,oi->bto", q_x, q_w) - grid.z.int() * q_w.sum(1, dtype=torch.int32)
    assert sums.dtype is torch.int32
    y = sums * grid.s * quantized.weight_scale.float().T + layer.bias
    assert torch.allclose(quantized(x), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"padding": 1}, {"stride": 2}, {"groups": 2, "padding": 2, "dilation": 2}]
)
def test_conv_equals_integer_accumulation(settings):
    """Padding writes z_x into the integer image: a real zero is on the grid."""
    layer = conv(**settings)
    quantized = QuantConv2d.from_float(layer, Weights(4), Dynamic(8))
    x = rand(2, 4, 9, 8, seed=1)
    grid = quantized.act_grid(x)
    assert grid.s.shape == (2, 1, 1, 1)
    centred = quantize(x, grid).int() - grid.z.int()  # int32; the convolution is exact in float64
    sums = nn.functional.conv2d(centred.double(), quantized.integer_weight().double(), **settings)
    y = sums * grid.s * quantized.weight_scale.float().view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    assert torch.allclose(quantized(x), y.float(), rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(
    bits=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    n_in=st.integers(1, 20),
    group=st.none() | st.integers(1, 8),
    symmetric=st.booleans(),
    acts=st.sampled_from([Dynamic, lambda bits: Static(bits, -1.0, 2.0)]),
    seed=st.integers(0, 10**6),
)
def test_simulated_is_integer_arithmetic(bits, n_in, group, symmetric, acts, seed):
    """y = s_x Σ_g s_w,g Σ_i (q_x − z_x)(q_w − z_w) + b with int64 sums, whatever the grids."""
    layer = nn.Linear(n_in, 5)
    layer.weight.data = rand(5, n_in, seed=seed)
    quantized = QuantLinear.from_float(layer, Weights(bits[0], group, symmetric), acts(bits[1]))
    x = rand(2, 3, n_in, seed=seed + 1)
    grid = quantized.act_grid(x)
    q_x = in_groups((quantize(x, grid).long() - grid.z.long()), group or n_in)
    zeros = 0 if symmetric else quantized.weight_zero.long().repeat_interleave(group or n_in, 1)[:, :n_in]
    q_w = in_groups(quantized.integer_weight().long() - zeros, group or n_in)
    sums = torch.einsum("btgi,ogi->btog", q_x, q_w)
    assert sums.dtype is torch.int64
    y = grid.s.double() * (sums * quantized.weight_scale.double()).sum(-1) + layer.bias.double()
    assert torch.allclose(quantized(x).double(), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [None, 0.3])
def test_grouped_linear_equals_integer_accumulation(shift):
    """y = Σ_g s_x,g s_w,g Σ_i q_x q_w + b; a shifted layer accumulates x + shift, less W^ shift."""
    layer = linear(n_in=10)
    quantized = QuantLinear.from_float(layer, Weights(4, group=4), Grouped(4, 4, shift))
    x = rand(2, 3, 10, seed=1) if shift is None else rand(2, 3, 10, seed=1).clamp(min=-shift)
    groups = in_groups(x + (shift or 0), 4)
    grid = quantized.act_grid(groups)
    assert (grid.z == 0).all() and grid.s.shape == (2, 3, 3, 1)
    assert (grid.q_min, grid.q_max) == ((-7, 7) if shift is None else (0, 15))
    q_x, q_w = quantize(groups, grid).int(), in_groups(quantized.integer_weight(), 4).int()
    sums = torch.einsum("btgi,ogi->btgo", q_x, q_w)
    assert sums.dtype is torch.int32
    y = (sums * grid.s * quantized.weight_scale.float().T).sum(2) + layer.bias
    y -= (shift or 0) * quantized.dequantized_weight().sum(1)
    assert torch.allclose(quantized(x), y, rtol=1e-5, atol=1e-5)


def test_grouped_convolution_is_the_grouped_linear_at_every_pixel():
    """As patches: a 3×3 convolution is a sum of nine Linear layers over shifted pixels, padding included."""
    shift, layer = 0.25, conv(padding=1)
    quantized = QuantConv2d.from_float(layer, Weights(4, group=2), Grouped(4, 2, shift))
    x = rand(1, 4, 5, 6, seed=1).clamp(min=-shift)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    y = layer.bias.expand(5, 6, 6)
    for i in range(3):
        for j in range(3):
            place = nn.Linear(4, 6, bias=False)
            place.weight.data = layer.weight[:, :, i, j].detach().clone()
            one = QuantLinear.from_float(place, Weights(4, group=2), Grouped(4, 2, shift))
            y = y + one(padded[0, :, i : i + 5, j : j + 6].permute(1, 2, 0))
    assert torch.allclose(quantized(x)[0], y.permute(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("group", [None, 2])
def test_asymmetric_weights(group):
    """ŵ = (q − z) s of the stored numbers, and an error of half a step, where all weights are positive."""
    layer = conv()
    layer.weight.data.abs_().add_(1)
    quantized = QuantConv2d.from_float(layer, Weights(4, group=group, symmetric=False), None)
    error = (quantized.dequantized_weight() - layer.weight).abs().max()
    assert error <= quantized.weight_scale.max() / 2 * (1 + 1e-5)
    assert quantized.integer_weight().dtype is torch.uint8 and (quantized.weight_zero == 0).all()
    assert quantized.integer_weight().max() == 15


def test_static_grid_equals_integer_accumulation_and_clips():
    layer = linear()
    quantized = QuantLinear.from_float(layer, Weights(8), Static(8, -1.0, 2.0))
    x = rand(2, 3, 7, seed=1)
    grid = quantized.act_grid(x)
    sums = torch.einsum(
        "bti,oi->bto", quantize(x, grid).int() - grid.z.int(), quantized.integer_weight().int()
    )
    y = sums * grid.s.float() * quantized.weight_scale.float().T + layer.bias
    assert torch.allclose(quantized(x), y, rtol=1e-5, atol=1e-5)
    ends = dequantize(quantize(torch.tensor([-9.0, 0.0, 9.0]), grid), grid)
    assert torch.allclose(ends, torch.tensor([-1.0, 0.0, 2.0]), atol=float(grid.s)) and ends[1] == 0


def test_an_image_does_not_depend_on_its_batch():
    quantized = QuantConv2d.from_float(conv(), Weights(8), Dynamic(4))
    x = rand(3, 4, 8, 8)
    x[1] *= 100
    assert torch.allclose(quantized(x)[:1], quantized(x[:1]), atol=1e-6)


def test_without_acts_activations_are_untouched():
    quantized = QuantLinear.from_float(linear(), Weights(4), None)
    x = rand(2, 7, seed=1)
    assert torch.equal(quantized(x), nn.functional.linear(x, quantized.dequantized_weight(), quantized.bias))


@pytest.mark.parametrize("weight_bits", range(2, 9))
def test_storage(weight_bits):
    state = QuantLinear.from_float(linear(n_in=7, n_out=5), Weights(weight_bits), Dynamic(8)).state_dict()
    assert {name: (tuple(x.shape), x.dtype) for name, x in state.items()} == {
        "weight_q": ((5, -(-7 * weight_bits // 8)), torch.uint8),
        "weight_scale": ((5, 1), torch.float16),
        "bias": ((5,), torch.float32),
    }


def test_storage_of_groups_zeros_and_static_grids():
    weights = Weights(4, group=3, symmetric=False)
    state = QuantConv2d.from_float(conv(), weights, Static(8, -1.0, 2.0)).state_dict()
    rows = 6 * 3 * 3  # output channels and places in the kernel; 4 input channels are groups of 3 and 1
    assert {name: (tuple(x.shape), x.dtype) for name, x in state.items()} == {
        "weight_q": ((rows, 2), torch.uint8),
        "weight_scale": ((rows, 2), torch.float16),
        "weight_zero": ((rows, 2), torch.uint8),
        "act_scale": ((), torch.float16),
        "act_zero": ((), torch.uint8),
        "bias": ((6,), torch.float32),
    }


@pytest.mark.parametrize("weight_bits", range(2, 9))
def test_weight_errs_by_half_a_step(weight_bits):
    layer = conv()
    quantized = QuantConv2d.from_float(layer, Weights(weight_bits), None)
    error = (quantized.dequantized_weight() - layer.weight).abs().flatten(1)
    assert (error <= quantized.weight_scale.float() / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models(dtype):
    quantized = QuantLinear.from_float(linear().to(dtype), Weights(8), Dynamic(8))
    x = rand(2, 7, seed=1)
    assert quantized(x.to(dtype)).dtype is dtype
    assert torch.allclose(quantized(x.to(dtype)).float(), linear()(x), atol=0.3)


def test_casting_the_model_keeps_what_is_stored():
    quantized = QuantLinear.from_float(linear(), Weights(4), Static(8, -1.0, 1.0))
    before = {name: value.clone() for name, value in quantized.state_dict().items() if name != "bias"}
    quantized.to(torch.bfloat16)
    assert quantized.weight.dtype is torch.bfloat16
    for name, value in before.items():
        after = quantized.state_dict()[name]
        assert after.dtype is value.dtype and torch.equal(after, value)
    quantized.float()
    assert torch.equal(quantized.weight, quantized.dequantized_weight())


def test_loading_other_integers_renews_the_float_weight():
    one, other = (QuantLinear.from_float(x, Weights(4), Dynamic(8)) for x in (linear(), nn.Linear(7, 5)))
    other.load_state_dict(one.state_dict())
    x = rand(2, 7, seed=1)
    assert torch.equal(one(x), other(x))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="activations have 2 to 8 bits, not 12"):
        QuantLinear.from_float(linear(), Weights(8), Dynamic(12))
    with pytest.raises(ValueError, match="2 to 8"):
        QuantLinear.from_float(linear(), Weights(1), None)
    with pytest.raises(ValueError, match="reflect"):
        QuantConv2d.from_float(conv(padding=1, padding_mode="reflect"), Weights(8), None)
    with pytest.raises(ValueError, match="no activation grid"):
        QuantLinear.from_float(linear(), Weights(8), None).act_grid(rand(2, 7))


def test_layers_print_their_bits():
    assert "W4A16" in repr(QuantLinear.from_float(linear(bias=False), Weights(4), None))
