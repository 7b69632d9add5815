"""The latent dataset (algorithm 1 of "Efficiency Meets Fidelity"): what full precision sees on its way.

No pictures are needed, only prompts: the backbone's inputs are taken from the trajectory of the
full-precision model itself, at one step of each prompt drawn at random, or at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from tqdm import tqdm

from generator.models import BaseModel
from generator.quantize.clock import named_arguments
from generator.sweep import render
from study.gallery import Prompt

BATCH = 32
Path = tuple[str, ...]  # of an argument, in dicts that may nest: ("added_cond_kwargs", "text_embeds")


@dataclass(frozen=True, eq=False)
class Latents:
    """Inputs of the backbone: `rows` have a row for each sample, `shared` are the same for all samples.

    `timestep` (n,) is that of each sample; `timesteps` are the sampler's, in its order. Floats are float32,
    in which models learn, whatever they draw in.
    """

    rows: dict[Path, Tensor]
    shared: dict[Path, Any]
    timestep: Tensor
    timesteps: tuple[float, ...]

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.timestep)

    def batch(self, samples: Tensor) -> dict[str, Any]:
        """The arguments of a call of the backbone on some samples, which may be at different timesteps."""
        chosen = {path: tensor[samples] for path, tensor in self.rows.items()}
        return {
            **_nested({**self.shared, **chosen}),
            "timestep": self.timestep[samples],
            "return_dict": False,
        }


class _Enough(Exception):  # noqa: N818 - it ends a run, and is no error
    """The last step that is wanted has been seen."""


@torch.no_grad()
def latent_dataset(
    pipeline: DiffusionPipeline, base: BaseModel, prompts: Sequence[Prompt], per_prompt: int | None = 1
) -> Latents:
    """Run the full-precision pipeline on two prompts or more and keep its backbone's inputs.

    `per_prompt` steps of each prompt, drawn at random from seed 0, or None for all. No step is run after the
    last that is wanted; prompts with the same last step run together.

    Raises:
        ValueError: `per_prompt` is not in 1 … the number of steps.
    """
    one, two = (_calls(pipeline, base, prompts[:count]) for count in (1, 2))
    timesteps = tuple(float(call.pop(("timestep",)).max()) for call in one)
    per_sample = {
        path
        for path, value in one[0].items()
        if isinstance(value, Tensor) and value.ndim and len(value) != len(two[0][path])
    }
    steps = len(timesteps)
    count = steps if per_prompt is None else per_prompt
    if not 1 <= count <= steps:
        raise ValueError(f"{count} steps of a prompt asked for, but the sampler has {steps}")
    generator = torch.Generator().manual_seed(0)
    wanted = [set(torch.randperm(steps, generator=generator)[:count].tolist()) for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: max(wanted[i]))
    kept: dict[Path, list[Tensor]] = {path: [] for path in per_sample}
    at: list[float] = []
    size = min(BATCH, base.batch)
    for start in tqdm(range(0, len(prompts), size), "latents", unit="batch"):
        some = order[start : start + size]
        calls = _calls(pipeline, base, [prompts[i] for i in some], max(max(wanted[i]) for i in some) + 1)
        for step, call in enumerate(calls):
            samples = len(call[next(iter(per_sample))])
            # With guidance the backbone sees every prompt twice, one half of the batch after the other.
            rows = [row for row in range(samples) if step in wanted[some[row % len(some)]]]
            at += [timesteps[step]] * len(rows)
            for path in per_sample:
                kept[path].append(call[path][rows])
    inputs = {path: torch.cat(tensors) for path, tensors in kept.items()}
    shared = {path: value for path, value in one[0].items() if path not in per_sample}
    timestep = torch.tensor(at, device=next(iter(inputs.values())).device)
    return Latents(inputs, shared, timestep, timesteps)


def _calls(
    pipeline: DiffusionPipeline, base: BaseModel, prompts: Sequence[Prompt], most: int | None = None
) -> list[dict[Path, Any]]:
    """The arguments of the backbone's calls while the prompts are rendered, up to the `most`-th call."""
    calls: list[dict[Path, Any]] = []

    def keep(model: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        call = _flat(named_arguments(model, arguments, named))
        call[("timestep",)] = torch.as_tensor(call[("timestep",)])
        calls.append({path: _float32(value) for path, value in call.items()})
        if len(calls) == most:
            raise _Enough

    handle = getattr(pipeline, base.backbone).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        render(pipeline, base, prompts)
    except _Enough:
        pass
    finally:
        handle.remove()
    return calls


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _flat(tree: Mapping[str, Any], above: Path = ()) -> dict[Path, Any]:
    """Nested dicts as one, by path."""
    flat: dict[Path, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, (*above, key)) if isinstance(value, dict) else {(*above, key): value}
    return flat


def _nested(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """Undo `_flat`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        inner = tree
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return tree
