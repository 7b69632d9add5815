"""Which prompts a gallery draws, and the noise that goes with each of them.

The two rules here are deepcompressor's, so that subsets and seeds equal those of SVDQuant and Q-Sched.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from study.gallery import Prompt, describe

# Streams of the shapes world: none of them is one that its models were trained on.
SHAPES_STREAMS = {"shapes": 777_001, "calibration": 777_002, "heldout": 777_003}
SHAPES_SET_SIZE = 1000


class PromptError(ValueError):
    """A prompt file that cannot be used; the message names file, line and field."""


def noise_seed(prompt_id: str) -> int:
    """Seed of the noise of a prompt, from its id alone: h = (31 h + ord(c)) mod 1,000,000,007.

    >>> noise_seed("0000"), noise_seed("00001")
    (1477632, 45806641)
    """
    h = 0
    for character in prompt_id:
        h = (h * 31 + ord(character)) % 1_000_000_007
    return h


def subset(prompts: Sequence[Prompt], n: int) -> list[Prompt]:
    """The first `n` of the prompts after `random.Random(0).shuffle`, in the order of their ids.

    Small subsets nest in large ones. Raises PromptError if there are fewer than `n`.
    """
    if n > len(prompts):
        raise PromptError(f"{n} prompts asked for, but the set has {len(prompts)}")
    shuffled = list(prompts)
    random.Random(0).shuffle(shuffled)
    return sorted(shuffled[:n], key=lambda prompt: prompt.prompt_id)


def shapes_prompts(stream: str = "shapes", count: int = SHAPES_SET_SIZE) -> list[Prompt]:
    """Captions of the shapes world: `stream` is a key of SHAPES_STREAMS, ids are "<stream>-0000", …"""
    from generator.shapes.scenes import RELATIONS, caption, sample_scenes  # needs torch

    kinds = {"small": "single", "big": "single", "two": "counted", "three": "counted"}
    scenes = sample_scenes(SHAPES_STREAMS[stream], count)
    return [
        Prompt(
            prompt_id=f"{stream}-{i:04d}",
            text=caption(scene),
            category="relation" if scene.kind in RELATIONS else kinds[scene.kind],
        )
        for i, scene in enumerate(scenes)
    ]


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a .jsonl file (`prompt_id`, `text`, optional `category`) or a .txt file (one a line).

    Lines of a text file get the ids "0000", "0001", … Raises PromptError naming file, line and field.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PromptError(f"{path}: not valid UTF-8") from None
    if path.suffix == ".txt":
        texts = [line.strip() for line in lines if line.strip()]
        prompts = [Prompt(prompt_id=f"{i:04d}", text=text) for i, text in enumerate(texts)]
    elif path.suffix == ".jsonl":
        prompts = [_prompt(path, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    else:
        raise PromptError(f"{path}: unknown kind of prompt file {path.suffix!r}; expected .jsonl or .txt")
    if not prompts:
        raise PromptError(f"{path}: holds no prompts")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.prompt_id in seen:
            raise PromptError(f"{path}: prompt_id {prompt.prompt_id!r} occurs twice")
        seen.add(prompt.prompt_id)
    return prompts


def _prompt(path: Path, number: int, line: str) -> Prompt:
    try:
        return Prompt.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise PromptError(f"{path} line {number}: not valid JSON: {error.msg}") from None
    except ValidationError as error:
        raise PromptError(f"{path} line {number}: {describe(error)}") from None
