"""What a base model is: a pipeline, how it samples, and which of its layers stay in full precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from diffusers import DiffusionPipeline

from generator.metrics import ClipScorer


@dataclass(frozen=True)
class BaseModel:
    """A text-to-image model before any method touches it.

    `backbone` names the pipeline's component that methods quantize; `keep` are patterns of its layers
    that quantizers leave alone (first and last layer and what the timestep goes through, as is usual).
    `check(texts)` raises ValueError for a prompt the model cannot read. `scorer(name)` gives the CLIP
    that scores its pictures: "clip" to optimise, "judge" to judge.
    """

    id: str
    label: str
    load: Callable[[], DiffusionPipeline]
    check: Callable[[list[str]], Any]
    backbone: str
    steps: int
    guidance: float
    scorer: Callable[[str], ClipScorer]
    keep: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)


def _load_shapes() -> DiffusionPipeline:
    from generator.shapes.pipeline import build_pipeline

    return build_pipeline()


def _check_shapes(texts: list[str]) -> None:
    from generator.shapes.scenes import tokenize

    tokenize(texts)


def _shapes_scorer(name: str) -> ClipScorer:
    from generator.shapes.networks import build_clip
    from generator.shapes.scenes import ANTONYMS, tokenize

    return ClipScorer(build_clip(name).eval(), tokenize, ANTONYMS)


MODELS = {
    "shapes": BaseModel(
        id="shapes",
        label="shapes (embedded, 4 steps)",
        load=_load_shapes,
        check=_check_shapes,
        backbone="unet",
        steps=4,
        guidance=0.0,
        scorer=_shapes_scorer,
        keep=("conv_in", "conv_out", "time_embedding.*", "add_embedding.*"),
        arguments={"eta": 0.0},  # TCD without fresh noise between the steps
    ),
}
