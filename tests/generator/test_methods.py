import copy
import functools
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_model

from generator.methods import MethodError, all_methods
from generator.methods.mixdq import AllocationError, allocation_file, read_allocation
from generator.methods.qsched import coefficients_file
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.quantize import size_bytes
from generator.quantize.mixed import mean_bits
from generator.sweep import render
from qsched.coefficients import CoefficientsError

BASE, METHODS = MODELS["shapes"], all_methods()
PROMPTS = shapes_prompts("heldout", 8)
TRAINED = ("qdiffusion-w4a8", "s2p-w4a8")
DRAWN = ("fp16", "w8a8", "w6a6", "w4a8", "w4a4", "mixdq-w8a8", "mixdq-w4a8", "svdquant-w4a4", *TRAINED)


@functools.cache
def pipeline_of(method):
    pipeline = BASE.load()
    return pipeline, METHODS[method].apply(pipeline, BASE)


@pytest.fixture(scope="module")
def pictures():
    return {method: render(pipeline_of(method)[0], BASE, PROMPTS) for method in DRAWN}


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def test_fewer_bits_stay_less_close_to_full_precision(pictures):
    distance = {method: psnr(pictures["fp16"], pictures[method]) for method in DRAWN[1:]}
    assert distance["w8a8"] > distance["w6a6"] > distance["w4a8"] > distance["w4a4"]
    assert distance["w8a8"] > 30
    assert distance["svdquant-w4a4"] > distance["w4a4"] + 3
    assert distance["mixdq-w4a8"] > distance["w4a8"]
    assert distance["mixdq-w8a8"] > 30
    assert all(distance[method] > distance["w4a8"] + 1 for method in TRAINED)  # as committed


def test_the_naive_ladder_has_all_its_rungs():
    ladder = {"w8a8": (8, 8), "w6a6": (6, 6), "w4a16": (4, 16), "w4a8": (4, 8), "w4a6": (4, 6)}
    for name, bits in {**ladder, "w4a5": (4, 5), "w4a4": (4, 4)}.items():
        assert (METHODS[name].weight_bits, METHODS[name].act_bits) == bits
        layer = pipeline_of(name)[0].unet.mid_block.resnets[0].conv1
        assert (layer.weights.bits, layer.acts.bits if layer.acts else 16) == bits


def test_qsched_is_its_quantized_model_under_another_scheduler(pictures):
    pipeline, coefficients = pipeline_of("qsched-w4a8")
    assert coefficients.steps == BASE.steps
    assert type(pipeline.scheduler).__name__ == "QSchedTCDScheduler"
    plain = pipeline_of("w4a8")[0]
    for name, value in plain.unet.state_dict().items():
        assert torch.equal(value, pipeline.unet.state_dict()[name])
    pipeline = copy.copy(pipeline)
    pipeline.scheduler = plain.scheduler
    assert torch.equal(render(pipeline, BASE, PROMPTS), pictures["w4a8"])


@pytest.mark.parametrize(
    "method", ["fp16", "w8a8", "w6a6", "w4a8", "mixdq-w4a8", "svdquant-w4a4", "s2p-w4a8"]
)
def test_size_is_what_safetensors_writes(method, tmp_path):
    backbone = copy.deepcopy(pipeline_of(method)[0].unet)
    size = size_bytes(backbone)
    save_model(backbone.half(), tmp_path / "x.safetensors")  # stores shared tensors once
    header = int.from_bytes((tmp_path / "x.safetensors").read_bytes()[:8], "little") + 8
    assert size == (tmp_path / "x.safetensors").stat().st_size - header


def test_qsched_goes_over_any_quantizer(tmp_path):
    """The coefficients are those of its own method; without a file of them it says which is missing."""
    base = replace(BASE, calibrated=tmp_path)
    with pytest.raises(MethodError, match=r"make it with: .* --model shapes --method svdquant-w4a4$"):
        METHODS["qsched-svdquant-w4a4"].apply(base.load(), base)
    shutil.copy(coefficients_file(BASE, "w4a8"), coefficients_file(base, "w4a16"))
    pipeline = base.load()
    coefficients = METHODS["qsched-w4a16"].apply(pipeline, base)
    assert pipeline.scheduler.config.c_x == list(coefficients.c_x)
    layer = pipeline.unet.mid_block.resnets[0].conv1
    assert layer.weights.bits == 4 and layer.acts is None


def test_coefficients_of_another_model_are_refused(tmp_path):
    other = replace(BASE, id="other", calibrated=tmp_path)
    shutil.copy(coefficients_file(BASE, "w4a8"), coefficients_file(other, "w4a8"))
    with pytest.raises(CoefficientsError, match="of shapes in 4 steps, not of other in 4"):
        METHODS["qsched-w4a8"].check(other)


def test_qsched_over_svdquant_is_one_line(tmp_path, pictures):
    """`over(svdquant)` is in the list; given coefficients, it draws SVDQuant's model under them."""
    base, pipeline = replace(BASE, calibrated=tmp_path), BASE.load()
    shutil.copy(coefficients_file(BASE, "w4a8"), coefficients_file(base, "svdquant-w4a4"))
    METHODS["qsched-svdquant-w4a4"].apply(pipeline, base)
    drawn = render(pipeline, BASE, PROMPTS)
    pipeline = copy.copy(pipeline)
    pipeline.scheduler = pipeline_of("svdquant-w4a4")[0].scheduler
    assert torch.equal(render(pipeline, BASE, PROMPTS), pictures["svdquant-w4a4"])
    assert 20 < psnr(drawn, pictures["svdquant-w4a4"]) < 60


def test_mixdq_w4a8_really_has_four_bits():
    bits = read_allocation(allocation_file(BASE))
    layers = dict(pipeline_of("mixdq-w4a8")[0].unet.named_modules())
    stored = {name: layers[name].weight_q.numel() * 8 / layers[name].weight.numel() for name in bits}
    assert stored == bits
    sizes = {name: layers[name].weight.numel() for name in bits}
    assert mean_bits(bits, sizes) <= 4
    assert {2, 4, 8} >= set(bits.values()) != {4}


def test_an_allocation_that_cannot_be_read_is_named(tmp_path):
    base = replace(BASE, calibrated=tmp_path)
    with pytest.raises(MethodError, match=r"No such file .* generator allocate --model shapes$"):
        METHODS["mixdq-w4a8"].check(base)
    with pytest.raises(AllocationError, match=r"none\.yaml: No such file or directory$"):
        read_allocation(tmp_path / "none.yaml")
    (tmp_path / "bad.json").write_text('{"weight_bits": [4]}')
    with pytest.raises(AllocationError, match=r"bad\.json: not an allocation"):
        read_allocation(tmp_path / "bad.json")
    (tmp_path / "bad.yaml").write_text("- 4")
    with pytest.raises(AllocationError, match=r"bad\.yaml: not an allocation"):
        read_allocation(tmp_path / "bad.yaml")


def test_a_published_allocation_is_read(tmp_path):
    path = tmp_path / "weight_4.00.yaml"
    path.write_text("model.conv_in: 8\nmodel.mid_block.attentions.0.transformer_blocks.0.attn2.to_k: 2\n")
    assert read_allocation(path) == {
        "conv_in": 8,
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k": 2,
    }


def test_every_quantized_weight_lies_on_its_grid():
    backbone = pipeline_of("w4a8")[0].unet
    weight = backbone.mid_block.resnets[0].conv1.weight.flatten(1)
    assert max(len(row.unique()) for row in weight) <= 15  # −7 … 7
    assert max(len(row.unique()) for row in backbone.conv_in.weight.flatten(1)) > 15  # kept
