"""Few numbers for many coefficients: the ways to say c_x and c_ε of every step.

A parametrisation is a function from a vector of numbers to `Coefficients`. The names are those of
coefficients files and of the command line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qsched.coefficients import Coefficients, linspace


@dataclass(frozen=True)
class Parametrisation:
    """A vector of numbers, what each is called, the `identity` that means no change, and how it is read."""

    name: str
    numbers: tuple[str, ...]
    identity: tuple[float, ...]
    read: Callable[[Sequence[float]], Coefficients]

    @property
    def size(self) -> int:
        """How many numbers."""
        return len(self.numbers)

    def __call__(self, numbers: Sequence[float]) -> Coefficients:
        """Return the coefficients that `numbers` mean.

        Raises:
            ValueError: another number of numbers, or coefficients that are not finite and positive.
        """
        if len(numbers) != self.size:
            raise ValueError(f"{self.name} takes {self.size} numbers, not {len(numbers)}")
        return self.read([float(number) for number in numbers])

    def nearest(self, coefficients: Coefficients) -> list[float]:
        """The numbers whose coefficients are nearest to these (least squares); exact where there are such.

        Every parametrisation here is affine in its numbers.
        """

        def flat(c: Coefficients) -> np.ndarray:
            return np.array(c.c_x + c.c_eps)

        step, start = 0.01, np.array(self.identity)
        origin = flat(self(self.identity))
        moves = [flat(self((start + step * along).tolist())) - origin for along in np.eye(self.size)]
        found = np.linalg.lstsq(np.stack(moves, 1) / step, flat(coefficients) - origin, rcond=None)[0]
        return (start + found).tolist()


_ENDS = ("c_x, first", "c_x, last", "c_ε, first", "c_ε, last")


def paper(steps: int) -> Parametrisation:
    """Algorithm 1: start and end of c_x, start and end of c_ε, evenly spaced between; 4 numbers."""
    return Parametrisation(
        "paper", _ENDS, (1.0,) * 4, lambda n: Coefficients.from_ends(n[0], n[1], n[2], n[3], steps)
    )


def released(steps: int) -> Parametrisation:
    """The released search: the starts alone, both ends are 1; 2 numbers."""
    return Parametrisation(
        "released", _ENDS[::2], (1.0,) * 2, lambda n: Coefficients.from_ends(n[0], 1.0, n[1], 1.0, steps)
    )


def per_step(steps: int) -> Parametrisation:
    """Every c_x, then every c_ε; 2 · steps numbers."""
    return Parametrisation(
        "per-step",
        tuple(f"{name} {i}" for name in ("c_x", "c_ε") for i in range(1, steps + 1)),
        (1.0,) * (2 * steps),
        lambda n: Coefficients(tuple(n[:steps]), tuple(n[steps:])),
    )


def level_and_difference(output_weights: Sequence[float]) -> Parametrisation:
    """Start and end of a level u and of a difference d: c_x = 1 + u, c_ε = c_x − d / |b|; 4 numbers.

    `output_weights` are the sampler's weights b of the model output, one a step (`qsched.affine`). A step is
    a c_x x + b c_ε ε: u scales the whole next sample, and d is the noise (for an output of unit variance) by
    which it then differs, the same whether the sampler's b is 14, as SDXL-Turbo's first, or 0.2. On a square
    grid of (c_x, c_ε) nearly all points differ so much at the first step that they only spoil the picture.

    Raises:
        ValueError: a weight of 0.
    """
    weights = [abs(float(b)) for b in output_weights]
    if not all(weights):
        raise ValueError(f"every step must weigh the model output: {list(output_weights)}")

    def read(numbers: Sequence[float]) -> Coefficients:
        u_start, u_end, d_start, d_end = numbers
        c_x = linspace(1 + u_start, 1 + u_end, len(weights))
        d = linspace(d_start, d_end, len(weights))
        return Coefficients(c_x, tuple(c - d_i / b for c, d_i, b in zip(c_x, d, weights, strict=True)))

    names = ("level, first", "level, last", "difference, first", "difference, last")
    return Parametrisation("level-and-difference", names, (0.0,) * 4, read)
