"""SVDQuant W4A4 (Li et al. 2024): smoothing and a low-rank branch around 4-bit attention and feed-forward.

The layer lists are deepcompressor's: attention projections and feed-forward layers get smoothing and branch;
the two convolutions of a residual block are quantized without them, on unsigned activations where a SiLU
stands before them; everything else (shortcuts, time and text embeddings, samplers, the 1×1 layers in and
out of a transformer, adaptive norms) stays in 16 bits. GPTQ is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from generator.methods import Method, MethodError
from generator.models import BaseModel
from generator.prompts import half_of
from generator.quantize import Grouped, Weights, quantizable, quantized, replace
from generator.quantize.lowrank import low_rank_layers
from generator.quantize.model import matching
from generator.quantize.observe import input_tokens
from generator.sweep import render_in_batches

GROUP = 64
# The paper's 32 is for layers of 640 to 12,288 channels. Those of the shapes world have 128 to 1,024: there
# a branch of rank 32 would outweigh the 4-bit weights it stands beside.
RANK, RANKS = 32, {"shapes": 8}
CALIBRATION_PROMPTS = 64

BRANCHED = (
    "*.to_q",
    "*.to_k",
    "*.to_v",
    "*.to_out.0",
    "*.add_?_proj",
    "*.to_add_out",
    "*.ff.net.*",
    "*.ff_context.net.*",
    "single_transformer_blocks.*.proj_mlp",
    "single_transformer_blocks.*.proj_out",
)
PLAIN = ("*.resnets.*.conv1", "*.resnets.*.conv2")
# The least values of these functions: −0.2785 and −0.1700 (tanh form: −0.1701), rounded down.
SILU_SHIFT, GELU_SHIFT = 0.2785, 0.1701


@torch.no_grad()
def svdquant(model: nn.Module, run: Callable[[], Any], rank: int, bits: int = 4) -> None:
    """Quantize `model` in place; `run` runs it on calibration data.

    Raises:
        MethodError: no layer that the lists name.
        InputError: one that `run` never calls, or whose input is not finite.
    """
    layers = quantizable(model)
    branched, plain = matching(layers, BRANCHED), matching(layers, PLAIN)
    if not branched:
        raise MethodError(f"SVDQuant knows no attention or feed-forward layer of {type(model).__name__}")
    tokens = input_tokens(model, branched, run)
    weights = Weights(bits, GROUP)
    new: dict[str, nn.Module] = {
        name: quantized(layers[name], weights, Grouped(bits, GROUP, _shift(model, name))) for name in plain
    }
    for together in _same_input(tokens):
        acts = Grouped(bits, GROUP, _shift(model, together[0]))
        linears = [layer for name in together if isinstance(layer := layers[name], nn.Linear)]
        made = low_rank_layers(linears, tokens[together[0]], rank, weights, acts)
        new.update(zip(together, made, strict=True))
    replace(model, new)


def _same_input(tokens: dict[str, torch.Tensor]) -> list[list[str]]:
    """The names, those of one parent module that got the same tokens together."""
    groups: dict[tuple[str, int], list[str]] = {}
    for name, x in tokens.items():
        parent = name.rpartition(".")[0]
        alike = [k for k, names in groups.items() if k[0] == parent and torch.equal(tokens[names[0]], x)]
        groups.setdefault(alike[0] if alike else (parent, len(groups)), []).append(name)
    return list(groups.values())


def _shift(model: nn.Module, name: str) -> float | None:
    """What must be added to the inputs of a layer so that none is negative; None where they have no bound."""
    parent, _, child = name.rpartition(".")
    block: Any = model.get_submodule(parent)
    if child in ("conv1", "conv2") and isinstance(getattr(block, "nonlinearity", None), nn.SiLU):
        return SILU_SHIFT
    if child == "2" and type(block[0]).__name__ == "GELU":  # behind a GEGLU there is no bound
        return GELU_SHIFT
    return None


def _apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
    prompts = half_of(base.calibration, "calibration", CALIBRATION_PROMPTS)
    svdquant(
        getattr(pipeline, base.backbone),
        lambda: render_in_batches(pipeline, base, prompts),
        RANKS.get(base.id, RANK),
    )


METHODS = [
    Method(
        "svdquant-w4a4",
        "SVDQuant W4A4",
        4,
        4,
        "SVDQuant: 4-bit attention, feed-forward and residual convolutions in groups of 64, low-rank branch "
        "and all other layers in 16 bits; integer arithmetic is simulated",
        _apply,
    )
]
