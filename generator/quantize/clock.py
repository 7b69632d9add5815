"""Which timestep the samples of a batch are at, told to layers that only see their inputs.

A few-step sampler visits the same few timesteps in every picture. A `Clock` looks at the model's calls, in
which samples may be at different timesteps, and finds each of them among those it knows.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


class Clock:
    """The timesteps that a model knows, and in `index`, () or (B,), where the samples of its call are."""

    def __init__(self, timesteps: Sequence[float]) -> None:
        """`timesteps` are as the model gets them, in the order of sampling; PNDM's come twice at times."""
        self.timesteps = tuple(dict.fromkeys(float(t) for t in timesteps))
        self.index = torch.zeros((), dtype=torch.long)

    def watch(self, model: nn.Module) -> None:
        """Follow every call of `model` from now on; copies of the model get clocks of their own."""
        model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, model: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        t = torch.as_tensor(named_arguments(model, arguments, named)["timestep"])
        known = torch.tensor(self.timesteps, device=t.device)
        nearest = (t.float().unsqueeze(-1) - known).abs().min(-1)
        if (nearest.values > 1e-3 * known.abs().max()).any():
            raise ValueError(f"timestep {t.tolist()} is not one that was calibrated: {list(self.timesteps)}")
        self.index = nearest.indices


def named_arguments(model: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `model`, all by name."""
    return dict(inspect.signature(model.forward).bind(*arguments, **named).arguments)
