"""Prompts: named sets and files of any common layout, sub-sampling, seeds, and what raters are spared."""

from generator.prompts.errors import PromptError
from generator.prompts.halves import half_of
from generator.prompts.reading import Fields, read_prompts
from generator.prompts.rules import noise_seed, subset
from generator.prompts.sets import SETS, load_prompts
from generator.prompts.shapes import shapes_prompts

__all__ = [
    "SETS",
    "Fields",
    "PromptError",
    "half_of",
    "load_prompts",
    "noise_seed",
    "read_prompts",
    "shapes_prompts",
    "subset",
]
