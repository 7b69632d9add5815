"""Quantized layers that learn: rounding passes gradients straight through, so weights and scales can move.

    ŵ = s · round(clip(w / s, −q_max, q_max)),   x̂ = s_t · round(clip(x / s_t, −z_t, 2^bits − 1 − z_t))

Where a number is clipped, the gradient goes to the scale instead (LSQ, Esser et al. 2020). Scales are learned
as logarithms, so that a learning rate is a relative change, and are used as they will be stored, in fp16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from generator.quantize.layers import ByStep, QuantConv2d, QuantLinear, Weights, quantized
from generator.quantize.uniform import Grid, symmetric_grid

EVERY = 25  # iterations between two saves of a training's state


class Learning(nn.Module):
    """A Linear or Conv2d whose weight (w), weight scales and activation scales by step are learned."""

    act_zeros: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d, weights: Weights, acts: ByStep | None) -> None:
        """Begin at the grids of `weights`, symmetric and one an output channel, and `acts`."""
        super().__init__()
        self.layer, self.weights, self.acts = layer.requires_grad_(False), weights, acts
        self.weight = nn.Parameter(layer.weight.detach().clone())
        grid = symmetric_grid(self._rows(self.weight), weights.bits, -1, weights.rule, half=True)
        self.log_scale = nn.Parameter(grid.s.float().log())
        if acts is not None:
            self.log_act_scales = nn.Parameter(torch.tensor(acts.scales, device=layer.weight.device).log())
            self.register_buffer("act_zeros", torch.tensor(acts.zeros, device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """What the quantized layer of the present weights and scales gives."""
        if self.acts is not None:
            each, index = (-1, *(1,) * (x.ndim - 1)), self.acts.clock.index
            s = half(self.log_act_scales.exp())[index].view(each)
            z = self.act_zeros[index].view(each)
            x = s * straight_round(torch.maximum(torch.minimum(x / s, 2**self.acts.bits - 1 - z), -z))
        grid = self._grid()
        rows = self._rows(self.weight)
        learned = grid.s * straight_round((rows / grid.s).clamp(grid.q_min, grid.q_max))
        return torch.func.functional_call(self.layer, {"weight": learned.view_as(self.weight)}, (x,))

    def frozen(self) -> QuantLinear | QuantConv2d:
        """The quantized layer that gives the same, its integers packed."""
        acts = self.acts
        if acts is not None:
            scales = half(self.log_act_scales.exp()).tolist()
            acts = ByStep(acts.bits, tuple(scales), acts.zeros, acts.clock)
        with torch.no_grad():
            self.layer.weight.copy_(self.weight)
            grid = self._grid()
        return quantized(self.layer, self.weights, acts, Grid(grid.s.half(), grid.z, grid.q_min, grid.q_max))

    def _rows(self, weight: Tensor) -> Tensor:
        return weight.flatten(1).unsqueeze(1)

    def _grid(self) -> Grid:
        q_max = 2 ** (self.weights.bits - 1) - 1
        s = half(self.log_scale.exp())
        return Grid(s, torch.zeros_like(s), -q_max, q_max)


def straight_round(x: Tensor) -> Tensor:
    """Round to nearest; the gradient is that of x itself."""
    return x + (x.round() - x).detach()


def half(x: Tensor) -> Tensor:
    """Round to fp16; the gradient is that of x itself."""
    return x + (x.half().float() - x).detach()


def train(
    student: nn.Module,
    rates: Sequence[tuple[Iterable[nn.Parameter], float]],
    loss: Callable[[int], Tensor],
    iterations: int,
    state: Path,
) -> int:
    """Minimise `loss(iteration)`, which must depend on its argument and the parameters alone, by Adam.

    `rates` are parameters with their learning rates, which fall to 0 along half a cosine. The file `state` is
    written every EVERY iterations, so that a run that was interrupted goes on there, to the same result; it
    is removed at the end. Returns at which iteration this run began.

    Raises:
        ValueError: `state` is of a training of another length.
    """
    groups = [{"params": list(parameters), "lr": rate} for parameters, rate in rates]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    parts: Mapping[str, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]
    parts = {"student": student, "optimizer": optimizer, "schedule": schedule}
    begun = 0
    if state.exists():
        stored = torch.load(state, weights_only=True)
        if stored["iterations"] != iterations:
            raise ValueError(f"{state}: of a training of {stored['iterations']} steps, not {iterations}")
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        begun = stored["done"]
    with tqdm(total=iterations, initial=begun, desc="training", unit="step") as bar:
        for i in range(begun, iterations):
            optimizer.zero_grad()
            value = loss(i)
            value.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix_str(f"loss {float(value.detach()):.3g}")
            if (i + 1) % EVERY == 0 and i + 1 < iterations:
                new = state.with_name(state.name + ".new")
                states = {name: part.state_dict() for name, part in parts.items()}
                torch.save({**states, "done": i + 1, "iterations": iterations}, new)
                new.replace(state)
    state.unlink(missing_ok=True)
    return begun
