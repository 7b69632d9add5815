"""Q-Sched: any quantized model under a scheduler whose coefficients were searched for it."""

from __future__ import annotations

from pathlib import Path

from diffusers import DiffusionPipeline

from generator.methods import (
    Method,
    MethodError,
    already_made,
    libraries,
    mixdq,
    naive,
    qdiffusion,
    serial_parallel,
    spent_on,
    svdquant,
)
from generator.models import BaseModel
from qsched.coefficients import Coefficients, CoefficientsError, read_coefficients
from qsched.schedulers import twin_of


def coefficients_file(base: BaseModel, method: str) -> Path:
    """Where `generator calibrate` keeps the coefficients of a method on a base model."""
    return base.calibrated / f"{base.id}-{method}.qsched.json"


def set_scheduler(pipeline: DiffusionPipeline, coefficients: Coefficients) -> None:
    """Replace the pipeline's scheduler by its Q-Sched twin; MethodError if it has none."""
    name = type(pipeline.scheduler).__name__
    twin = twin_of(name)
    if twin is None:
        raise MethodError(f"{name} has no Q-Sched twin")
    pipeline.scheduler = twin.from_config(
        pipeline.scheduler.config, c_x=list(coefficients.c_x), c_eps=list(coefficients.c_eps)
    )


def over(method: Method) -> Method:
    """Q-Sched over `method`, which stays as it is.

    Applying it raises MethodError where `generator calibrate --method …` has not been run for it, and
    CoefficientsError where it has been for another model or number of steps.
    """

    def check(base: BaseModel) -> Coefficients:
        path = already_made(coefficients_file(base, method.id), base, "calibrate", method.id)
        file = read_coefficients(path)
        if (file.base_model, file.steps) != (base.id, base.steps):
            found = f"of {file.base_model} in {file.steps} steps"
            raise CoefficientsError(f"{path}: {found}, not of {base.id} in {base.steps}")
        return file.coefficients

    def put_on(pipeline: DiffusionPipeline, base: BaseModel) -> Coefficients:
        coefficients = check(base)
        set_scheduler(pipeline, coefficients)
        return coefficients

    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> Coefficients:
        check(base)
        method.apply(pipeline, base)
        return put_on(pipeline, base)

    def spent(base: BaseModel) -> int:
        search = read_coefficients(coefficients_file(base, method.id)).search
        return int(search["nfe"]) + spent_on(method, base)

    return Method(
        f"qsched-{method.id}",
        f"Q-Sched {method.label.removesuffix(' naive')}",
        method.weight_bits,
        method.act_bits,
        f"Q-Sched coefficients over {method.id}: {method.notes}",
        apply,
        over=method,
        put_on=put_on,
        check=check,
        spent=spent,
    )


QUANTIZERS = (
    *naive.METHODS,
    *mixdq.METHODS,
    *svdquant.METHODS,
    *serial_parallel.METHODS,
    *qdiffusion.METHODS,
    *libraries.METHODS,
)
METHODS = [over(method) for method in QUANTIZERS]
