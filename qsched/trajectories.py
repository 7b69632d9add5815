"""What a sampler did: the sample and the model output of every step, written down while a pipeline runs.

`recorded` writes a run down. `replayed` lets another pipeline, the quantized one, look at the very samples of
a recorded run: whatever it predicts, it is led back to the recorded path. What it predicts on the way is the
pair to the recorded outputs that PTQD's statistics and the bound of theorem 1 need. (Two runs that each go
their own way are no such pair; the released port of PTQD makes that mistake.)
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visit:
    """One call of a scheduler's `step`: a batch at step `index`, before and after."""

    index: int
    sample: Tensor
    output: Tensor
    after: Tensor


@contextmanager
def recorded(scheduler: Any) -> Iterator[list[Visit]]:
    """Write down every step that `scheduler` takes inside the block, in float32 on the CPU."""
    visits: list[Visit] = []

    def note(index: int, sample: Tensor, output: Tensor, after: Tensor) -> Tensor:
        visits.append(Visit(index, *(tensor.detach().float().cpu() for tensor in (sample, output, after))))
        return after

    with _watched(scheduler, note):
        yield visits


@contextmanager
def replayed(scheduler: Any, path: Sequence[Visit]) -> Iterator[list[Visit]]:
    """As `recorded`, but every step leads where the `path` led; for runs of the same prompts and noise.

    Raises:
        ValueError: from within the pipeline, a run that does not begin or go on as the path does.
    """
    visits: list[Visit] = []

    def lead(index: int, sample: Tensor, output: Tensor, after: Tensor) -> Tensor:
        if len(visits) == len(path):
            raise ValueError(f"the recorded path has {len(path)} steps in all, and this run more")
        then = path[len(visits)]
        if index != then.index or sample.shape != then.sample.shape:
            raise ValueError(
                f"step {index} with samples {tuple(sample.shape)}, where the recorded path has step "
                f"{then.index} with {tuple(then.sample.shape)}"
            )
        if not torch.allclose(sample.detach().float().cpu(), then.sample, rtol=1e-2, atol=1e-2):
            raise ValueError(f"step {index} begins elsewhere than the recorded path: other noise?")
        visits.append(Visit(index, then.sample, output.detach().float().cpu(), after.detach().float().cpu()))
        return then.after.to(after)

    with _watched(scheduler, lead):
        yield visits


def by_step(visits: Sequence[Visit]) -> list[tuple[Tensor, Tensor]]:
    """Put the batches of a run together: for every step, samples and outputs, each (n, …).

    Raises:
        ValueError: no visits, or batches that did not all take the same steps.
    """
    steps: dict[int, list[Visit]] = {}
    for visit in visits:
        steps.setdefault(visit.index, []).append(visit)
    if not steps or len({len(found) for found in steps.values()}) > 1:
        raise ValueError("need whole runs, in which every batch takes every step")
    return [
        (torch.cat([v.sample for v in steps[i]]), torch.cat([v.output for v in steps[i]]))
        for i in sorted(steps)
    ]


@contextmanager
def _watched(scheduler: Any, watch: Callable[[int, Tensor, Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Pass every step of `scheduler` through `watch`, whose result becomes the next sample."""
    own, beside_the_class = scheduler.step, "step" in vars(scheduler)

    @functools.wraps(own)  # pipelines look at its signature
    def step(
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        *args: Any,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        before = scheduler.step_index
        output = own(model_output, timestep, sample, *args, return_dict=True, **kwargs)
        index = scheduler.step_index - 1 if before is None else before
        output["prev_sample"] = watch(index, sample, model_output, output.prev_sample)
        return output if return_dict else output.to_tuple()  # LCM has two values

    scheduler.step = step
    try:
        yield
    finally:
        if beside_the_class:  # as fused samplers have it, and those that are watched already
            scheduler.step = own
        else:
            del scheduler.step
