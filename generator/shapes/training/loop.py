"""The training loop that all stages share: warm-up and linear decay, averaging, log, checkpoints."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from generator.shapes.networks import WEIGHTS

CHECKPOINTS = Path("runs/shapes")


@dataclass(frozen=True)
class Recipe:
    """The numbers of one stage; they are written into its log at each start."""

    stage: str
    steps: int
    batch: int
    lr: float
    seed: int
    weight_decay: float = 0.01
    warmup: int = 100
    decay_from: float = 0.3  # fraction of the steps after which the learning rate falls linearly
    average: float = 0.998  # decay of the exponential moving average of the weights
    checkpoint_every: int = 250


def train(
    recipe: Recipe, modules: dict[str, nn.Module], losses: Callable[[int, torch.Generator], dict[str, Tensor]]
) -> dict[str, nn.Module]:
    """Minimise the sum of `losses(step, generator)` over the parameters of `modules`.

    The averaged weights are written to WEIGHTS/<module>.safetensors (float16) at each checkpoint, the
    log to WEIGHTS/<stage>.log.jsonl. Returns the averaged modules.
    """
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, recipe.lr, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
    )
    averaged = {name: copy.deepcopy(module).requires_grad_(False) for name, module in modules.items()}
    checkpoint = CHECKPOINTS / f"{recipe.stage}.pt"
    first = _restore(checkpoint, modules, averaged, optimizer)
    log = WEIGHTS / f"{recipe.stage}.log.jsonl"
    WEIGHTS.mkdir(exist_ok=True)
    if not first:
        log.unlink(missing_ok=True)
    _append(log, {"recipe": asdict(recipe), "from_step": first, "torch": torch.__version__})

    recent: dict[str, list[float]] = {}
    since = time.monotonic()
    for step in tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, desc=recipe.stage):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule(recipe, step)
        seed = recipe.seed * 1_000_003 + step
        torch.manual_seed(seed)
        terms = losses(step, torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        _average(averaged, modules, min(recipe.average, (1 + step) / (10 + step)))

        for name, term in terms.items():
            recent.setdefault(name, []).append(term.item())
        done = step + 1
        if done % 50 == 0:
            row = {"step": done, **{name: round(fmean(values), 5) for name, values in recent.items()}}
            row["pictures_per_second"] = round(50 * recipe.batch / (time.monotonic() - since), 1)
            _append(log, row)
            recent, since = {}, time.monotonic()
        if done % recipe.checkpoint_every == 0 or done == recipe.steps:
            _save(checkpoint, done, modules, averaged, optimizer)
            for name, module in averaged.items():
                save_weights(module, name)
    return {name: module.eval() for name, module in averaged.items()}


def _append(log: Path, row: dict[str, Any]) -> None:
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")


def save_weights(module: nn.Module, name: str) -> None:
    """Write a module to WEIGHTS/<name>.safetensors in float16."""
    tensors = {
        k: v.half().contiguous() if v.is_floating_point() else v for k, v in module.state_dict().items()
    }
    save_file(tensors, WEIGHTS / f"{name}.safetensors")


def _schedule(recipe: Recipe, step: int) -> float:
    progress = step / recipe.steps
    falling = min(1.0, (1 - progress) / (1 - recipe.decay_from))
    return min((step + 1) / recipe.warmup, 1.0) * falling + 0.005


@torch.no_grad()
def _average(averaged: dict[str, nn.Module], modules: dict[str, nn.Module], decay: float) -> None:
    for name, module in modules.items():
        slow, fast = averaged[name].state_dict(), module.state_dict()
        floats = [key for key, value in fast.items() if value.is_floating_point()]
        torch._foreach_lerp_([slow[k] for k in floats], [fast[k] for k in floats], 1 - decay)


def _save(
    path: Path,
    step: int,
    modules: dict[str, nn.Module],
    averaged: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "averaged": {name: module.state_dict() for name, module in averaged.items()},
        "optimizer": optimizer.state_dict(),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _restore(
    path: Path,
    modules: dict[str, nn.Module],
    averaged: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
        averaged[name].load_state_dict(state["averaged"][name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
