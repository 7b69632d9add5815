import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch
from torch import nn

from generator.quantize.layers import QuantConv2d, QuantLinear
from generator.quantize.uniform import quantize


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
    quantized = QuantLinear.from_float(layer, weight_bits, act_bits)
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
    quantized = QuantConv2d.from_float(layer, 4, 8)
    x = rand(2, 4, 9, 8, seed=1)
    grid = quantized.act_grid(x)
    assert grid.s.shape == (2, 1, 1, 1)
    centred = quantize(x, grid).int() - grid.z.int()  # int32; the convolution is exact in float64
    sums = nn.functional.conv2d(centred.double(), quantized.integer_weight().double(), **settings)
    y = sums * grid.s * quantized.weight_scale.float().view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    assert torch.allclose(quantized(x), y.float(), rtol=1e-5, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch():
    quantized = QuantConv2d.from_float(conv(), 8, 4)
    x = rand(3, 4, 8, 8)
    x[1] *= 100
    assert torch.allclose(quantized(x)[:1], quantized(x[:1]), atol=1e-6)


@pytest.mark.parametrize("act_bits", [None, 16])
def test_without_act_bits_activations_are_untouched(act_bits):
    quantized = QuantLinear.from_float(linear(), 4, act_bits)
    x = rand(2, 7, seed=1)
    assert torch.equal(quantized(x), nn.functional.linear(x, quantized.dequantized_weight(), quantized.bias))


@pytest.mark.parametrize("weight_bits", range(2, 9))
def test_storage(weight_bits):
    state = QuantLinear.from_float(linear(n_in=7, n_out=5), weight_bits, 8).state_dict()
    packed = weight_bits <= 4
    assert set(state) == {"weight_q", "weight_scale", "bias"}
    assert state["weight_q"].shape == (5, 4 if packed else 7)
    assert state["weight_q"].dtype is (torch.uint8 if packed else torch.int8)
    assert (state["weight_scale"].shape, state["weight_scale"].dtype) == ((5, 1), torch.float16)


@pytest.mark.parametrize("weight_bits", range(2, 9))
def test_weight_errs_by_half_a_step(weight_bits):
    layer = conv()
    quantized = QuantConv2d.from_float(layer, weight_bits, None)
    error = (quantized.dequantized_weight() - layer.weight).abs().flatten(1)
    assert (error <= quantized.weight_scale.float() / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models(dtype):
    quantized = QuantLinear.from_float(linear().to(dtype), 8, 8)
    x = rand(2, 7, seed=1)
    assert quantized(x.to(dtype)).dtype is dtype
    assert torch.allclose(quantized(x.to(dtype)).float(), linear()(x), atol=0.3)


def test_casting_the_model_keeps_what_is_stored():
    quantized = QuantLinear.from_float(linear(), 4, 8)
    scale = quantized.weight_scale.clone()
    quantized.to(torch.bfloat16)
    assert quantized.weight.dtype is torch.bfloat16
    assert quantized.weight_scale.dtype is torch.float16 and torch.equal(quantized.weight_scale, scale)


def test_loading_other_integers_renews_the_float_weight():
    one, other = QuantLinear.from_float(linear(), 4, 8), QuantLinear.from_float(nn.Linear(7, 5), 4, 8)
    other.load_state_dict(one.state_dict())
    x = rand(2, 7, seed=1)
    assert torch.equal(one(x), other(x))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="act_bits"):
        QuantLinear.from_float(linear(), 8, 12)
    with pytest.raises(ValueError, match="2 to 8"):
        QuantLinear.from_float(linear(), 1, 8)
    with pytest.raises(ValueError, match="reflect"):
        QuantConv2d.from_float(conv(padding=1, padding_mode="reflect"), 8, 8)


def test_layers_print_their_bits():
    assert "W4A16" in repr(QuantLinear.from_float(linear(bias=False), 4, None))
