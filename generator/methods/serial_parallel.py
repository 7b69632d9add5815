"""Serial-to-Parallel (Li et al., "Efficiency Meets Fidelity"): a quantized model trained to be its teacher.

The inputs come from the serial run of the full-precision model (`generator.latents`), the training is
parallel: every batch mixes timesteps. Activations have a grid for each timestep; time embeddings and
projections become tables; of the layers, the 5 % that the loss feels most get 8-bit weights and 16-bit
activations, the 5 % that it feels least 4-bit activations (eq. 10). Weights, their scales and the
activations' scales are trained towards the teacher's output (eq. 11) and towards its features behind the
sensitive layers (eq. 12).

What the paper leaves open is settled thus: squared norms are means over elements; the loss behind the
sensitivities is that of eq. 11 for the model rounded to nearest (full precision itself has none); learning
rates fall along a cosine; zero points stay where calibration put them. Where time projections also see the
prompt (SDXL, the shapes world), no table can hold them: they stay in 16 bits.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from generator.latents import Latents, latent_dataset
from generator.methods import Method, already_made
from generator.models import BaseModel
from generator.prompts import half_of
from generator.quantize import ByStep, Weights, quantizable, replace
from generator.quantize.checkpoint import load_quantized, read_notes, save_quantized
from generator.quantize.clock import Clock
from generator.quantize.mixed import extremes, fisher_sensitivities, mean_bits
from generator.quantize.model import matching
from generator.quantize.observe import ranges_by_step
from generator.quantize.timesteps import TIME_PROJECTIONS, precalculate
from generator.quantize.training import Learning, train
from generator.sweep import checked, counted, software_versions

PROMPTS, ITERATIONS, BATCH = 512, 150, 12  # the paper, for SD v1-4: 40,000, 10,000 and 12
CALIBRATION, SENSITIVITY = 256, 64  # samples
SHARE = 0.05  # of the layers, at either end
ACT_BITS, FEW_ACT_BITS, SENSITIVE_BITS = 8, 4, 8
RULE = "mse"  # for the weights' first scales
WEIGHT_RATE, SCALE_RATE = 5e-5, 2e-3


def serial_to_parallel(
    model: nn.Module,
    latents: Latents,
    weight_bits: int,
    keep: Sequence[str],
    state: Path,
    iterations: int,
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the quantized copy of `model`, and notes about it.

    `model` goes to float32, in which the copy learns, and turns its own time layers into tables. `state` is
    the file that an interrupted training goes on from.

    Raises:
        ValueError: as `quantizable`; latents that miss a timestep.
    """
    clock = Clock(latents.timesteps)
    clock.watch(model)
    model.float().requires_grad_(False)

    def run() -> None:
        with torch.no_grad():
            for call in _batches(latents, CALIBRATION):
                model(**call)

    times = matching(dict(model.named_modules()), TIME_PROJECTIONS)
    names = [name for name in quantizable(model, keep) if name not in times]
    tables = precalculate(model, clock, run)
    ranges = ranges_by_step(model, names, clock, run)
    student, its_clock = copy.deepcopy((model, clock))

    def learning(name: str, bits: int, act_bits: int | None) -> Learning:
        layer = copy.deepcopy(model.get_submodule(name))
        assert isinstance(layer, nn.Linear | nn.Conv2d)  # noqa: S101 - for the type checker
        acts = None if act_bits is None else ByStep.between(act_bits, ranges[name], its_clock)
        return Learning(layer, Weights(bits, rule=RULE), acts)

    learned = {name: learning(name, weight_bits, ACT_BITS) for name in names}
    replace(student, learned)
    scores = fisher_sensitivities(
        {name: layer.weight for name, layer in learned.items()},
        (_output_loss(model, student, call) for call in _batches(latents, SENSITIVITY)),
    )
    sensitive, insensitive = extremes(scores, SHARE)
    for name in sensitive:
        learned[name] = learning(name, SENSITIVE_BITS, None)
    for name in insensitive:
        learned[name] = learning(name, weight_bits, FEW_ACT_BITS)
    replace(student, learned)

    def loss(iteration: int) -> Tensor:
        generator = torch.Generator().manual_seed(iteration)
        call = latents.batch(torch.randperm(len(latents), generator=generator)[:BATCH])
        with features(model, sensitive) as true, features(student, sensitive) as own:
            output = _output_loss(model, student, call)
        return output + sum(F.mse_loss(own[name], true[name]) for name in sensitive)

    weights = [layer.weight for layer in learned.values()]
    scales = [p for layer in learned.values() for name, p in layer.named_parameters() if "log" in name]
    begun = train(student, [(weights, WEIGHT_RATE), (scales, SCALE_RATE)], loss, iterations, state)
    replace(student, {name: layer.frozen() for name, layer in learned.items()})
    sizes = {name: layer.weight.numel() for name, layer in learned.items()}
    notes = {
        "mean_weight_bits": mean_bits({name: layer.weights.bits for name, layer in learned.items()}, sizes),
        "sensitive": sensitive,
        "insensitive": insensitive,
        "tables": tables,
        "iterations": iterations,
        "begun_at": begun,
        "samples": len(latents),
    }
    return student, notes


@contextmanager
def features(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Keep what the named layers put out while the block runs."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _arguments, output: seen.__setitem__(name, output)

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _output_loss(teacher: nn.Module, student: nn.Module, call: dict[str, Any]) -> Tensor:
    """Equation 11."""
    with torch.no_grad():
        target = teacher(**call)[0]
    return F.mse_loss(student(**call)[0], target)


def _batches(latents: Latents, count: int) -> Iterator[dict[str, Any]]:
    """Calls on `count` samples, spread evenly over the dataset and so over the timesteps."""
    chosen = torch.linspace(0, len(latents) - 1, min(count, len(latents))).round().long()
    return (latents.batch(rows) for rows in chosen.split(BATCH))


def checkpoint_file(base: BaseModel, method: str) -> Path:
    """Where `generator train` keeps the quantized backbone of a method."""
    return base.calibrated / f"{base.id}-{method}.safetensors"


def _method(weight_bits: int) -> Method:
    id_ = f"s2p-w{weight_bits}a8"
    notes = (
        f"Serial-to-Parallel: trained {weight_bits}-bit weights and 8-bit activation grids by timestep, "
        "most and least sensitive layers at other bits, time embedding from a table; integer arithmetic is "
        "simulated"
    )
    return from_checkpoint(id_, f"Serial-to-Parallel W{weight_bits}A8", weight_bits, notes)


def from_checkpoint(id_: str, label: str, weight_bits: int, notes: str) -> Method:
    """A method that `generator train` has to make before it can be applied, with 8-bit activations."""

    def check(base: BaseModel) -> Path:
        return already_made(checkpoint_file(base, id_), base, "train", id_)

    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        load_quantized(getattr(pipeline, base.backbone), check(base))

    def spent(base: BaseModel) -> int:
        return read_notes(checkpoint_file(base, id_))["nfe"]

    return Method(id_, label, weight_bits, ACT_BITS, notes, apply, check=check, spent=spent)


def _make(base: BaseModel, path: Path, prompt_set: str | None = None, *, weight_bits: int) -> None:
    """Collect the latents, train, and write the quantized backbone."""
    prompts = half_of(prompt_set or base.calibration, "calibration", PROMPTS)
    checked(base, [], prompts)
    pipeline = base.load()
    backbone = getattr(pipeline, base.backbone)
    state = path.with_suffix(".training")
    with counted(backbone) as rows:
        latents = latent_dataset(pipeline, base, prompts)
        student, notes = serial_to_parallel(backbone, latents, weight_bits, base.keep, state, ITERATIONS)
    nfe = sum(rows) + notes["begun_at"] * 2 * BATCH  # teacher and student, before an interruption
    save_quantized(student, path, {**notes, "nfe": nfe, "versions": software_versions()})


METHODS = [_method(4), _method(8)]
MAKERS = {f"s2p-w{bits}a8": functools.partial(_make, weight_bits=bits) for bits in (4, 8)}
