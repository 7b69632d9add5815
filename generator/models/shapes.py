"""The embedded model: the shapes world, whose weights come along."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from generator.metrics import ClipScorer


def load() -> DiffusionPipeline:
    """Its pipeline, on the CPU in float32."""
    from generator.shapes.pipeline import build_pipeline

    return build_pipeline()


def check(texts: list[str]) -> None:
    """ValueError for a text with a word that is not of its vocabulary."""
    from generator.shapes.scenes import tokenize

    tokenize(texts)


def scorer(name: str) -> ClipScorer:
    """The CLIP to optimise ("clip") or to judge with ("judge")."""
    from generator.metrics import ClipScorer
    from generator.shapes.networks import build_clip
    from generator.shapes.scenes import ANTONYMS, tokenize

    return ClipScorer(build_clip(name).eval(), tokenize, ANTONYMS)
