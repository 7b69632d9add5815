"""Which prompts of a set are drawn, and the noise that goes with each of them.

The two rules are deepcompressor's, so that subsets and seeds equal those of SVDQuant and Q-Sched.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from generator.prompts.errors import PromptError
from study.gallery import Prompt


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
