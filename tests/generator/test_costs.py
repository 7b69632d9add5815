import json
import statistics
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from generator import latency
from generator.cli import cli
from generator.latency import RUNS, WARM_UP, Latency, in_a_process, latency_of
from generator.methods import all_methods
from generator.models import MODELS
from generator.quantize.size import KINDS, numbers_bytes, size_bytes, stored_bytes

BASE, METHODS = MODELS["shapes"], all_methods()


def test_sizes_by_hand_and_in_full():
    """W4A8: half a byte for each weight but those of the first and last layers and the embeddings."""
    result = CliRunner().invoke(cli, ["sizes", "--methods", "fp16,w4a8,qsched-w4a8", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    full, plain, led = found["methods"]
    backbone = BASE.load().unet
    assert found["parameters"] == sum(p.numel() for p in backbone.parameters())
    assert full["size_bytes"] == full["16 bits"] == 2 * found["parameters"]
    assert (full["times_smaller"], full["bits_per_weight"]) == (1, 16)
    quantized = {
        name: layer.weight
        for name, layer in backbone.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
        and not name.startswith(("conv_in", "conv_out", "time_embedding", "add_embedding"))
    }
    weights = sum(weight.numel() for weight in quantized.values())
    assert plain["integers"] == weights // 2
    assert plain["scales"] == sum(2 * len(weight) for weight in quantized.values())
    assert plain["16 bits"] == 2 * (found["parameters"] - weights)
    assert led["scheduler"] == 2 * 2 * BASE.steps
    assert led["size_bytes"] == plain["size_bytes"] + led["scheduler"]
    assert plain["times_smaller"] == pytest.approx(full["size_bytes"] / plain["size_bytes"])


@pytest.mark.parametrize(
    ("method", "branches"),
    [("w8a8", False), ("mixdq-w8a8", True), ("bnb-nf4", False), ("torchao-w8a8", False)],
)
def test_parts_are_the_whole(method, branches):
    pipeline = BASE.load()
    numbers = METHODS[method].apply(pipeline, BASE)
    parts = stored_bytes(pipeline.unet)
    assert tuple(parts) == KINDS and numbers_bytes(numbers) == 0
    assert sum(parts.values()) == size_bytes(pipeline.unet)
    assert parts["integers"] > 5 * parts["scales"] > 0
    assert (parts["branches and tables"] > 0) == branches


def test_sizes_are_printed_as_a_table():
    result = CliRunner().invoke(cli, ["sizes", "--methods", "fp16,w8a8"])
    assert "4,072,136 parameters" in result.stdout
    assert any("w8a8" in line and "4.291" in line for line in result.stdout.splitlines())
    result = CliRunner().invoke(cli, ["sizes", "--methods", "w9a9"])
    assert result.exit_code == 2 and "method 'w9a9': unknown" in result.stderr


def test_ten_runs_after_three_warm_ups_of_one_picture(monkeypatch):
    drawn = []
    monkeypatch.setattr(latency, "render", lambda pipeline, base, prompts: drawn.append(len(prompts)))
    tenths = iter(x / 10 for x in range(100))
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(tenths)))
    found = latency_of("shapes", "w8a8")
    assert drawn == [1] * (WARM_UP + RUNS) == [1] * 13
    assert found.milliseconds == pytest.approx([100.0] * 10)
    assert found.dtype == "float32" and found.peak_bytes > 50e6
    if not torch.cuda.is_available():
        assert found.clock == "time.perf_counter" and found.device.startswith("CPU")


def test_a_process_of_its_own_tells_its_errors():
    with pytest.raises(ValueError, match=r"qsched-w6a6|shapes-w6a6\.qsched\.json"):
        in_a_process("shapes", "qsched-w6a6")


def test_latency_is_printed_as_a_table_and_as_json(monkeypatch):
    def found(model, method, weights, calibrated, compiled):
        return Latency(method, compiled, (3.0, 1.0, 2.0), 5 * 10**6, "CUDA events", "a GPU", "bfloat16")

    monkeypatch.setattr(latency, "in_a_process", found)
    result = CliRunner().invoke(cli, ["latency", "--methods", "fp16,w8a8", "--compile"])
    assert result.exit_code == 0, result.output
    title = "shapes on a GPU, bfloat16; CUDA events; memory allocated by torch"
    assert result.stdout.splitlines()[0] == title
    assert [line.split("  ")[0].strip() for line in result.stdout.splitlines() if "2.0" in line] == [
        "fp16", "fp16, compiled", "w8a8", "w8a8, compiled"
    ]  # fmt: skip
    rows = json.loads(CliRunner().invoke(cli, ["latency", "--methods", "fp16", "--json"]).stdout)
    assert statistics.median(rows[0]["milliseconds"]) == 2.0
