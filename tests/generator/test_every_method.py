"""Every method on every family of models, end to end on tiny random checkpoints."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from generator.methods import all_methods, mixdq, ptqd, qdiffusion, qsched, serial_parallel
from generator.models import ENTRIES, SHIPPED, hub, of_entry
from generator.quantize import QuantConv2d, QuantLinear, quantizable, size_bytes
from generator.sweep import render
from study.gallery import Prompt

METHODS = all_methods()
COMMITTED = SHIPPED / "shapes-w4a8.qsched.json"
PROMPTS = [Prompt(prompt_id="a", text="a red fox"), Prompt(prompt_id="b", text="two dogs")]
FAMILIES = ("sd14-pndm-10", "pcm-sd15-2", "lcm-dreamshaper-2", "sdxl-turbo", "flux-schnell")
QUANTIZERS = ("w8a8", "w4a4", "w4a16", "mixdq-w8a8", "svdquant-w4a4", "bnb-nf4", "bnb-int8", "torchao-w8a8")
TRAINED = {"s2p-w8a8": serial_parallel, "qdiffusion-w8a8": qdiffusion}
# With guidance, SDXL's other text is zeros and has no BOS.
QUANTIZED = [*itertools.product(FAMILIES, QUANTIZERS), ("sdxl-30", "mixdq-w8a8")]
FEW_STEP = [family for family in FAMILIES if family != "sd14-pndm-10"]  # PNDM has no Q-Sched twin
pytestmark = [pytest.mark.matrix, pytest.mark.usefixtures("small_methods")]


@pytest.fixture
def base(tiny, tmp_path):
    return lambda family: replace(of_entry(tiny(ENTRIES[family], steps=2)), calibrated=tmp_path)


def drawn(base, method):
    pipeline = base.load()
    METHODS[method].apply(pipeline, base)
    pictures = render(pipeline, base, PROMPTS)
    assert pictures.isfinite().all()
    return pipeline, pictures


@pytest.mark.parametrize(("family", "method"), QUANTIZED)
def test_quantizers_run_end_to_end(base, family, method):
    model = base(family)
    full = model.load()
    pipeline, pictures = drawn(model, method)
    assert size_bytes(getattr(pipeline, model.backbone)) < size_bytes(getattr(full, model.backbone))
    expected = render(full, model, PROMPTS)
    assert 0 < (pictures - expected).square().mean() < 0.01


@pytest.mark.parametrize("family", ["sd14-pndm-10", "sdxl-turbo", "flux-schnell"])
def test_mixed_bits_are_shared_out_and_run_end_to_end(base, family):
    model = base(family)
    file = mixdq.measure_and_allocate(model, mixdq.allocation_file(model))
    assert 3 < file["mean_weight_bits"] <= 4
    _, pictures = drawn(model, "mixdq-w4a8")
    assert 0 < (pictures - render(model.load(), model, PROMPTS)).square().mean() < 0.01


def test_a_published_allocation_is_taken_over(base, tmp_path):
    """A file in the layout of MixDQ's authors, with every layer of the model; those to keep are left out."""
    model = base("sdxl-turbo")
    layers = quantizable(model.load().unet)
    bits = dict(zip(layers, itertools.cycle((2, 4, 8)), strict=False))
    published = tmp_path / "weight_4.67.yaml"
    published.write_text("".join(f"model.{name}: {choice}\n" for name, choice in bits.items()))
    file = mixdq.take_over(model, published, mixdq.allocation_file(model))
    kept = set(layers) - set(file["weight_bits"])
    assert {"conv_in", "conv_out"} < kept and file["nfe"] == 0
    pipeline, _ = drawn(model, "mixdq-w4a8")
    for name in file["weight_bits"]:
        made = pipeline.unet.get_submodule(name)
        parts = [part for part in made.modules() if isinstance(part, QuantLinear | QuantConv2d)]
        assert {part.weights.bits for part in parts} == {bits[name]}
    published.write_text(published.read_text().replace("model.conv_in: ", "model.conv_inn: "))
    with pytest.raises(mixdq.AllocationError, match=r"not of sdxl-turbo: conv_in is not in the file"):
        mixdq.take_over(model, published, mixdq.allocation_file(model))


@pytest.mark.parametrize("method", TRAINED)
@pytest.mark.parametrize("family", FAMILIES)
def test_trained_methods_run_end_to_end(base, family, method, monkeypatch):
    module = TRAINED[method]
    for name, value in {"PROMPTS": 12, "ITERATIONS": 2}.items():
        monkeypatch.setattr(module, name, value)
    model = base(family)
    module.MAKERS[method](model, serial_parallel.checkpoint_file(model, method))
    _, pictures = drawn(model, method)
    assert 0 < (pictures - render(model.load(), model, PROMPTS)).square().mean() < 0.01


@pytest.mark.parametrize(
    ("family", "method"),
    [("flux-schnell", "svdquant-w4a4"), ("pcm-sd15-2", "mixdq-w8a8"), *(("pcm-sd15-2", m) for m in TRAINED)],
)
def test_half_precision_models_as_gpus_have_them(base, family, method, monkeypatch):
    monkeypatch.setattr(hub, "dtype", lambda entry: "bfloat16")
    model = base(family)
    if method in TRAINED:
        monkeypatch.setattr(TRAINED[method], "PROMPTS", 12)
        monkeypatch.setattr(TRAINED[method], "ITERATIONS", 2)
        TRAINED[method].MAKERS[method](model, serial_parallel.checkpoint_file(model, method))
    pipeline, pictures = drawn(model, method)
    assert {p.dtype for p in getattr(pipeline, model.backbone).parameters()} == {torch.bfloat16}
    assert 0 < (pictures - render(model.load(), model, PROMPTS)).square().mean() < 0.01


@pytest.mark.parametrize("family", FEW_STEP)
def test_qsched_runs_over_a_quantizer(base, family):
    model = base(family)
    scheduler = type(model.load().scheduler).__name__
    file = json.loads(COMMITTED.read_text())
    changed = {"base_model": model.id, "method": "w8a8", "scheduler": scheduler, "steps": model.steps}
    ones = [1.0] * model.steps
    for name, c_eps in (("identity", ones), ("other", [0.9, *ones[1:]])):
        text = json.dumps({**file, **changed, "c_x": ones, "c_eps": c_eps})
        qsched.coefficients_file(model, "w8a8").write_text(text)
        _, pictures = drawn(model, "qsched-w8a8")
        same = torch.equal(pictures, drawn(model, "w8a8")[1])
        assert same == (name == "identity")


@pytest.mark.parametrize("family", FEW_STEP)
def test_ptqd_runs_over_a_quantizer(base, family):
    model = base(family)
    ptqd.measure(model, METHODS["w4a4"], ptqd.statistics_file(model, "w4a4"))
    _, pictures = drawn(model, "ptqd-w4a4")
    assert not torch.equal(pictures, drawn(model, "w4a4")[1])
