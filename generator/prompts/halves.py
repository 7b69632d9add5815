"""The two halves of a prompt set: one to calibrate with, one that no calibration sees."""

from __future__ import annotations

import random
from typing import Literal

from generator.prompts.errors import PromptError
from generator.prompts.sets import load_prompts
from generator.prompts.shapes import shapes_prompts
from study.gallery import Prompt

Half = Literal["calibration", "heldout"]
SEED = 1  # not that of `subset`, whose prompts would be calibrated with before they are drawn


def half_of(spec: str, half: Half, count: int) -> list[Prompt]:
    """`count` prompts of one half of a set or file (as `load_prompts`), in random order.

    A text that occurs twice counts once. After `random.Random(1).shuffle` the first half is for calibration
    and the rest is held out, so that the two never meet, however many are taken of either; small counts nest
    in large ones. The shapes world has a stream of captions for each.

    Raises PromptError if the half has fewer than `count`.
    """
    if spec == "shapes":
        return shapes_prompts(half, count)
    prompts = list({prompt.text: prompt for prompt in load_prompts(spec)}.values())
    random.Random(SEED).shuffle(prompts)
    middle = len(prompts) // 2
    found = prompts[:middle] if half == "calibration" else prompts[middle:]
    if count > len(found):
        raise PromptError(f"{spec}: {count} {half} prompts asked for, but that half has {len(found)}")
    return found[:count]
