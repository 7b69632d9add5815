"""PTQD (He et al., NeurIPS 2023), the baseline that corrects the model output by statistics.

Quantization turns the output ε of a step into ε_q. With the error split into what follows ε and the rest,

    ε_q = (1 + k) ε + d,

k is the slope of the error on ε, the mean of d a bias per channel, and the rest of d is noise of standard
deviation (1 + k) σ_q. PTQD takes out what it can: ε ← (ε_q − bias) / (1 + k), and where the sampler adds
noise of weight s it adds less, √(s² − (b σ_q)²), since b σ_q is there already (b: the sampler's weight of
ε). In Q-Sched's terms c_x = 1 and c_ε = 1 / (1 + k).

Q-Sched's released code carries a port of PTQD with three faults: its two runs go their own ways, so that its
"error" is mostly the distance of two paths; the error's sign is turned, so that the correction adds what it
should take out; and the bias is that of the whole error, so that the mean of what k takes out goes twice (as
in PTQD's own code). `statistics_as_released` makes that baseline, for comparison and under that name only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import linregress

from qsched.affine import AffineStep, affine_steps, sampler_of
from qsched.coefficients import Coefficients


@dataclass(frozen=True)
class ErrorStatistics:
    """What quantization does to the model output of one step."""

    k: float
    """Slope of the error on the full-precision output."""
    bias: tuple[float, ...]
    """Mean of the uncorrelated rest, for every channel."""
    sigma: float
    """Standard deviation of that rest about its mean, divided by 1 + k."""


def statistics(
    full: Sequence[tuple[ArrayLike, ArrayLike]], quantized: Sequence[tuple[ArrayLike, ArrayLike]]
) -> list[ErrorStatistics]:
    """Measure every step from samples and outputs (n, channels, …) of both models on the same samples.

    A negative slope counts as none, as in PTQD's own code.

    Raises:
        ValueError: the samples differ, so that the outputs cannot be compared; or steps or shapes do.
    """
    for i, ((x, _), (x_q, _)) in enumerate(zip(full, quantized, strict=True)):
        if np.shape(x) != np.shape(x_q) or not np.allclose(x, x_q):
            raise ValueError(f"step {i}: both models must have looked at the same samples (see `replayed`)")
    return [
        _statistics(_array(eps), _array(eps_q)) for (_, eps), (_, eps_q) in zip(full, quantized, strict=True)
    ]


def statistics_as_released(
    full: Sequence[tuple[ArrayLike, ArrayLike]], quantized: Sequence[tuple[ArrayLike, ArrayLike]]
) -> list[ErrorStatistics]:
    """The statistics of Q-Sched's released port (`src/eval_dataset.py`), faults and all, of two free runs.

    One thing is not the port's: where it would take out more noise than the sampler adds, it takes out none,
    and `corrected` all that is added. Without noise (η = 0, its default) there is no difference.
    """
    return [
        _as_released(_array(eps), _array(eps_q)) for (_, eps), (_, eps_q) in zip(full, quantized, strict=True)
    ]


def corrected(scheduler: Any, found: Sequence[ErrorStatistics], **options: Any) -> Any:
    """Return a copy of `scheduler` that corrects the model output at every step, and the noise it adds.

    For the timesteps that are set; `options` go to its `step`, such as TCD's `eta`.

    Raises:
        ValueError: as `affine_steps`, or statistics for another number of steps.
    """
    own = affine_steps(scheduler, **options)
    if len(own) != len(found):
        raise ValueError(f"statistics of {len(found)} steps, but {len(own)} timesteps are set")
    return sampler_of(scheduler, tuple(_corrected(step, it) for step, it in zip(own, found, strict=True)))


def starting_point(found: Sequence[ErrorStatistics]) -> Coefficients:
    """PTQD's slopes as Q-Sched coefficients: c_x = 1, c_ε = 1 / (1 + k)."""
    return Coefficients((1.0,) * len(found), tuple(1 / (1 + it.k) for it in found))


def _corrected(step: AffineStep, found: ErrorStatistics) -> AffineStep:
    b = step.b / (1 + found.k)
    shift = tuple(-b * bias for bias in found.bias)
    s = math.sqrt(max(step.s**2 - (step.b * found.sigma) ** 2, 0.0))
    return AffineStep(step.a, b, s, shift)


def _statistics(eps: NDArray[np.float64], eps_q: NDArray[np.float64]) -> ErrorStatistics:
    error, others = eps_q - eps, _all_but_channels(eps)
    # Centred channel by channel: a bias that differs between channels is no slope.
    centred = eps - eps.mean(others, keepdims=True)
    k = max(float((centred * error).sum() / (centred * centred).sum()), 0.0)
    rest = error - k * eps
    bias = rest.mean(others, keepdims=True)
    return ErrorStatistics(k, tuple(bias.ravel().tolist()), float((rest - bias).std()) / (1 + k))


def _as_released(eps: NDArray[np.float64], eps_q: NDArray[np.float64]) -> ErrorStatistics:
    error = eps - eps_q
    k = float(linregress(eps.ravel(), error.ravel()).slope)
    bias = error.mean(_all_but_channels(eps))
    return ErrorStatistics(k, tuple(bias.tolist()), float((error - k * eps).std(ddof=1)) / (1 + k))


def _all_but_channels(eps: NDArray[np.float64]) -> tuple[int, ...]:
    channels = 1 if eps.ndim == 4 else eps.ndim - 1  # FLUX packs latents: (n, tokens, channels)
    return tuple(axis for axis in range(eps.ndim) if axis != channels)


def _array(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
