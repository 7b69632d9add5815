"""Quantize a whole model: every Linear and Conv2d but those that are named as exceptions."""

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from generator.quantize.layers import QuantConv2d, QuantLinear

Model = TypeVar("Model", bound=nn.Module)


def quantize_model(model: Model, weight_bits: int, act_bits: int | None, skip: Sequence[str] = ()) -> Model:
    """Return a copy of `model` whose Linear and Conv2d layers are quantized; `model` stays as it is.

    `skip` holds fnmatch patterns over full layer names ("conv_in", "*.time_emb_proj"). Subclasses of Linear
    and Conv2d are left alone, since they may compute something else.

    Raises:
        ValueError: a pattern that matches no layer, no layer left to quantize, or bits that do not exist; a
            model that silently stays in full precision is the mistake this guards against.
    """
    quantized = copy.deepcopy(model)
    layers = {
        name: layer
        for name, layer in quantized.named_modules(remove_duplicate=False)
        if type(layer) is nn.Linear or type(layer) is nn.Conv2d
    }
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ValueError(
                f"skip pattern {pattern!r} matches no Linear or Conv2d of {type(model).__name__}"
            )
    chosen = [name for name in layers if not any(fnmatchcase(name, pattern) for pattern in skip)]
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no Linear or Conv2d left to quantize")
    # A layer that stands under several names stays one layer.
    twins = {layers[name]: _quantized(layers[name], weight_bits, act_bits) for name in chosen}
    for name in chosen:
        parent, _, child = name.rpartition(".")
        setattr(quantized.get_submodule(parent), child, twins[layers[name]])
    return quantized


def _quantized(layer: nn.Linear | nn.Conv2d, weight_bits: int, act_bits: int | None) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        return QuantConv2d.from_float(layer, weight_bits, act_bits)
    return QuantLinear.from_float(layer, weight_bits, act_bits)
