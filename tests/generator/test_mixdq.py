import dataclasses
import json

import pytest

from generator.methods import MethodError, mixdq
from generator.methods.mixdq import measure_and_allocate, read_allocation, shared_out
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.quantize.mixed import mean_bits
from generator.sweep import render


def scores(layers, gain):
    return {name: {bits: gain * bits for bits in (2, 4, 8)} for name in layers}


def test_the_budget_is_split_where_the_pictures_are_best():
    content, quality = scores(("a", "b"), 1.0), {k: {4: 1.0, 8: 2.0} for k in ("c", "d")}
    sizes = {"a": 100, "b": 200, "c": 50, "d": 10}
    tried = []

    def distance(bits):
        tried.append(bits)
        return abs(bits["d"] - 8) + 0.1 * abs(bits["c"] - 4)  # d wants eight bits, c does not

    bits, k = shared_out(content, quality, sizes, 4.0, distance)
    assert len(tried) > 3 and bits in tried and 0.4 < k <= 1
    assert all(mean_bits(choice, sizes) <= 4 + 1e-6 for choice in tried)
    assert distance(bits) == min(map(distance, list(tried)))
    with pytest.raises(MethodError, match=r"no split meets a mean of 2\.0"):
        shared_out(content, quality, sizes, 2.0, distance)


def test_allocation_from_start_to_end_on_one_attention_block(tmp_path, monkeypatch):
    """All but the middle attention is kept in full precision, so that this takes seconds."""
    monkeypatch.setattr(mixdq, "CALIBRATION_PROMPTS", 2)
    monkeypatch.setattr(mixdq, "SENSITIVITY_PROMPTS", 1)
    keep = (*MODELS["shapes"].keep, "down_blocks.*", "up_blocks.*", "mid_block.resnets.*")
    base = dataclasses.replace(MODELS["shapes"], keep=keep)
    measure_and_allocate(base, tmp_path / "made" / "bits.json")
    file = json.loads((tmp_path / "made" / "bits.json").read_text())
    bits = read_allocation(tmp_path / "made" / "bits.json")
    assert {name.split(".")[0] for name in bits} == {"mid_block"}
    assert file["mean_weight_bits"] <= 4
    # Two prompts three times (structure, ranges, full precision), one three times; each layer and bits once;
    # and two prompts for each of up to eleven splits.
    once = 3 * 2 + 3 * 1 + 3 * len(file["ssim"]) + 2 * len(file["sqnr_db"])
    splits, rest = divmod(file["nfe"] - base.steps * once, base.steps * 2)
    assert 1 <= splits <= 11 and rest == 0
    for group, few in (("ssim", "2"), ("sqnr_db", "4")):
        assert all(layer["8"] > layer[few] for layer in file[group].values())
    assert set(file["ssim"]) | set(file["sqnr_db"]) == set(bits)
    assert all(("attn2" in name or ".ff." in name) == (name in file["ssim"]) for name in bits)

    pipeline = base.load()
    mixdq.mixdq(pipeline.unet, lambda: render(pipeline, base, shapes_prompts("calibration", 2)), bits, keep)
    assert {name: pipeline.unet.get_submodule(name).weights.bits for name in bits} == bits
