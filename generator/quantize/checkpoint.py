"""A quantized model as a file: safetensors, and the layout that its layers are rebuilt from in the header.

Methods whose calibration takes long keep its result so. Floats are stored in fp16, as `size_bytes` counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from generator.errors import InputError
from generator.quantize.clock import Clock
from generator.quantize.layers import Acts, ByStep, QuantConv2d, QuantLinear, Static, Weights, quantized
from generator.quantize.model import replace
from generator.quantize.split import SplitConv2d
from generator.quantize.timesteps import TimeTable


class CheckpointError(InputError):
    """A checkpoint that cannot be used; the message names the file."""


def save_quantized(model: nn.Module, path: Path, notes: dict[str, Any]) -> None:
    """Write `model`, whose weights have a scale an output channel and whose activation grids are static or by
    step; `notes` say how it was made.

    Raises:
        ValueError: a layer of another kind, which could not be rebuilt.
    """
    layout: dict[str, Any] = {"notes": notes, "timesteps": [], "tables": {}, "splits": {}, "layers": {}}
    for name, module in model.named_modules():
        if isinstance(module, TimeTable):
            layout["tables"][name] = module.table.shape[1]
            layout["timesteps"] = module.clock.timesteps
        elif isinstance(module, SplitConv2d):
            layout["splits"][name] = module.channels
        elif isinstance(module, QuantLinear | QuantConv2d):
            if isinstance(module.acts, ByStep):
                layout["timesteps"] = module.acts.clock.timesteps
            elif not isinstance(module.acts, Static | None):
                raise ValueError(f"{name} has activation grids of kind {type(module.acts).__name__}")
            if module.weights.group is not None or not module.weights.symmetric:
                raise ValueError(f"{name} has weights in groups or with zero points")
            bits = module.acts.bits if module.acts else 16
            layout["layers"][name] = [module.weights.bits, bits, isinstance(module.acts, ByStep)]
    tensors = {
        name: (tensor.half() if tensor.dtype == torch.float32 else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    save_file(tensors, new, metadata={"layout": json.dumps(layout)})
    new.chmod(0o644)  # safetensors keeps it to its owner
    new.replace(path)


def load_quantized(model: nn.Module, path: Path) -> None:
    """Turn the full-precision `model` into the quantized one that `path` holds, in place.

    Raises:
        CheckpointError: no such file, not such a file, or one of another model.
    """
    with _opened(path) as (file, layout):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    try:
        _rebuild(model, layout)
        model.load_state_dict(tensors)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not of this {type(model).__name__}: {first}") from error


def read_notes(path: Path) -> dict[str, Any]:
    """The notes of a checkpoint; CheckpointError as `load_quantized`."""
    with _opened(path) as (_, layout):
        return layout["notes"]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The file, and its layout."""
    try:
        with safe_open(path, "pt") as file:
            yield file, json.loads((file.metadata() or {})["layout"])
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or 'No such file or directory'}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a quantized model: {error}") from error


def _rebuild(model: nn.Module, layout: dict[str, Any]) -> None:
    clock = Clock(layout["timesteps"])
    if clock.timesteps:
        clock.watch(model)
    like = next(model.parameters())
    for name, width in layout["tables"].items():
        table = torch.zeros(len(clock.timesteps), width, dtype=like.dtype, device=like.device)
        replace(model, {name: TimeTable(table, clock)})
    for name, channels in layout["splits"].items():
        replace(model, {name: SplitConv2d.from_float(_convolution(model, name), channels)})
    steps = len(clock.timesteps)
    for name, (weight_bits, act_bits, by_step) in layout["layers"].items():
        acts: Acts | None = None
        if by_step:
            acts = ByStep(act_bits, (1.0,) * steps, (0,) * steps, clock)
        elif act_bits < 16:
            acts = Static(act_bits, 0, 1)
        layer = model.get_submodule(name)
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise TypeError(f"{name} is a {type(layer).__name__}")
        replace(model, {name: quantized(layer, Weights(weight_bits), acts)})


def _convolution(model: nn.Module, name: str) -> nn.Conv2d:
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"{name} is a {type(layer).__name__}")
    return layer
