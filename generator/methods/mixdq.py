"""MixDQ (Zhao et al. 2024): static 8-bit activations, and for each layer as many weight bits as it needs.

Three parts. The text's first token (BOS), whose outliers would take up the range of cross-attention's keys
and values, is taken out and its output stored. Convolutions over [hidden, skip] get a grid for each half.
Bits are shared out by an integer program over sensitivities that are measured by layer: by the pictures' SSIM
for the layers that carry content (cross-attention, feed-forward), by the output's SQNR for the others.

Differences from the release: SSIM has the usual 11×11 window (there: 511, nearly the whole picture), the
sensitivities are those of the model's own few steps (there: one step), all activations have 8 bits, and the
mean of the weight bits is at most the target (there: within 2 %).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from tqdm import tqdm

from generator.fidelity import ssim
from generator.methods import Method, MethodError, already_made
from generator.models import BaseModel
from generator.prompts import half_of
from generator.quantize import Static, Weights, quantizable, quantized, replace
from generator.quantize.mixed import Scores, allocate, mean_bits, sensitivities, sqnr
from generator.quantize.model import matching
from generator.quantize.observe import input_ranges, watching
from generator.quantize.split import BosLinear, split_concatenations
from generator.sweep import checked, counted, render_in_batches, software_versions
from study.gallery import Prompt

CALIBRATION_PROMPTS, SENSITIVITY_PROMPTS = 32, 8
CONTENT = ("*.ff.*", "*.attn2.*")
CONTENT_BITS, QUALITY_BITS = (2, 4, 8), (4, 8)
SPLITS = (*np.linspace(0.46, 1.36, 10).round(2).tolist(), 1.0)  # mean bits of content / mean bits of quality


class AllocationError(MethodError):
    """A file of bits by layer that cannot be used; the message names it."""


@torch.no_grad()
def restructure(model: nn.Module, run: Callable[[], Any]) -> None:
    """Take the BOS token and the halves of concatenations apart, in place; the output stays what it was.

    Raises:
        MethodError: a text whose first token is not the same in every prompt.
    """
    layers = quantizable(model)
    new: dict[str, nn.Module] = {**split_concatenations(model)}
    for name, token in _first_tokens(model, matching(layers, ("*.attn2.to_k", "*.attn2.to_v")), run).items():
        layer = layers[name]
        assert isinstance(layer, nn.Linear)  # noqa: S101 - for the type checker
        new[name] = BosLinear.from_float(layer, token)
    replace(model, new)


@torch.no_grad()
def mixdq(
    model: nn.Module, run: Callable[[], Any], bits: Mapping[str, int] | int, keep: tuple[str, ...]
) -> None:
    """Quantize `model` in place; `run` runs it on calibration data, `bits` are all layers' or each layer's.

    Bits of a layer that is taken apart stand under its own name, or under the names of its parts.

    Raises:
        MethodError: as `restructure`; bits that do not name exactly the layers there are.
        InputError: a layer that `run` never calls, or whose input is not finite.
    """
    restructure(model, run)
    layers = quantizable(model, keep)
    each = dict.fromkeys(layers, bits) if isinstance(bits, int) else dict(bits)
    for name in layers:
        whole, _, part = name.rpartition(".")
        if part in ("first", "second", "rest") and isinstance(bits, Mapping) and whole in bits:
            each.pop(whole, None)
            each[name] = bits[whole]
    if differing := sorted(set(each) ^ set(layers)):
        raise MethodError(f"MixDQ: bits and layers differ in {', '.join(differing[:3])} …")
    make = maker(model, layers, run)
    replace(model, {name: make(name, each[name]) for name in layers})


def maker(
    model: nn.Module, layers: Mapping[str, nn.Linear | nn.Conv2d], run: Callable[[], Any]
) -> Callable[[str, int], nn.Module]:
    """Calibrate the activations' ranges; the function that is returned quantizes a layer by name and bits."""
    ranges = input_ranges(model, list(layers), run)
    return lambda name, bits: quantized(layers[name], Weights(bits), Static(8, *ranges[name]))


def shared_out(
    content: Scores,
    quality: Scores,
    sizes: Mapping[str, int],
    mean: float,
    distance: Callable[[dict[str, int]], float],
) -> tuple[dict[str, int], float]:
    """Bits by layer whose mean is at most `mean`, and the split that gave them.

    For each split k the budgets are B_c = k B_q of content and B_q = mean (1 + r) / (1 + k r) of quality, r
    the ratio of their weights; each group has its own integer program. Of the splits that can be met, the one
    whose pictures are at the least `distance` from full precision is taken.

    Raises:
        MethodError: a mean that no split can meet.
    """
    r = sum(sizes[name] for name in content) / sum(sizes[name] for name in quality)
    tried = []
    for k in SPLITS:
        budget = mean * (1 + r) / (1 + k * r)
        if k * budget >= min(CONTENT_BITS) and budget >= min(QUALITY_BITS) - 1e-9:
            budget = max(budget, min(QUALITY_BITS))  # less a rounding
            bits = allocate(content, sizes, k * budget) | allocate(quality, sizes, budget)
            tried.append((distance(bits), k, bits))
    if not tried:
        raise MethodError(f"MixDQ: no split meets a mean of {mean} bits")
    _, k, bits = min(tried, key=lambda outcome: outcome[0])
    return bits, k


def measure_and_allocate(
    base: BaseModel, path: Path, prompt_set: str | None = None, mean: float = 4.0
) -> dict[str, Any]:
    """Measure the sensitivities of a base model, share out the bits and write the allocation `path`.

    The prompts are of the model's own set, or of another.
    """
    prompts = half_of(prompt_set or base.calibration, "calibration", CALIBRATION_PROMPTS)
    checked(base, [], prompts)
    pipeline = base.load()
    with counted(getattr(pipeline, base.backbone)) as rows:
        file = _allocation(base, pipeline, prompts, mean)
    return _written(path, {**file, "nfe": sum(rows)})


def take_over(base: BaseModel, published: Path, path: Path) -> dict[str, Any]:
    """Write the allocation `path` with the bits of a file that MixDQ's authors published for this model.

    The layers that this package leaves in 16 bits stay so, and activations have 8 bits.

    Raises:
        AllocationError: a file that cannot be read, or whose layers are not those of the model.
    """
    bits = read_allocation(published)
    backbone = getattr(base.load(), base.backbone)
    if differing := sorted(set(bits) ^ set(quantizable(backbone))):
        where = "not in the model" if differing[0] in bits else "not in the file"
        raise AllocationError(f"{published}: not of {base.id}: {differing[0]} is {where}")
    sizes = {name: layer.weight.numel() for name, layer in quantizable(backbone, base.keep).items()}
    chosen = {name: bits[name] for name in sizes}
    file = {
        "base_model": base.id,
        "mean_weight_bits": round(mean_bits(chosen, sizes), 4),
        "published": published.name,
        "weight_bits": chosen,
    }
    return _written(path, {**file, "nfe": 0})


def _written(path: Path, file: dict[str, Any]) -> dict[str, Any]:
    file = {**file, "versions": software_versions()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(file, indent=1) + "\n", encoding="utf-8")
    return file


@torch.no_grad()
def _allocation(
    base: BaseModel, pipeline: DiffusionPipeline, prompts: Sequence[Prompt], mean: float
) -> dict[str, Any]:
    backbone, few = getattr(pipeline, base.backbone), prompts[:SENSITIVITY_PROMPTS]

    def drawn(some: Sequence[Prompt]) -> Tensor:
        return render_in_batches(pipeline, base, some)

    restructure(backbone, lambda: drawn(prompts))
    layers = quantizable(backbone, base.keep)
    make = maker(backbone, layers, lambda: drawn(prompts))
    calls = _calls(backbone, lambda: drawn(few))
    outputs, pictures = [_output(backbone, call) for call in calls], drawn(few)

    def output_sqnr() -> float:
        return sqnr(torch.cat(outputs), torch.cat([_output(backbone, call) for call in calls]))

    def pictures_ssim() -> float:
        return float(ssim(pictures, drawn(few)).mean())

    carriers = matching(layers, CONTENT)
    others = [name for name in layers if name not in carriers]
    content = sensitivities(backbone, tqdm(carriers, "content"), CONTENT_BITS, make, pictures_ssim)
    quality = sensitivities(backbone, tqdm(others, "quality"), QUALITY_BITS, make, output_sqnr)
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}

    def distance(bits: dict[str, int]) -> float:
        replace(backbone, {name: make(name, choice) for name, choice in bits.items()})
        try:
            return float((drawn(prompts) - drawn_full).square().mean())
        finally:
            replace(backbone, layers)

    drawn_full = drawn(prompts)
    bits, split = shared_out(content, quality, sizes, mean, distance)
    return {
        "base_model": base.id,
        "mean_weight_bits": round(mean_bits(bits, sizes), 4),
        "split": split,
        "prompts": [prompt.prompt_id for prompt in few],
        "weight_bits": bits,
        "ssim": content,
        "sqnr_db": quality,
    }


def allocation_file(base: BaseModel) -> Path:
    """Where `generator allocate` keeps the bits by layer of a base model."""
    return base.calibrated / f"{base.id}-mixdq-w4a8.json"


def read_allocation(path: Path) -> dict[str, int]:
    """The bits by layer in an allocation file, or in one that MixDQ's authors published (`weight_*.yaml`).

    Raises:
        AllocationError: no such file, or not an allocation.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".yaml":  # lines of "model.conv_in: 8"
            pairs = (line.split(": ") for line in text.splitlines() if line.strip())
            bits = {name.removeprefix("model."): choice for name, choice in pairs}
        else:
            bits = json.loads(text)["weight_bits"]
        return {str(name): int(choice) for name, choice in bits.items()}
    except OSError as error:
        raise AllocationError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AllocationError(f"{path}: not an allocation: {error}") from error


def _first_tokens(model: nn.Module, names: list[str], run: Callable[[], Any]) -> dict[str, Tensor]:
    """The first text token (in,) that each of the named layers gets, always the same one; texts of zeros are
    passed over."""
    seen: dict[str, Tensor] = {}

    def look(name: str, x: Tensor) -> None:
        tokens = x[x.flatten(1).any(1), 0]
        if not len(tokens):
            return
        token = seen.setdefault(name, tokens[0])
        # Equal but for what batches of other sizes round otherwise.
        if (tokens - token).abs().max() > 1e-3 * token.abs().max():
            raise MethodError(f"MixDQ: the first text token at {name} differs between prompts: it is no BOS")

    with watching(model, names, look):
        run()
    return seen


def _calls(model: nn.Module, run: Callable[[], Any]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of each call of `model` while `run` runs."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = model.register_forward_pre_hook(
        lambda _model, arguments, named: calls.append((arguments, named)), with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    return calls


def _output(model: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
    arguments, named = call
    return model(*arguments, **named | {"return_dict": False})[0]


def _method(id_: str, weight_bits: int, notes: str) -> Method:
    def check(base: BaseModel) -> dict[str, int] | int:
        if weight_bits == 8:
            return 8
        return read_allocation(already_made(allocation_file(base), base, "allocate"))

    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        bits = check(base)
        prompts = half_of(base.calibration, "calibration", CALIBRATION_PROMPTS)
        backbone = getattr(pipeline, base.backbone)
        mixdq(backbone, lambda: render_in_batches(pipeline, base, prompts), bits, base.keep)

    def spent(base: BaseModel) -> int:
        return 0 if weight_bits == 8 else json.loads(allocation_file(base).read_bytes())["nfe"]

    return Method(id_, f"MixDQ W{weight_bits}A8", weight_bits, 8, notes, apply, check=check, spent=spent)


NOTES = (
    "MixDQ: BOS token stored, skip concatenations split, static 8-bit activations, {}; "
    "integer arithmetic is simulated"
)
METHODS = [
    _method("mixdq-w8a8", 8, NOTES.format("8-bit weights")),
    _method("mixdq-w4a8", 4, NOTES.format("weights of 2, 4 or 8 bits, at most 4 on average")),
]
