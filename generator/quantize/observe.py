"""What arrives at a model's layers while it runs: tokens to calibrate on, and ranges.

`run` is any function that runs the model; it is called once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from generator.errors import InputError
from generator.quantize.clock import Clock
from generator.quantize.uniform import asymmetric_grid

TOKENS, VALUES = 128, 4096  # kept of each call of a layer


@contextmanager
def watching(model: nn.Module, names: Sequence[str], look: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `look(name, input)` whenever one of the named layers is called, until the block ends."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _layer, arguments: look(name, arguments[0].detach())

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def input_tokens(model: nn.Module, names: Sequence[str], run: Callable[[], Any]) -> dict[str, Tensor]:
    """Tokens (n, in) that arrive at each of the named Linear layers: up to TOKENS of every call, at random.

    Which tokens are kept depends on their number alone, so layers with the same input keep the same ones.
    They lie in main memory, in the model's precision: of FLUX, tens of gigabytes.

    Raises:
        InputError: a layer that `run` never calls, or whose input is not finite.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in names}

    def look(name: str, x: Tensor) -> None:
        tokens = x.flatten(0, -2)
        chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))[:TOKENS]
        kept[name].append(tokens[chosen.to(x.device)].cpu())

    with watching(model, names, look):
        run()
    return {name: _seen(name, tokens) for name, tokens in kept.items()}


@torch.no_grad()
def input_ranges(
    model: nn.Module, names: Sequence[str], run: Callable[[], Any], rule: str = "min-max", bits: int = 8
) -> dict[str, tuple[float, float]]:
    """The range of what arrives at each of the named layers, by a rule of `uniform`, for a `Static` grid.

    Under "min-max", the least and the largest value; the other rules look at up to VALUES of every call, at
    random, and "mse" is for a grid of `bits`.

    Raises:
        InputError: a layer that `run` never calls, or whose input is not finite.
        ValueError: an unknown rule.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in names}

    def look(name: str, x: Tensor) -> None:
        if rule == "min-max":
            kept[name].append(torch.stack(x.aminmax()).float())
            return
        chosen = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0))[:VALUES]
        kept[name].append(x.flatten()[chosen.to(x.device)].float())

    with watching(model, names, look):
        run()
    return {name: _range(_seen(name, values), rule, bits) for name, values in kept.items()}


def _range(values: Tensor, rule: str, bits: int) -> tuple[float, float]:
    if rule == "min-max":
        return float(values.min()), float(values.max())
    grid = asymmetric_grid(values, bits, 0, rule)
    return float((grid.q_min - grid.z) * grid.s), float((grid.q_max - grid.z) * grid.s)


@torch.no_grad()
def ranges_by_step(
    model: nn.Module, names: Sequence[str], clock: Clock, run: Callable[[], Any]
) -> dict[str, list[tuple[float, float]]]:
    """As `input_ranges`, for each timestep of `clock`, which watches the model.

    Raises:
        InputError: a layer that `run` does not call at every timestep, or whose input is not finite.
    """
    steps = len(clock.timesteps)
    low = {name: torch.full((steps,), torch.inf) for name in names}
    high = {name: torch.full((steps,), -torch.inf) for name in names}

    def look(name: str, x: Tensor) -> None:
        index = clock.index.expand(len(x)).cpu()
        least, most = (extreme.float().cpu() for extreme in x.flatten(1).aminmax(dim=1))
        low[name].scatter_reduce_(0, index, least, "amin")
        high[name].scatter_reduce_(0, index, most, "amax")

    with watching(model, names, look):
        run()
    for name in names:
        if (low[name] > high[name]).any():
            raise InputError(f"layer {name!r} is not called at every timestep, so it cannot be calibrated")
        _finite(name, high[name] - low[name])
    return {name: list(zip(low[name].tolist(), high[name].tolist(), strict=True)) for name in names}


def _seen(name: str, calls: list[Tensor]) -> Tensor:
    """What was kept of all calls of a layer."""
    if not calls:
        raise InputError(f"layer {name!r} is never called, so it cannot be calibrated")
    return _finite(name, torch.cat(calls))


def _finite(name: str, x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise InputError(f"layer {name!r} gets values that are not finite, so it cannot be calibrated")
    return x
