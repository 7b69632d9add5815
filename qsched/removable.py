"""Theorem 1 in practice: how much of the error of quantization can two numbers a step remove?

The theorem says that coefficients exist which reduce the expected error of the result. This measures by how
much they can at best, step by step and against full precision. With x, ε of the full-precision run, x', ε' of
the quantized one, and the sampler's weights a, b, the next samples differ (the noise is the same and cancels)
by

    a x' + b ε' − (a x + b ε),

and (c_x, c_ε) leave a c_x x' + b c_ε ε' − (a x + b ε). The best pair, over all prompts at once as Q-Sched's
is, is a least-squares problem in two unknowns; no pair at that step leaves less of this error, whatever it
was searched for. (Other coefficients at the steps before would lead to other samples.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class StepError:
    """Error of a step's next sample against full precision, and what the best two scalars make of it."""

    error: float
    """Mean squared difference of the next samples, in units of the mean square of the full-precision one."""
    left: float
    """The same with the best c_x and c_eps; never more than `error`."""
    c_x: float
    c_eps: float

    @property
    def removable(self) -> float:
        """The share of the error that the two scalars can remove, 0 to 1; 0 where there is no error."""
        return 1 - self.left / self.error if self.error else 0.0


def removable_error(
    full: Sequence[tuple[ArrayLike, ArrayLike]],
    quantized: Sequence[tuple[ArrayLike, ArrayLike]],
    weights: Sequence[tuple[float, float]],
) -> list[StepError]:
    """Measure every step. For each: the samples and outputs (n, …) of both runs, and the sampler's (a, b).

    With a quantized run that was led along the full-precision one, errors are those that each step makes
    itself; with a free one, they are those that have gathered by then.

    Raises:
        ValueError: numbers of steps or shapes that differ.
    """
    if not len(full) == len(quantized) == len(weights):
        raise ValueError(
            f"steps differ: {len(full)} full, {len(quantized)} quantized, {len(weights)} weights"
        )
    return [
        _step_error(*reference, *run, *w) for reference, run, w in zip(full, quantized, weights, strict=True)
    ]


def _step_error(
    x: ArrayLike, eps: ArrayLike, x_q: ArrayLike, eps_q: ArrayLike, a: float, b: float
) -> StepError:
    shapes = {np.shape(values) for values in (x, eps, x_q, eps_q)}
    if len(shapes) > 1:
        raise ValueError(f"samples and outputs must have one shape, found {sorted(shapes)}")
    target = a * _flat(x) + b * _flat(eps)
    columns = np.stack([a * _flat(x_q), b * _flat(eps_q)], axis=1)
    # Solved for the moves away from 1, so that directions the data do not decide stay where they are.
    residual = target - columns.sum(axis=1)
    move = np.linalg.lstsq(columns, residual, rcond=1e-10)[0]
    power = float(target @ target)
    left = residual - columns @ move
    return StepError(
        error=float(residual @ residual) / power,
        left=float(left @ left) / power,
        c_x=float(1 + move[0]),
        c_eps=float(1 + move[1]),
    )


def _flat(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).ravel()
