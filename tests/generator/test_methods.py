import pytest
import torch
from safetensors.torch import save_file

from generator.methods import all_methods
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.quantize import size_bytes
from generator.sweep import render

BASE, METHODS = MODELS["shapes"], all_methods()
PROMPTS = shapes_prompts("heldout", 8)


def pipeline_of(method):
    pipeline = BASE.load()
    return pipeline, METHODS[method].apply(pipeline, BASE)


@pytest.fixture(scope="module")
def pictures():
    return {method: render(pipeline_of(method)[0], BASE, PROMPTS) for method in METHODS}


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def test_fewer_bits_stay_less_close_to_full_precision(pictures):
    distance = {m: psnr(pictures["fp16"], pictures[m]) for m in ("w8a8", "w4a8", "w4a4")}
    assert distance["w8a8"] > distance["w4a8"] > distance["w4a4"]
    assert distance["w8a8"] > 30


def test_qsched_is_its_quantized_model_under_another_scheduler(pictures):
    pipeline, coefficients = pipeline_of("qsched-w4a8")
    assert coefficients.steps == BASE.steps
    assert type(pipeline.scheduler).__name__ == "QSchedTCDScheduler"
    plain = pipeline_of("w4a8")[0]
    for name, value in plain.unet.state_dict().items():
        assert torch.equal(value, pipeline.unet.state_dict()[name])
    pipeline.scheduler = plain.scheduler
    assert torch.equal(render(pipeline, BASE, PROMPTS), pictures["w4a8"])


@pytest.mark.parametrize("method", ["fp16", "w8a8", "w4a8"])
def test_size_is_what_safetensors_writes(method, tmp_path):
    backbone = pipeline_of(method)[0].unet
    stored = {k: v.half() if v.is_floating_point() else v for k, v in backbone.state_dict().items()}
    save_file({k: v.contiguous() for k, v in stored.items()}, tmp_path / "x.safetensors")
    header = int.from_bytes((tmp_path / "x.safetensors").read_bytes()[:8], "little") + 8
    assert size_bytes(backbone) == (tmp_path / "x.safetensors").stat().st_size - header


def test_every_quantized_weight_lies_on_its_grid():
    backbone = pipeline_of("w4a8")[0].unet
    weight = backbone.mid_block.resnets[0].conv1.weight.flatten(1)
    assert max(len(row.unique()) for row in weight) <= 15  # −7 … 7
    assert max(len(row.unique()) for row in backbone.conv_in.weight.flatten(1)) > 15  # kept
