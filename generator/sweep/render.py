"""Prompts to pictures, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor, nn

from generator.models import BaseModel
from generator.prompts import noise_seed
from generator.quantize.clock import named_arguments
from study.gallery import Prompt


@dataclass(frozen=True)
class Drawn:
    """Pictures of one batch: `pixels` (n, s, s, 3), `flags` of each ("nan", "black"), and `nfe`, how often
    the backbone was evaluated for an image; guidance counts as a second evaluation."""

    pixels: NDArray[np.uint8]
    flags: list[list[str]]
    nfe: int


@torch.no_grad()
def render(
    pipeline: DiffusionPipeline,
    base: BaseModel,
    prompts: Sequence[Prompt],
    conditions: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The pictures of some prompts, (n, 3, s, s) in [0, 1]; the noise of each depends on its id alone.

    `conditions` are the prompts' texts as the pipeline's call takes them when they are encoded already.
    """
    texts: Mapping[str, Any] = conditions or {"prompt": [prompt.text for prompt in prompts]}
    generators = [torch.Generator().manual_seed(noise_seed(prompt.prompt_id)) for prompt in prompts]
    return pipeline(
        **texts,
        num_inference_steps=base.steps,
        guidance_scale=base.guidance,
        generator=generators,
        output_type="pt",
        **base.arguments,
    ).images


def render_in_batches(pipeline: DiffusionPipeline, base: BaseModel, prompts: Sequence[Prompt]) -> Tensor:
    """`render`, `base.batch` pictures at a time, for calibrations."""
    batches = (prompts[i : i + base.batch] for i in range(0, len(prompts), base.batch))
    return torch.cat([render(pipeline, base, batch) for batch in batches])


def draw(
    pipeline: DiffusionPipeline,
    base: BaseModel,
    prompts: Sequence[Prompt],
    conditions: Mapping[str, Tensor] | None = None,
) -> Drawn:
    """`render`, rounded to bytes; what is not a number is drawn as black and flagged."""
    with counted(getattr(pipeline, base.backbone)) as rows:
        pictures = render(pipeline, base, prompts, conditions)
    flat = pictures.flatten(1)
    nan = ~flat.isfinite().all(1)
    pixels = (pictures.nan_to_num(0, 0, 0) * 255).round().clamp(0, 255).to(torch.uint8)
    black = pixels.flatten(1).amax(1) == 0
    named = {"nan": nan.tolist(), "black": black.tolist()}
    return Drawn(
        pixels=pixels.permute(0, 2, 3, 1).cpu().numpy(),
        flags=[[name for name, found in named.items() if found[i]] for i in range(len(prompts))],
        nfe=math.ceil(sum(rows) / len(prompts)),
    )


@contextmanager
def counted(backbone: nn.Module) -> Iterator[list[int]]:
    """Rows of each call of the backbone, and of copies made of it meanwhile; their sum is the NFEs spent.

    A call that does not come to its end is none.
    """
    rows: list[int] = []

    def count(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], _output: object) -> None:
        rows.append(len(next(iter(named_arguments(backbone, arguments, named).values()))))

    handle = backbone.register_forward_hook(count, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()
