import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch
from torch import nn

from generator.quantize import Static, Weights, quantized
from generator.quantize.split import BosLinear, SplitConv2d


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [1, 4])
@torch.no_grad()
def test_split_convolution_is_the_convolution(bias, channels):
    torch.manual_seed(0)
    layer, x = nn.Conv2d(5, 6, 3, stride=2, padding=1, bias=bias), torch.randn(2, 5, 7, 8)
    split = SplitConv2d.from_float(layer, channels)
    assert torch.allclose(split(x), layer(x), atol=1e-6)
    assert sum(p.numel() for p in split.parameters()) == sum(p.numel() for p in layer.parameters())


@torch.no_grad()
def test_each_half_has_a_grid_of_its_own():
    """A skip 100 times larger than the rest drowns it, unless it is split off."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(4, 6, 1), torch.randn(2, 4, 8, 8)
    x[:, 2:] *= 100
    layer.weight.data[:, 2:] /= 100
    split = SplitConv2d.from_float(layer, 2)

    def error(layer_, parts):
        grids = [Static(8, float(part.min()), float(part.max())) for part in parts]
        if len(parts) == 1:
            return (quantized(layer, Weights(8), grids[0])(x) - layer(x)).square().mean()
        halves = [
            quantized(h, Weights(8), g) for h, g in zip((split.first, split.second), grids, strict=True)
        ]
        return (SplitConv2d(*halves, 2)(x) - layer(x)).square().mean()

    assert error(split, x.split(2, 1)) < 0.01 * error(layer, [x])


def test_a_place_outside_the_channels_is_refused():
    for channels in (0, 5):
        with pytest.raises(ValueError, match="cannot be split"):
            SplitConv2d.from_float(nn.Conv2d(5, 6, 3), channels)


@torch.no_grad()
def test_the_bos_token_is_exact_whatever_happens_to_the_rest():
    torch.manual_seed(0)
    layer, text = nn.Linear(6, 4), torch.randn(3, 5, 6)
    text[:, 0] = 800 * torch.randn(6)
    bos = BosLinear.from_float(layer, text[0, 0])
    assert torch.allclose(bos(text), layer(text), rtol=2**-10)
    bos.rest = quantized(layer, Weights(2), Static(2, -1, 1))
    assert torch.equal(bos(text)[:, 0], bos.first.expand(3, -1))
    assert torch.equal(bos(text)[:, 1:], bos.rest(text)[:, 1:])
    assert torch.equal(bos.first, bos.first.half().float())


@torch.no_grad()
def test_a_text_of_zeros_has_no_bos_token():
    """SDXL's empty negative prompt: the layer gives its bias everywhere, quantized or not."""
    torch.manual_seed(0)
    layer, text = nn.Linear(6, 4), torch.randn(3, 5, 6)
    text[:, 0] = 800 * torch.randn(6)
    bos = BosLinear.from_float(layer, text[0, 0])
    text[1] = 0
    assert torch.allclose(bos(text), layer(text), rtol=2**-10)
    bos.rest = quantized(layer, Weights(4), Static(8, -3, 2))
    assert torch.equal(bos(text)[1], layer.bias.expand(5, -1))
    assert torch.equal(bos(text)[[0, 2], 0], bos.first.expand(2, -1))
