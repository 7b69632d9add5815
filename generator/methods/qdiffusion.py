"""Q-Diffusion's calibration (Li et al., ICCV 2023), the baseline that Serial-to-Parallel is compared with.

Calibration data are taken evenly from all timesteps of the full-precision trajectory; convolutions over
[hidden, skip] are taken apart; weights are rounded by learned rounding, one residual or transformer block at
a time; activations have one static grid a layer, over all timesteps together.

Differences from the release: weights are symmetric, the layers left in full precision are those of this
package's other methods, attention's matrix products are not quantized, and there are as many iterations as
a CPU can do on the shapes world (there: 20,000 a block).
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from generator.latents import Latents, latent_dataset
from generator.methods import Method
from generator.methods.serial_parallel import from_checkpoint
from generator.models import BaseModel
from generator.prompts import half_of
from generator.quantize import Static, Weights, quantizable, quantized, replace
from generator.quantize.checkpoint import save_quantized
from generator.quantize.observe import input_ranges
from generator.quantize.rounding import round_by_blocks
from generator.quantize.split import split_concatenations
from generator.sweep import checked, counted, software_versions

PROMPTS, BATCH, ITERATIONS = 64, 16, 100
ACT_BITS = 8
RULE = "mse"  # for the weights' scales
RATE = 1e-2  # ten times the release's, for few iterations
_BLOCK = re.compile(r"(.*\.(?:resnets|transformer_blocks|single_transformer_blocks)\.\d+)\..*")


def qdiffusion(
    model: nn.Module, latents: Latents, weight_bits: int, keep: Sequence[str], iterations: int
) -> nn.Module:
    """Return the quantized copy of `model`, which goes to float32, in which the copy learns, and is taken
    apart in place; `latents` are of all its steps.

    Raises:
        ValueError: as `quantizable`; a layer that is never called.
    """
    model.float().requires_grad_(False)
    replace(model, split_concatenations(model))
    student = copy.deepcopy(model)
    layers = quantizable(student, keep)
    order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(0))
    calls = [latents.batch(rows) for rows in order.split(BATCH)]  # every batch at mixed timesteps
    weights = Weights(weight_bits, rule=RULE)
    rounded = round_by_blocks(student, model, list(layers), block_of, weights, calls, iterations, RATE)

    def run() -> None:
        for call in calls:
            student(**call)

    ranges = input_ranges(student, list(layers), run)
    for name, (layer, grid) in rounded.items():
        replace(student, {name: quantized(layer, weights, Static(ACT_BITS, *ranges[name]), grid)})
    return student


def block_of(name: str) -> str:
    """The residual or transformer block that a layer stands in; itself if in none."""
    found = _BLOCK.match(name)
    return found[1] if found else name


def _make(base: BaseModel, path: Path, prompt_set: str | None = None, *, weight_bits: int) -> None:
    """Collect the latents, learn the rounding, and write the quantized backbone."""
    prompts = half_of(prompt_set or base.calibration, "calibration", PROMPTS)
    checked(base, [], prompts)
    pipeline = base.load()
    backbone = getattr(pipeline, base.backbone)
    with counted(backbone) as rows:  # not what is run of single blocks
        latents = latent_dataset(pipeline, base, prompts, per_prompt=None)
        student = qdiffusion(backbone, latents, weight_bits, base.keep, ITERATIONS)
    notes = {"samples": len(latents), "iterations": ITERATIONS, "nfe": sum(rows)}
    save_quantized(student, path, {**notes, "versions": software_versions()})


def _method(weight_bits: int) -> Method:
    id_ = f"qdiffusion-w{weight_bits}a8"
    notes = (
        f"Q-Diffusion's calibration: {weight_bits}-bit weights by learned rounding, skip concatenations "
        "split, static 8-bit activations; integer arithmetic is simulated"
    )
    return from_checkpoint(id_, f"Q-Diffusion W{weight_bits}A8", weight_bits, notes)


METHODS = [_method(4), _method(8)]
MAKERS = {f"qdiffusion-w{bits}a8": functools.partial(_make, weight_bits=bits) for bits in (4, 8)}
