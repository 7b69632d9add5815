"""Quantize a whole model: every Linear and Conv2d but those that are named as exceptions."""

import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from generator.errors import InputError
from generator.quantize.layers import Acts, Weights, quantized

Model = TypeVar("Model", bound=nn.Module)


def quantize_model(model: Model, weights: Weights, acts: Acts | None, skip: Sequence[str] = ()) -> Model:
    """Return a copy of `model` whose Linear and Conv2d layers are quantized; `model` stays as it is.

    Raises:
        InputError: as `quantizable`.
        ValueError: as `layers.quantized`.
    """
    copied = copy.deepcopy(model)
    layers = quantizable(copied, skip)
    # A layer that stands under several names stays one layer.
    twins = {layer: quantized(layer, weights, acts) for layer in layers.values()}
    replace(copied, {name: twins[layer] for name, layer in layers.items()})
    return copied


def quantizable(model: nn.Module, skip: Sequence[str] = ()) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the Linear and Conv2d layers of `model` by full name, but those that `skip` matches.

    `skip` holds fnmatch patterns over full layer names ("conv_in", "*.time_emb_proj"). Subclasses of Linear
    and Conv2d are left alone, since they may compute something else.

    Raises:
        InputError: a pattern that matches no layer, or no layer left; a model that silently stays in full
            precision is the mistake this guards against.
    """
    layers = {
        name: layer
        for name, layer in model.named_modules(remove_duplicate=False)
        if type(layer) is nn.Linear or type(layer) is nn.Conv2d
    }
    for pattern in skip:
        if not matching(layers, [pattern]):
            raise InputError(f"keep: {pattern!r} matches no Linear or Conv2d of {type(model).__name__}")
    skipped = set(matching(layers, skip))
    chosen = {name: layer for name, layer in layers.items() if name not in skipped}
    if not chosen:
        raise InputError(f"{type(model).__name__} has no Linear or Conv2d left to quantize")
    return chosen


def matching(names: Mapping[str, object], patterns: Sequence[str]) -> list[str]:
    """Return the names that match one of the fnmatch patterns, in their order."""
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def replace(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put `layers` into `model`, in place, under their full names."""
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
