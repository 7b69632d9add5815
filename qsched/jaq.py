"""JAQ, the objective of Q-Sched's search, and the paired comparison of two sets of images by it.

Equation 5: JAQ(x) = TC(x) + k · IQ(x), text-image compatibility plus k times plain image quality. Higher is
better, and the search maximises it. (Algorithm 1 of the paper minimises; that is a sign error: its tables
mark JAQ with an upward arrow, and the released code takes the maximum.)

Four variants, told apart because paper and code disagree:

* `clip`, the paper's text: CLIPScore / 100 + k · CLIP-IQA. CLIPScore comes on its usual scale of 0 to 100
  and is divided here, so that both terms lie in 0 … 1.
* `clip-log`, the released code: log(CLIPScore) + k · CLIP-IQA, on the scale of 0 to 100. The code takes the
  logarithm of a batch's mean; here it is taken for every image, so that images can be compared in pairs.
* `preference`, the released search with preference models: AQ-MAP + k · HPSv2.1.
* `preference-reported`, the numbers in the paper's tables: HPSv2.1 + k · AQ-MAP, the weights exchanged
  (0.276 + 2 · 0.693 = 1.662 for SDXL-Turbo; the formula of the search would give 1.245).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One of JAQ's two terms: whose score, the ends of its scale, and what becomes of it."""

    name: str
    low: float
    high: float
    scaled: Callable[[Array], Array] = lambda score: score


CLIP_IQA = Part("CLIP-IQA", 0, 1)
AQ_MAP = Part("AQ-MAP", 0, 1)
HPS = Part("HPSv2.1", -1, 1)  # the cosine of picture and text

VARIANTS: dict[str, tuple[Part, Part]] = {
    "clip": (Part("CLIPScore", 0, 100, lambda score: score / 100), CLIP_IQA),
    "clip-log": (Part("CLIPScore", 0, 100, np.log), CLIP_IQA),
    "preference": (AQ_MAP, HPS),
    "preference-reported": (HPS, AQ_MAP),
}
"""For every variant, the score that is TC and the score that is IQ."""


@dataclass(frozen=True, eq=False)
class Jaq:
    """JAQ of every image, and the settings it was computed with."""

    values: Array
    variant: str
    k: float

    @property
    def mean(self) -> float:
        """The mean over images."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; nan for a single image."""
        n = len(self.values)
        return float(self.values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def jaq(tc: ArrayLike, iq: ArrayLike, *, variant: str = "clip", k: float = 2.0) -> Jaq:
    """Combine two scores of every image, each (n,), by equation 5; which they are, the variant says.

    For `clip` they are CLIPScore (0 to 100) and CLIP-IQA (0 to 1).

    Raises:
        ValueError: an unknown variant, shapes that differ or are empty, a score off its scale (for
            `clip-log` a CLIPScore of 0, too), or a k that is negative or not finite.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown JAQ variant {variant!r}; there are {', '.join(VARIANTS)}")
    if not (math.isfinite(k) and k >= 0):
        raise ValueError(f"k must be finite and not negative, not {k}")
    scores = [np.asarray(score, dtype=float) for score in (tc, iq)]
    if scores[0].ndim != 1 or scores[0].shape != scores[1].shape or not len(scores[0]):
        raise ValueError(
            f"need two scores for every image, got shapes {scores[0].shape} and {scores[1].shape}"
        )
    for part, score in zip(VARIANTS[variant], scores, strict=True):
        if not ((score >= part.low) & (score <= part.high)).all():
            raise ValueError(f"{part.name} must be within {part.low} and {part.high}")
    if variant == "clip-log" and not scores[0].all():
        raise ValueError("clip-log has no value for a CLIPScore of 0")
    first, second = (part.scaled(score) for part, score in zip(VARIANTS[variant], scores, strict=True))
    return Jaq(first + k * second, variant, k)


@dataclass(frozen=True)
class PairedGain:
    """Mean scores of the same prompts before and after, and the mean gain with its 95 % interval."""

    before: float
    after: float
    gain: float
    low: float
    high: float
    prompts: int


def paired_gain(before: ArrayLike, after: ArrayLike) -> PairedGain:
    """Compare per-prompt scores, shape (n,), n ≥ 2: mean difference ± t(0.975, n − 1) · its standard error.

    Raises:
        ValueError: fewer than two prompts, shapes that differ, or a score that is not finite.
    """
    a, b = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(
            f"need two scores for each of two prompts or more, got shapes {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("scores must be finite")
    gains, n = b - a, len(a)
    gain = float(gains.mean())
    margin = float(stdtrit(n - 1, 0.975) * gains.std(ddof=1) / math.sqrt(n))
    return PairedGain(float(a.mean()), float(b.mean()), gain, gain - margin, gain + margin, n)
