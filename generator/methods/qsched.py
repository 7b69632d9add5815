"""Q-Sched: naive quantization under a scheduler whose coefficients were searched for it."""

from __future__ import annotations

from pathlib import Path

from diffusers import DiffusionPipeline

from generator.methods import Method
from generator.methods.naive import NOTES, quantize_backbone
from generator.models import BaseModel
from qsched.coefficients import Coefficients, read_coefficients
from qsched.schedulers import twin_of

COEFFICIENTS = Path(__file__).parent.parent / "coefficients"


def coefficients_file(base: BaseModel, method: str) -> Path:
    """Where `generator calibrate` keeps the coefficients of a method on a base model."""
    return COEFFICIENTS / f"{base.id}-{method}.qsched.json"


def set_scheduler(pipeline: DiffusionPipeline, coefficients: Coefficients) -> None:
    """Replace the pipeline's scheduler by its Q-Sched twin; ValueError if it has none."""
    name = type(pipeline.scheduler).__name__
    twin = twin_of(name)
    if twin is None:
        raise ValueError(f"{name} has no Q-Sched twin")
    pipeline.scheduler = twin.from_config(
        pipeline.scheduler.config, c_x=list(coefficients.c_x), c_eps=list(coefficients.c_eps)
    )


def _apply(pipeline: DiffusionPipeline, base: BaseModel) -> Coefficients:
    quantize_backbone(pipeline, base, 4, 8)
    coefficients = read_coefficients(coefficients_file(base, "w4a8")).coefficients
    set_scheduler(pipeline, coefficients)
    return coefficients


METHODS = [Method("qsched-w4a8", "Q-Sched W4A8", 4, 8, f"Q-Sched coefficients over w4a8: {NOTES}", _apply)]
