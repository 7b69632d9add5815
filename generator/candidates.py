"""The pictures of one set of prompts under one set of coefficients after another.

What is the same for all candidates is computed once: the encoded texts, and the backbone's first evaluation,
which sees nothing but the texts and fresh noise (coefficients come in behind it).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from generator.methods.qsched import set_scheduler
from generator.models import BaseModel
from generator.sweep import render
from generator.sweep.conditions import encoded
from qsched.coefficients import Coefficients
from study.gallery import Prompt


class Candidates:
    """Draws `prompts` with a pipeline; the noise of each depends on its id alone.

    `evaluations` counts what was drawn so far, one for each pass of a picture through the backbone.
    """

    def __init__(self, pipeline: DiffusionPipeline, base: BaseModel, prompts: Sequence[Prompt]) -> None:
        """Nothing is drawn yet."""
        self.pipeline, self.base, self.prompts = pipeline, base, prompts
        self.evaluations = 0
        self._texts: dict[range, dict[str, Tensor]] = {}
        self._first: dict[int, Tensor] = {}

    def __call__(self, coefficients: Coefficients, some: range | None = None) -> Tensor:
        """The pictures of a range of the prompts, of all if there is none; (n, 3, s, s) in [0, 1].

        As in a gallery, what is not a number is black. The pipeline's scheduler stays as it was.
        """
        some = range(len(self.prompts)) if some is None else some
        scheduler = self.pipeline.scheduler
        set_scheduler(self.pipeline, coefficients)
        try:
            size = self.base.batch
            drawn = [self._drawn(some[i : i + size]) for i in range(0, len(some), size)]
        finally:
            self.pipeline.scheduler = scheduler
        return torch.cat(drawn).float().nan_to_num(0, 0, 0)

    def _drawn(self, batch: range) -> Tensor:
        prompts = [self.prompts[i] for i in batch]
        if batch not in self._texts:
            self._texts[batch] = encoded(self.pipeline, self.base, [prompt.text for prompt in prompts])
        with self._first_remembered(batch):
            return render(self.pipeline, self.base, prompts, self._texts[batch])

    @contextmanager
    def _first_remembered(self, batch: range) -> Iterator[None]:
        """Answer the backbone's first call from memory where all of the batch is known."""
        backbone, asked = getattr(self.pipeline, self.base.backbone), False
        own = backbone.forward

        @functools.wraps(own)  # some quantized layers look at its signature
        def forward(*arguments: Any, **named: Any) -> tuple[Tensor, ...]:
            nonlocal asked
            first, asked = not asked, True
            if first and all(i in self._first for i in batch):
                # Under guidance a prompt has two rows, which stand a batch apart.
                return (torch.stack([self._first[i] for i in batch], 1).flatten(0, 1),)
            output = own(*arguments, **named)
            self.evaluations += len(output[0])
            if first:
                rows = output[0].unflatten(0, (-1, len(batch)))
                self._first.update(zip(batch, rows.unbind(1), strict=True))
            return output

        backbone.forward = forward
        try:
            yield
        finally:
            backbone.forward = own
