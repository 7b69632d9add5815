"""Serial-to-Parallel and Q-Diffusion: whole methods, on a tiny U-Net and (the commands) on shapes."""

import copy
import functools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from diffusers import UNet2DConditionModel
from torch import nn

from generator.cli import cli
from generator.latents import Latents
from generator.methods import MethodError, all_methods, qdiffusion, serial_parallel, spent_on
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.quantize import Dynamic, QuantConv2d, QuantLinear, Weights, quantize_model, size_bytes
from generator.quantize.checkpoint import CheckpointError, load_quantized, read_notes, save_quantized
from generator.quantize.split import SplitConv2d
from generator.quantize.timesteps import TimeTable
from generator.sweep import render

BASE, KEEP = MODELS["shapes"], ("conv_in", "conv_out", "time_embedding.*")
TIMES = (900.0, 500.0, 100.0)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    model = UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=24,
        attention_head_dim=8,
    )
    return model.half().float().requires_grad_(False)  # nothing that a file in fp16 could not hold


@pytest.fixture(scope="module")
def latents():
    rows = {("sample",): noise(24, 4, 8, 8), ("encoder_hidden_states",): noise(24, 5, 24, seed=1)}
    return Latents(rows, {}, torch.tensor(TIMES).repeat(8), TIMES)


@torch.no_grad()
def outputs(model, latents):
    return model(**latents.batch(torch.arange(len(latents))))[0]


def quantized_layers(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, QuantLinear | QuantConv2d)}


@pytest.fixture(scope="module")
def trained(teacher, latents, tmp_path_factory):
    """The students before (one step at a rate of 0) and after training, and the notes of the second."""
    make = functools.partial(serial_parallel.serial_to_parallel, latents=latents, weight_bits=4, keep=KEEP)
    state = tmp_path_factory.mktemp("state") / "x.training"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serial_parallel, "WEIGHT_RATE", 0.0)
        patch.setattr(serial_parallel, "SCALE_RATE", 0.0)
        before, _ = make(copy.deepcopy(teacher), state=state, iterations=1)
    after, notes = make(copy.deepcopy(teacher), state=state, iterations=40)
    return before, after, notes


def test_training_brings_the_student_nearer(teacher, latents, trained):
    full = outputs(teacher, latents)
    before, after = (F.mse_loss(outputs(student, latents), full) for student in trained[:2])
    assert after < 0.8 * before


def test_every_layer_has_the_bits_that_its_sensitivity_gives_it(trained):
    _, student, notes = trained
    layers = quantized_layers(student)
    assert not any(name.endswith("time_emb_proj") or name in KEEP for name in layers)
    assert len(notes["sensitive"]) == len(notes["insensitive"]) == round(0.05 * len(layers))
    for name, layer in layers.items():
        bits = (layer.weights.bits, layer.acts.bits if layer.acts else 16)
        assert bits == (
            (8, 16) if name in notes["sensitive"] else (4, 4 if name in notes["insensitive"] else 8)
        )
    tables = [name for name, module in student.named_modules() if isinstance(module, TimeTable)]
    assert tables == [name for name, _ in student.named_modules() if name in notes["tables"]]
    assert sum(name.endswith("time_emb_proj") for name in tables) == 8
    sizes = {name: layer.weight.numel() * layer.weights.bits for name, layer in layers.items()}
    weights = sum(layer.weight.numel() for layer in layers.values())
    assert notes["mean_weight_bits"] == pytest.approx(sum(sizes.values()) / weights)


def test_features_and_output_make_the_loss(teacher, latents):
    """Equations 11 and 12 by hand, on two samples."""
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.mid_block.resnets[0].conv1.weight.add_(0.01)
    call, name = latents.batch(torch.tensor([0, 4])), "mid_block.resnets.0.conv1"
    with serial_parallel.features(teacher, [name]) as true, serial_parallel.features(student, [name]) as own:
        out = serial_parallel._output_loss(teacher, student, call)
    assert float(out) == pytest.approx(float((student(**call)[0] - teacher(**call)[0]).square().mean()))
    assert true[name].shape == own[name].shape == (2, 32, 4, 4)
    assert not torch.equal(true[name], own[name])
    with serial_parallel.features(teacher, [name]) as later:
        pass
    teacher(**call)
    assert not later  # hooks are gone


def test_qdiffusion_splits_rounds_and_is_nearer_than_nearest(teacher, latents):
    full = outputs(teacher, latents)
    nearest, learned = (
        qdiffusion.qdiffusion(copy.deepcopy(teacher), latents, 4, KEEP, iterations) for iterations in (0, 60)
    )
    assert F.mse_loss(outputs(learned, latents), full) < 0.95 * F.mse_loss(outputs(nearest, latents), full)
    split = [name for name, module in learned.named_modules() if isinstance(module, SplitConv2d)]
    assert len(split) == 8 and all(name.startswith("up_blocks") for name in split)
    for layer in quantized_layers(learned).values():
        assert (layer.weights.bits, layer.acts.bits) == (4, 8)
    assert qdiffusion.block_of("up_blocks.1.resnets.0.conv1.first") == "up_blocks.1.resnets.0"
    assert qdiffusion.block_of("mid_block.attentions.0.proj_in") == "mid_block.attentions.0.proj_in"


@pytest.mark.parametrize("of", ["s2p", "qdiffusion"])
def test_a_checkpoint_holds_the_whole_model(teacher, latents, trained, of, tmp_path):
    student = trained[1]
    if of == "qdiffusion":
        student = qdiffusion.qdiffusion(copy.deepcopy(teacher), latents, 4, KEEP, iterations=0)
    path = tmp_path / "new" / "x.safetensors"
    save_quantized(student, path, {"made": "here"})
    loaded = copy.deepcopy(teacher)
    load_quantized(loaded, path)
    assert torch.allclose(outputs(loaded, latents), outputs(student, latents), atol=1e-5)
    assert size_bytes(loaded) == size_bytes(student)
    assert read_notes(path) == {"made": "here"}
    header = int.from_bytes(path.read_bytes()[:8], "little") + 8
    assert path.stat().st_size - header == size_bytes(student)


@pytest.mark.parametrize(
    ("weights", "acts", "kind"),
    [
        (Weights(4, group=2), None, "groups"),
        (Weights(4, symmetric=False), None, "zero points"),
        (Weights(4), Dynamic(8), "Dynamic"),
    ],
)
def test_what_could_not_be_rebuilt_is_not_written(weights, acts, kind, tmp_path):
    model = quantize_model(nn.Sequential(nn.Linear(4, 4)), weights, acts)
    with pytest.raises(ValueError, match=f"0 has .*{kind}"):
        save_quantized(model, tmp_path / "x.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_used_is_named(teacher, trained, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors: No such file"):
        load_quantized(copy.deepcopy(teacher), tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: not a quantized model"):
        load_quantized(copy.deepcopy(teacher), tmp_path / "bad.safetensors")
    save_quantized(trained[1], tmp_path / "other.safetensors", {})
    with pytest.raises(CheckpointError, match=r"other\.safetensors: not of this UNet2DConditionModel"):
        load_quantized(BASE.load().unet, tmp_path / "other.safetensors")


# Evaluations: one and two prompts looked at, then twelve, whose last step is seen but not run. s2p: twelve
# samples for tables and for ranges, twelve twice for sensitivities, two iterations of teacher and student.
# Q-Diffusion: one batch for the blocks' order, all 48 samples for ranges.
LATENTS = (1 + 2) * 4 + 12 * 3


@pytest.mark.parametrize(
    ("module", "method", "nfe"),
    [
        (serial_parallel, "s2p-w4a8", LATENTS + 12 + 12 + 2 * 12 + 2 * 2 * 12),
        (qdiffusion, "qdiffusion-w4a8", LATENTS + 16 + 48),
    ],
)
def test_the_command_trains_and_the_method_draws(module, method, nfe, tmp_path, monkeypatch):
    folder = tmp_path / "calibrated"
    base = replace(BASE, calibrated=folder)
    result = CliRunner().invoke(cli, ["calibrate", "--method", method, "--calibrated", str(folder)])
    assert result.exit_code == 2 and f"generator train --model shapes --method {method}" in result.stderr
    with pytest.raises(MethodError, match=f"No such file .* train --model shapes --method {method}"):
        all_methods()[method].apply(base.load(), base)
    for name, value in {"PROMPTS": 12, "ITERATIONS": 2, "CALIBRATION": 12, "SENSITIVITY": 12}.items():
        monkeypatch.setattr(module, name, value, raising=hasattr(module, name))
    result = CliRunner().invoke(cli, ["train", "--method", method, "--calibrated", str(folder)])
    assert result.exit_code == 0, result.output
    pipeline, full = BASE.load(), BASE.load()
    assert all_methods()[method].apply(pipeline, base) is None
    assert spent_on(all_methods()[method], base) == nfe
    prompts = shapes_prompts("heldout", 4)
    error = (render(pipeline, BASE, prompts) - render(full, BASE, prompts)).square().mean()
    assert 0 < error < 0.01


def test_a_method_without_training_is_refused():
    result = CliRunner().invoke(cli, ["train", "--method", "w4a8"])
    assert result.exit_code == 2
    assert "'w4a8': is not trained; expected one of s2p-w4a8" in result.stderr
