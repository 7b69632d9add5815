"""Leaving out prompts that raters should not be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from generator.prompts.errors import PromptError
from study.gallery import Prompt

LIST = Path(__file__).parent / "data" / "unfit.txt"


def read_words(path: Path = LIST) -> list[str]:
    """The words of a list, one a line, "#" before a comment. Raises PromptError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: cannot be read: {error}") from None
    words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise PromptError(f"{path}: holds no words")
    return words


def fit(prompts: Sequence[Prompt], words: Sequence[str]) -> list[Prompt]:
    """The prompts without any of the words. A word is whole and of either case; "*" stands for letters."""
    patterns = (re.escape(word).replace(r"\*", r"\w*") for word in words)
    unfit = re.compile(rf"\b(?:{'|'.join(patterns)})\b", re.IGNORECASE)
    return [prompt for prompt in prompts if not unfit.search(prompt.text)]
