"""PTQD (He et al. 2023) over any quantized model: a sampler that takes out what statistics know of its error.

The statistics of a method are measured once (`generator ptqd --method M`) and kept in a file: the model
output of full precision and of the quantized model at every step, on the same samples of the full-precision
trajectory. `ptqd-M` corrects with them. `ptqd-released-M` is the port that Q-Sched's authors compare with,
faults and all (`qsched.ptqd` names them); it is here for comparison alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from pydantic import BaseModel as Record
from pydantic import ConfigDict, ValidationError

from generator.methods import Method, MethodError, already_made, spent_on
from generator.methods.qsched import QUANTIZERS
from generator.models import BaseModel
from generator.prompts import half_of
from generator.sweep import checked, counted, render, render_in_batches, software_versions
from qsched.ptqd import ErrorStatistics, corrected, statistics, statistics_as_released
from qsched.trajectories import by_step, recorded, replayed

PROMPTS = 256


class StatisticsError(MethodError):
    """A file of statistics that cannot be used; the message names the file and the field."""


class StatisticsFile(Record):
    """What a `*.ptqd.json` file holds: for every step the error of quantization, measured in two ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base_model: str
    method: str
    scheduler: str
    prompts: tuple[str, ...]
    """Prompt ids."""
    steps: tuple[ErrorStatistics, ...]
    """On the same samples, as `ptqd-M` uses them."""
    steps_as_released: tuple[ErrorStatistics, ...]
    """Of two free runs, the sign turned, as `ptqd-released-M` uses them."""
    nfe: int
    """Spent on either kind of statistics: full precision and the method, each run once."""
    versions: dict[str, str]


@dataclass(frozen=True)
class Correction:
    """What PTQD puts into the scheduler."""

    steps: tuple[ErrorStatistics, ...]


def statistics_file(base: BaseModel, method: str) -> Path:
    """Where `generator ptqd` keeps the statistics of a method on a base model."""
    return base.calibrated / f"{base.id}-{method}.ptqd.json"


def measure(
    base: BaseModel, method: Method, path: Path, prompt_set: str | None = None, count: int = PROMPTS
) -> StatisticsFile:
    """Run full precision and `method` on `count` calibration prompts and write their statistics to `path`.

    The prompts are of the model's own set, or of another.
    """
    prompts = half_of(prompt_set or base.calibration, "calibration", count)
    checked(base, [method], prompts)
    pipeline = base.load()
    with recorded(pipeline.scheduler) as reference, counted(getattr(pipeline, base.backbone)) as rows:
        render_in_batches(pipeline, base, prompts)
    scheduler = type(pipeline.scheduler).__name__
    del pipeline  # two large models need not be in memory at once
    quantized = base.load()
    method.apply(quantized, base)
    with replayed(quantized.scheduler, reference) as led:
        render_in_batches(quantized, base, prompts)
    with recorded(quantized.scheduler) as free:
        render_in_batches(quantized, base, prompts)
    file = StatisticsFile(
        base_model=base.id,
        method=method.id,
        scheduler=scheduler,
        prompts=tuple(prompt.prompt_id for prompt in prompts),
        steps=tuple(statistics(by_step(reference), by_step(led))),
        steps_as_released=tuple(statistics_as_released(by_step(reference), by_step(free))),
        nfe=2 * sum(rows),
        versions=software_versions(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return file


def read_statistics(path: Path) -> StatisticsFile:
    """Read a `*.ptqd.json` file.

    Raises:
        StatisticsError: no readable file, no JSON, or a field that is missing, unknown or has a bad value.
    """
    try:
        return StatisticsFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StatisticsError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StatisticsError(f"{path}: {field + ': ' if field else ''}{first['msg']}") from error


def statistics_of(base: BaseModel, method: str) -> StatisticsFile:
    """Read what `generator ptqd` measured of a method; MethodError where it has not, or for other steps."""
    path = already_made(statistics_file(base, method), base, "ptqd", method)
    file = read_statistics(path)
    for steps in (file.steps, file.steps_as_released):
        if len(steps) != base.steps:
            raise StatisticsError(f"{path}: has {len(steps)} steps, not {base.steps}")
    return file


def over(method: Method) -> list[Method]:
    """PTQD over `method`, which stays as it is: as it should be, and as released.

    Applying them raises MethodError where `generator ptqd --method …` has not been run for it.
    """

    def variant(prefix: str, label: str, notes: str, own: Callable[[StatisticsFile], Any]) -> Method:
        def check(base: BaseModel) -> Correction:
            return Correction(own(statistics_of(base, method.id)))

        def put_on(pipeline: DiffusionPipeline, base: BaseModel) -> Correction:
            correction = check(base)
            _correct(pipeline, base, correction)
            return correction

        def apply(pipeline: DiffusionPipeline, base: BaseModel) -> Correction:
            check(base)
            method.apply(pipeline, base)
            return put_on(pipeline, base)

        bits = method.label.removesuffix(" naive")
        notes = f"{notes} over {method.id}: {method.notes}"
        return Method(
            f"{prefix}-{method.id}",
            f"{label} {bits}",
            method.weight_bits,
            method.act_bits,
            notes,
            apply,
            over=method,
            put_on=put_on,
            check=check,
            spent=lambda base: read_statistics(statistics_file(base, method.id)).nfe + spent_on(method, base),
        )

    return [
        variant("ptqd", "PTQD", "PTQD", lambda file: file.steps),
        variant(
            "ptqd-released",
            "PTQD (as released)",
            "PTQD as Q-Sched's code has it, with the error's sign turned and free runs compared,",
            lambda file: file.steps_as_released,
        ),
    ]


def _correct(pipeline: DiffusionPipeline, base: BaseModel, correction: Correction) -> None:
    """Put the correcting sampler in; it is for the timesteps that the pipeline itself sets."""
    render(pipeline, base, half_of(base.calibration, "calibration", 1))
    wanted = inspect.signature(pipeline.scheduler.step).parameters
    options = {name: value for name, value in base.arguments.items() if name in wanted}
    pipeline.scheduler = corrected(pipeline.scheduler, correction.steps, **options)


METHODS = [variant for method in QUANTIZERS for variant in over(method)]
