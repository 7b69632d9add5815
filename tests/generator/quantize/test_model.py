import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("diffusers")
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from generator.errors import InputError
from generator.quantize import Dynamic, QuantConv2d, QuantLinear, Weights, quantize_model

SKIP = ("conv_in", "conv_out", "time_embedding.*")


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()


@torch.no_grad()
def output(model):
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    return model(x, 500, text).sample


def test_more_bits_come_closer_to_float(unet):
    full = output(unet)
    errors = [
        (output(quantize_model(unet, Weights(w), acts, SKIP)) - full).square().mean().item()
        for w, acts in [(8, None), (8, Dynamic(8)), (4, Dynamic(8)), (4, Dynamic(4))]
    ]
    assert errors == sorted(errors)
    assert errors[0] > 0 and errors[1] < 0.01 * errors[-1]


def test_all_but_the_skipped_layers_are_quantized(unet):
    quantized = quantize_model(unet, Weights(4), Dynamic(8), SKIP)
    kinds = {name: type(layer) for name, layer in quantized.named_modules()}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            kept = name in ("conv_in", "conv_out") or name.startswith("time_embedding.")
            quant = QuantLinear if isinstance(layer, nn.Linear) else QuantConv2d
            assert kinds[name] is (type(layer) if kept else quant), name


def test_the_original_stays_and_the_copy_is_deterministic(unet):
    before = output(unet)
    first, second = (quantize_model(unet, Weights(4), Dynamic(4)) for _ in range(2))
    assert torch.equal(output(unet), before)
    assert torch.equal(output(first), output(second))


def test_a_shared_layer_stays_shared():
    layer = nn.Linear(3, 3)
    quantized = quantize_model(nn.ModuleDict({"a": layer, "b": layer}), Weights(8), None)
    assert quantized["a"] is quantized["b"]


def test_nothing_stays_in_full_precision_silently(unet):
    with pytest.raises(InputError, match="keep: 'conv_inn' matches no"):
        quantize_model(unet, Weights(8), None, ["conv_inn"])
    with pytest.raises(InputError, match="left to quantize"):
        quantize_model(unet, Weights(8), None, ["*"])
    with pytest.raises(InputError, match="left to quantize"):
        quantize_model(nn.ReLU(), Weights(8), None)
