"""JAQ, the objective of Q-Sched's search, and the paired comparison of two sets of images by it.

Equation 5: JAQ(x) = TC(x) + k · IQ(x), text-image compatibility plus k times plain image quality. Higher is
better, and the search maximises it. (Algorithm 1 of the paper minimises; that is a sign error: its tables
mark JAQ with an upward arrow, and the released code takes the maximum.)

Two variants, told apart because paper and code disagree:

* `clip`, the paper's text: CLIPScore / 100 + k · CLIP-IQA. CLIPScore comes on its usual scale of 0 to 100
  and is divided here, so that both terms lie in 0 … 1.
* `clip-log`, the released code: log(CLIPScore) + k · CLIP-IQA, on the scale of 0 to 100. The code takes the
  logarithm of a batch's mean; here it is taken for every image, so that images can be compared in pairs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

VARIANTS: dict[str, Callable[[Array], Array]] = {
    "clip": lambda clip_score: clip_score / 100,
    "clip-log": np.log,
}
"""For every variant, how CLIPScore (0 to 100) becomes TC."""


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


def jaq(clip_score: ArrayLike, clip_iqa: ArrayLike, *, variant: str = "clip", k: float = 2.0) -> Jaq:
    """Combine per-image CLIPScore (0 to 100) and CLIP-IQA (0 to 1), both of shape (n,), by equation 5.

    Raises:
        ValueError: an unknown variant, shapes that differ or are empty, a score off its scale (for
            `clip-log` a CLIPScore of 0, too), or a k that is negative or not finite.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown JAQ variant {variant!r}; there are {', '.join(VARIANTS)}")
    if not (math.isfinite(k) and k >= 0):
        raise ValueError(f"k must be finite and not negative, not {k}")
    tc, iq = np.asarray(clip_score, dtype=float), np.asarray(clip_iqa, dtype=float)
    if tc.ndim != 1 or tc.shape != iq.shape or not len(tc):
        raise ValueError(f"need two scores for every image, got shapes {tc.shape} and {iq.shape}")
    if not ((tc >= 0) & (tc <= 100)).all():
        raise ValueError("CLIPScore must be within 0 and 100")
    if not ((iq >= 0) & (iq <= 1)).all():
        raise ValueError("CLIP-IQA must be within 0 and 1")
    if variant == "clip-log" and not tc.all():
        raise ValueError("clip-log has no value for a CLIPScore of 0")
    return Jaq(VARIANTS[variant](tc) + k * iq, variant, k)


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
