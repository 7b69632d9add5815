"""bitsandbytes and torchao, against their own functions and by hand."""

import importlib
import os
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from generator.fidelity import psnr
from generator.methods import MethodError, all_methods
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.quantize import size_bytes
from generator.sweep import render

if not os.environ.get("CI"):  # in CI a missing library is a failure
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("torchao")
import bitsandbytes

BASE, METHODS = MODELS["shapes"], all_methods()
PROMPTS = shapes_prompts("heldout", 4)
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def full():
    return render(BASE.load(), BASE, PROMPTS)


@pytest.mark.parametrize(
    ("method", "least"), [("bnb-nf4", 40), ("bnb-fp4", 40), ("bnb-int8", 40), ("torchao-w8a8", 40)]
)
def test_linear_layers_alone_are_quantized(full, method, least):
    pipeline = BASE.load()
    plain = {name: type(module) for name, module in pipeline.unet.named_modules()}
    METHODS[method].apply(pipeline, BASE)
    for name, module in pipeline.unet.named_modules():
        if plain.get(name) is not nn.Linear or name.startswith(("time_embedding", "add_embedding")):
            assert type(module) is plain.get(name, type(module)), name
        else:
            assert type(module.weight) is not nn.Parameter, name
    size = size_bytes(pipeline.unet)
    pictures = render(pipeline, BASE, PROMPTS)
    assert least < psnr(full, pictures).mean() < 100
    assert size_bytes(pipeline.unet) == size  # neither drawing nor looking changes what is stored
    assert torch.equal(render(pipeline, BASE, PROMPTS), pictures)


def test_nf4_is_the_grid_of_bitsandbytes_itself():
    pipeline = BASE.load()
    weight = pipeline.unet.get_submodule(LAYER).weight.detach().clone()
    METHODS["bnb-nf4"].apply(pipeline, BASE)
    layer = pipeline.unet.get_submodule(LAYER)
    packed, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
    assert torch.equal(layer.weight.data.flatten(), packed.flatten())
    expected = bitsandbytes.functional.dequantize_4bit(packed, state)
    x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(0))
    assert torch.allclose(layer(x), nn.functional.linear(x, expected, layer.bias), atol=1e-5)


def test_the_bytes_of_nf4_are_counted_by_hand(tmp_path):
    """A block of 64 weights: 32 bytes and a float32 scale; a table of 16 float32; a description."""
    pipeline = BASE.load()
    METHODS["bnb-nf4"].apply(pipeline, BASE)
    layer = pipeline.unet.get_submodule(LAYER)
    state, n = layer.state_dict(), 128 * 128
    description = state["weight.quant_state.bitsandbytes__nf4"].numel()
    assert size_bytes(layer) == n // 2 + 4 * n // 64 + 4 * 16 + description + (
        2 * 128 if "bias" in state else 0
    )
    save_file(
        {name: tensor.half() if name == "bias" else tensor for name, tensor in state.items()}, tmp_path / "x"
    )
    header = int.from_bytes((tmp_path / "x").read_bytes()[:8], "little") + 8
    assert size_bytes(layer) == (tmp_path / "x").stat().st_size - header


def test_torchao_is_int8_by_output_channel():
    pipeline = BASE.load()
    weight = pipeline.unet.get_submodule(LAYER).weight.detach().clone()
    METHODS["torchao-w8a8"].apply(pipeline, BASE)
    stored = pipeline.unet.get_submodule(LAYER).weight
    assert stored.qdata.dtype == torch.int8
    scale = weight.abs().amax(1) / 127.5
    assert torch.allclose(stored.scale.flatten(), scale, rtol=0.01)
    inner = sum(
        part.numel() * part.element_size() for part in (stored.qdata, stored.scale, stored.zero_point)
    )
    assert size_bytes(nn.ParameterDict({"w": stored})) == inner


def test_what_is_missing_is_named(monkeypatch):
    if not torch.cuda.is_available():
        with pytest.raises(MethodError, match=r"compute capability 8\.9 or more; here is no GPU"):
            METHODS["torchao-fp8"].apply(BASE.load(), BASE)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    importlib.invalidate_caches()
    with pytest.raises(MethodError, match=r"bitsandbytes cannot be imported .*pairstudy\[libraries\]"):
        METHODS["bnb-nf4"].apply(BASE.load(), BASE)
    with pytest.raises(MethodError, match="bitsandbytes"):  # before a run begins
        METHODS["bnb-nf4"].check(BASE)


def test_nunchaku_says_what_it_lacks(monkeypatch):
    apply = METHODS["nunchaku-w4a4"].apply
    with pytest.raises(MethodError, match="no ready checkpoint of shapes; there are those of sdxl-turbo"):
        apply(BASE.load(), BASE)
    turbo = SimpleNamespace(id="sdxl-turbo", backbone="unet")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))  # Hopper
    with pytest.raises(MethodError, match=r"capability 7\.5, 8\.0, 8\.6, 8\.9, 12\.0; here is 9\.0"):
        apply(None, turbo)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    monkeypatch.setitem(sys.modules, "nunchaku", None)
    with pytest.raises(MethodError, match=r"nunchaku.* cannot be imported"):
        apply(None, turbo)


@pytest.mark.parametrize(("capability", "precision"), [((8, 9), "int4"), ((12, 0), "fp4")])
def test_nunchakus_checkpoint_takes_the_place_of_the_backbone(monkeypatch, capability, precision):
    """A stand-in for the package: there is no GPU here that it runs on."""
    asked, new = [], nn.Linear(2, 2)
    kind = SimpleNamespace(from_pretrained=lambda name: asked.append(name) or new)
    module = SimpleNamespace(NunchakuFluxTransformer2dModel=kind)
    monkeypatch.setitem(sys.modules, "nunchaku", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    pipeline = SimpleNamespace(transformer=SimpleNamespace(device=torch.device("cpu")))
    METHODS["nunchaku-w4a4"].apply(pipeline, SimpleNamespace(id="flux-schnell", backbone="transformer"))
    assert pipeline.transformer is new
    assert asked == [f"nunchaku-tech/nunchaku-flux.1-schnell/svdq-{precision}_r32-flux.1-schnell.safetensors"]
