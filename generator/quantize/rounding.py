"""Learned rounding (AdaRound, Nagel et al. 2020) by blocks (BRECQ, Li et al. 2021), as Q-Diffusion uses it.

Each weight is rounded down or up, whichever serves the output of the block it stands in:

    ŵ = s · clip(⌊w / s⌋ + h(v), −q_max, q_max),   h(v) = clip(1.2 sigmoid(v) − 0.1, 0, 1)

v is learned, block after block in the order of the data, on inputs that the quantized blocks before give and
towards the outputs of full precision; a regulariser drives h to 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from generator.quantize.layers import Weights
from generator.quantize.model import replace
from generator.quantize.uniform import Grid, symmetric_grid

REGULARISER, WARM_UP = 0.01, 0.2  # BRECQ's
SHARPNESS = (20.0, 2.0)  # the regulariser's exponent, from its first to its last iteration
Call = tuple[tuple[Any, ...], dict[str, Any]]


class Rounding(nn.Module):
    """A Linear or Conv2d whose rounding is learned; begins at the weight itself, unrounded."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, weights: Weights) -> None:
        """Take the symmetric grid that `weights` makes, one scale an output channel."""
        super().__init__()
        self.layer, self.weights = layer, weights
        rows = layer.weight.detach().flatten(1).unsqueeze(1)
        self.grid = symmetric_grid(rows, weights.bits, -1, weights.rule, half=True)
        exact = rows / self.grid.s.float()
        self.down = exact.floor()
        share = exact - self.down
        self.v = nn.Parameter(-torch.log(1.2 / (share + 0.1) - 1))

    def up(self) -> Tensor:
        """h(v), how far each weight is rounded up, 0 to 1."""
        return (1.2 * self.v.sigmoid() - 0.1).clamp(0, 1)

    def indecision(self, exponent: float) -> Tensor:
        """The regulariser Σ 1 − |2h − 1|^exponent; 0 once every weight has decided."""
        return (1 - (2 * self.up() - 1).abs().pow(exponent)).sum()

    def forward(self, x: Tensor) -> Tensor:
        """The layer with its weight rounded as far as is decided."""
        return torch.func.functional_call(self.layer, {"weight": self._weight(self.up())}, (x,))

    def decided(self) -> tuple[nn.Linear | nn.Conv2d, Grid]:
        """The layer with its weight on the grid, and the grid."""
        with torch.no_grad():
            self.layer.weight.copy_(self._weight((self.v > 0).float()))
        return self.layer, self.grid

    def _weight(self, up: Tensor) -> Tensor:
        integers = (self.down + up).clamp(self.grid.q_min, self.grid.q_max)
        return (self.grid.s.float() * integers).view_as(self.layer.weight)


def round_by_blocks(
    model: nn.Module,
    teacher: nn.Module,
    layers: Sequence[str],
    blocks: Callable[[str], str],
    weights: Weights,
    calls: Sequence[dict[str, Any]],
    iterations: int,
    rate: float = 1e-3,
) -> dict[str, tuple[nn.Linear | nn.Conv2d, Grid]]:
    """Round the weights of `model`'s `layers`, in place; returns each with the grid its weight lies on.

    `blocks(name)` is the block a layer is learned with, itself if with none; `teacher` is the model in full
    precision; `calls` are arguments of calibration batches. `rate` is the learning rate of v: BRECQ's own is
    for its 20,000 iterations.
    """
    members: dict[str, list[str]] = {}
    for name in layers:
        members.setdefault(blocks(name), []).append(name)
    found = {}
    for block in tqdm(_in_order(teacher, list(members), calls[0]), "rounding", unit="block"):
        inputs = [_inputs(model, block, call) for call in calls]
        targets = [_result(teacher, block, call) for call in calls]
        learned = {}
        for name in members[block]:
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Linear | nn.Conv2d)  # noqa: S101 - for the type checker
            learned[name] = Rounding(layer, weights)
        replace(model, learned)
        _reconstruct(model.get_submodule(block), list(learned.values()), inputs, targets, iterations, rate)
        found.update({name: rounding.decided() for name, rounding in learned.items()})
        replace(model, {name: found[name][0] for name in learned})
    return found


def _reconstruct(
    block: nn.Module,
    learned: Sequence[Rounding],
    inputs: Sequence[Call],
    targets: Sequence[Tensor],
    iterations: int,
    rate: float,
) -> None:
    optimizer = torch.optim.Adam([rounding.v for rounding in learned], rate)
    generator = torch.Generator().manual_seed(0)
    first, last = SHARPNESS
    for i in range(iterations):
        k = int(torch.randint(len(inputs), (), generator=generator))
        arguments, named = inputs[k]
        loss = (block(*arguments, **named) - targets[k]).square().sum(1).mean()
        progress = (i / iterations - WARM_UP) / (1 - WARM_UP)
        if progress >= 0:
            exponent = last + (first - last) * (1 - progress)
            loss = loss + REGULARISER * sum(rounding.indecision(exponent) for rounding in learned)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class _Enough(Exception):  # noqa: N818 - it ends a run, and is no error
    """The block has been called."""


@contextmanager
def _until_enough() -> Iterator[None]:
    try:
        with torch.no_grad():
            yield
    except _Enough:
        pass


def _inputs(model: nn.Module, block: str, call: dict[str, Any]) -> Call:
    """The arguments that `block` is called with; the model is run no further."""
    seen: list[Call] = []

    def look(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append((arguments, named))
        raise _Enough

    handle = model.get_submodule(block).register_forward_pre_hook(look, with_kwargs=True)
    with _until_enough():
        model(**call)
    handle.remove()
    return seen[0]


def _result(model: nn.Module, block: str, call: dict[str, Any]) -> Tensor:
    """What `block` returns; the model is run no further."""
    seen: list[Tensor] = []

    def look(_module: nn.Module, _arguments: object, output: Tensor) -> None:
        seen.append(output)
        raise _Enough

    handle = model.get_submodule(block).register_forward_hook(look)
    with _until_enough():
        model(**call)
    handle.remove()
    return seen[0]


@torch.no_grad()
def _in_order(model: nn.Module, blocks: Sequence[str], call: dict[str, Any]) -> list[str]:
    """The blocks in the order in which a call of the model reaches them.

    Raises:
        ValueError: a block that is never called.
    """
    order: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: order.append(name)

    handles = [model.get_submodule(name).register_forward_pre_hook(note(name)) for name in blocks]
    model(**call)
    for handle in handles:
        handle.remove()
    if missing := set(blocks) - set(order):
        raise ValueError(f"{sorted(missing)[0]!r} is never called, so it cannot be calibrated")
    return list(dict.fromkeys(order))
