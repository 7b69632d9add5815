"""Every quantizer on tiny random models of the families it is for: diffusers' classes, CPU, no pictures."""

import copy
import functools
import re

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from safetensors.torch import save_model

from generator.methods import MethodError
from generator.methods.mixdq import mixdq, restructure
from generator.methods.svdquant import svdquant
from generator.quantize import (
    Dynamic,
    QuantConv2d,
    QuantLinear,
    Weights,
    quantizable,
    quantize_model,
    size_bytes,
)
from generator.quantize.clock import Clock
from generator.quantize.lowrank import LowRankLinear
from generator.quantize.split import BosLinear, SplitConv2d
from generator.quantize.timesteps import TimeTable, precalculate

UNET = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "sample_size": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
}
KEEP = {
    "sd15": ("conv_in", "conv_out", "time_embedding.*"),
    "sdxl": ("conv_in", "conv_out", "time_embedding.*", "add_embedding.*"),
    "flux": ("x_embedder", "context_embedder", "time_text_embed.*", "norm_out.*", "proj_out"),
}
FAMILIES = list(KEEP)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text(*shape):
    """Text whose first token is the same for all prompts, with an outlier."""
    states = noise(*shape, seed=1)
    states[:, 0] = noise(shape[-1], seed=2)
    states[:, 0, 3] = 50
    return states


@pytest.fixture(scope="module")
def families():
    """Each family's model and the arguments of a call."""
    torch.manual_seed(0)
    sd15 = UNet2DConditionModel(**UNET, attention_head_dim=8)
    sdxl = UNet2DConditionModel(
        **UNET,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )
    flux = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    unet_call = {"sample": noise(2, 4, 8, 8), "timestep": 500, "encoder_hidden_states": text(2, 5, 24)}
    conditions = {"text_embeds": noise(2, 32), "time_ids": torch.ones(2, 6)}
    calls = {
        "sd15": unet_call,
        "sdxl": {**unet_call, "added_cond_kwargs": conditions},
        "flux": {
            "hidden_states": noise(2, 16, 4),
            "encoder_hidden_states": text(2, 5, 24),
            "pooled_projections": noise(2, 16),
            "timestep": torch.full((2,), 0.5),
            "img_ids": torch.cartesian_prod(*map(torch.arange, (1, 4, 4))).float(),
            "txt_ids": torch.zeros(5, 3),
        },
    }
    models = {"sd15": sd15, "sdxl": sdxl, "flux": flux}
    return {name: (model.eval(), calls[name]) for name, model in models.items()}


@torch.no_grad()
def output(model, call):
    return model(**call, return_dict=False)[0]


@pytest.fixture(scope="module")
def quantized(families):
    """The model of a family under a method, made once: `quantized(method, family)`."""

    @functools.cache
    def make(method, family):
        model, call = families[family]
        if method == "w4a4":
            return quantize_model(model, Weights(4), Dynamic(4), KEEP[family])
        made = copy.deepcopy(model)
        if method == "svdquant-w4a4":
            svdquant(made, lambda: output(made, call), rank=4)
        else:
            mixdq(made, lambda: output(made, call), 8, KEEP[family])
        return made

    return make


def distance(model, other, call):
    full = output(model, call)
    return float((output(other, call) - full).square().mean() / full.square().mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_draw_in_their_order(families, quantized, family):
    """Random weights have no outliers, so SVDQuant gains less here than on trained ones."""
    model, call = families[family]
    methods = ("mixdq-w8a8", "svdquant-w4a4", "w4a4")
    found = {method: distance(model, quantized(method, family), call) for method in methods}
    assert 0 < found["mixdq-w8a8"] < found["w4a4"] / 10
    assert 0 < found["svdquant-w4a4"] < found["w4a4"]


@pytest.mark.parametrize("method", ["svdquant-w4a4", "mixdq-w8a8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_size_is_what_safetensors_writes(families, quantized, family, method, tmp_path):
    model = copy.deepcopy(quantized(method, family))
    size = size_bytes(model)
    save_model(model.half(), tmp_path / "x.safetensors")  # stores shared tensors once
    header = int.from_bytes((tmp_path / "x.safetensors").read_bytes()[:8], "little") + 8
    assert size == (tmp_path / "x.safetensors").stat().st_size - header
    assert size < size_bytes(families[family][0])


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_mixdq_takes_apart_without_changing_anything(families, family):
    model, call = families[family]
    taken = copy.deepcopy(model)
    restructure(taken, lambda: output(taken, call))
    # fp16 rounding of the stored rows of the BOS token, through the whole model.
    assert distance(model, taken, call) < 1e-6
    modules = dict(taken.named_modules())
    keys_and_values = [m for n, m in modules.items() if n.endswith(("attn2.to_k", "attn2.to_v"))]
    assert keys_and_values and all(isinstance(m, BosLinear) for m in keys_and_values)
    split = [n for n, m in modules.items() if isinstance(m, SplitConv2d)]
    assert len(split) == 2 * 4 and all(n.startswith("up_blocks.") for n in split)
    first = modules["up_blocks.1.resnets.1.conv1"]
    assert (first.first.in_channels, first.second.in_channels) == (16, 16)


def test_mixdq_takes_the_zeros_of_an_empty_negative_prompt(families):
    """With guidance SDXL sees every picture twice, once with a text of zeros, which has no BOS."""
    model, call = families["sdxl"]
    guided = {**call, "encoder_hidden_states": call["encoder_hidden_states"].clone()}
    guided["encoder_hidden_states"][0] = 0
    taken = copy.deepcopy(model)
    restructure(taken, lambda: output(taken, guided))
    assert any(isinstance(module, BosLinear) for module in taken.modules())
    assert distance(model, taken, guided) < 1e-6


def test_mixdq_refuses_a_first_token_that_depends_on_the_prompt(families):
    model, call = families["sd15"]
    taken = copy.deepcopy(model)
    with pytest.raises(MethodError, match="no BOS"):
        restructure(taken, lambda: output(taken, {**call, "encoder_hidden_states": noise(2, 5, 24)}))


def test_mixdq_gives_every_layer_its_bits(families):
    model, call = families["sd15"]
    probe = copy.deepcopy(model)
    restructure(probe, lambda: output(probe, call))
    bits = {name: (2, 4, 8)[i % 3] for i, name in enumerate(quantizable(probe, KEEP["sd15"]))}
    mixed = copy.deepcopy(model)
    mixdq(mixed, lambda: output(mixed, call), bits, KEEP["sd15"])
    for name, choice in bits.items():
        layer = mixed.get_submodule(name)
        assert (layer.weights.bits, layer.acts.bits) == (choice, 8)
        assert layer.weight_q.numel() * 8 == choice * layer.weight.numel()
    whole = {re.sub(r"\.(first|second|rest)$", "", name): 4 for name in bits}
    again = copy.deepcopy(model)
    mixdq(again, lambda: output(again, call), whole, KEEP["sd15"])
    assert {again.get_submodule(name).weights.bits for name in bits} == {4}
    assert len(whole) < len(bits)
    with pytest.raises(MethodError, match=r"differ in conv_in"):
        mixdq(copy.deepcopy(model), lambda: output(model, call), {**bits, "conv_in": 8}, KEEP["sd15"])


def test_svdquant_leaves_its_exceptions_alone(quantized):
    for family in FAMILIES:
        modules = quantized("svdquant-w4a4", family).named_modules()
        kinds = {name: type(module) for name, module in modules}
        for name, kind in kinds.items():
            if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0", ".ff.net.2", ".proj_mlp")):
                assert kind is LowRankLinear, name
            if name.endswith(("resnets.0.conv1", "resnets.0.conv2")):
                assert kind is QuantConv2d, name
            if name.endswith(("conv_shortcut", "time_emb_proj", "proj_in", "samplers.0.conv", "norm.linear")):
                assert kind not in (LowRankLinear, QuantConv2d, QuantLinear), name
    attention = quantized("svdquant-w4a4", "sd15").mid_block.attentions[0]
    self_attention, cross = attention.transformer_blocks[0].attn1, attention.transformer_blocks[0].attn2
    assert self_attention.to_q.entry is self_attention.to_k.entry is self_attention.to_v.entry
    assert cross.to_k.entry is cross.to_v.entry is not cross.to_q.entry


def test_shifts_stand_where_a_function_with_a_bound_does(quantized):
    flux = quantized("svdquant-w4a4", "flux")
    assert flux.transformer_blocks[0].ff.net[2].entry.shift == 0.1701
    assert flux.transformer_blocks[0].attn.to_q.entry.shift == 0
    sdxl = quantized("svdquant-w4a4", "sdxl")
    assert sdxl.mid_block.resnets[0].conv1.acts.shift == 0.2785
    assert sdxl.mid_block.attentions[0].transformer_blocks[0].ff.net[2].entry.shift == 0  # behind a GEGLU


def test_the_shifts_are_the_least_values_of_the_functions():
    x = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    for function, shift in (
        (torch.nn.SiLU(), 0.2785),
        (torch.nn.GELU(), 0.1701),
        (torch.nn.GELU(approximate="tanh"), 0.1701),
    ):
        assert 0 <= function(x).min() + shift < 2e-4


TIMES = {"sd15": (900, 500, 100), "sdxl": (900, 500, 100), "flux": (0.75, 0.5, 0.25)}


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("sd15", {"time_embedding", "time_emb_proj"}),
        ("sdxl", {"time_embedding"}),
        ("flux", {"timestep_embedder"}),
    ],
)
def test_tables_take_the_place_of_what_depends_on_the_timestep_alone(families, family, expected):
    """SDXL's projections also see the pooled text, FLUX's norms its sum with the timestep's embedding."""
    model, call = families[family]
    tabled = copy.deepcopy(model)
    clock = Clock(TIMES[family])
    clock.watch(tabled)
    calls = [{**call, "timestep": torch.full((2,), float(t))} for t in TIMES[family]]
    replaced = precalculate(tabled, clock, lambda: [output(tabled, each) for each in calls])
    assert {name.rpartition(".")[2] for name in replaced} == expected
    assert len(replaced) == (1 + 8 if family == "sd15" else 1)  # eight residual blocks
    for each in calls:
        assert distance(model, tabled, each) < 1e-6  # fp16 rounding of the tables
    for name in replaced:
        table = tabled.get_submodule(name)
        assert isinstance(table, TimeTable) and torch.equal(table.table, table.table.half().float())
    mixed = {**call, "timestep": torch.tensor([float(TIMES[family][2]), float(TIMES[family][0])])}
    assert distance(model, tabled, mixed) < 1e-6  # samples of one batch at different timesteps
    assert size_bytes(tabled) < size_bytes(model)


def test_tables_need_two_prompts_and_all_timesteps(families):
    model, call = families["sd15"]
    one = {"sample": call["sample"][:1], "encoder_hidden_states": call["encoder_hidden_states"][:1]}
    for timesteps, arguments in (((500,), {**call, **one}), ((900, 500), call)):
        tabled, clock = copy.deepcopy(model), Clock(timesteps)
        clock.watch(tabled)
        with pytest.raises(ValueError, match="two prompts or more at each of"):
            precalculate(tabled, clock, functools.partial(output, tabled, arguments))
