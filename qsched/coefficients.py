"""Q-Sched's coefficients: two numbers for every step of a few-step sampler."""

import math
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Coefficients:
    """c_x for the sample and c_ε for the model output, one of each a step, in the order of sampling.

    Raises:
        ValueError: no steps, unequal lengths, or a number that is not finite and positive.
    """

    c_x: tuple[float, ...]
    c_eps: tuple[float, ...]

    def __post_init__(self) -> None:
        """Make tuples of floats, then check them."""
        for name in ("c_x", "c_eps"):
            object.__setattr__(self, name, tuple(float(c) for c in getattr(self, name)))
            if not all(math.isfinite(c) and c > 0 for c in getattr(self, name)):
                raise ValueError(f"{name} must be finite and positive: {list(getattr(self, name))}")
        if len(self.c_x) != len(self.c_eps):
            raise ValueError(f"c_x has {len(self.c_x)} steps, but c_eps has {len(self.c_eps)}")
        if not self.c_x:
            raise ValueError("coefficients need at least one step")

    @property
    def steps(self) -> int:
        """The number of steps these coefficients are for."""
        return len(self.c_x)

    @classmethod
    def identity(cls, steps: int) -> Self:
        """All ones: the sampler as it is."""
        return cls((1.0,) * steps, (1.0,) * steps)

    @classmethod
    def from_ends(cls, x_start: float, x_end: float, eps_start: float, eps_end: float, steps: int) -> Self:
        """Algorithm 1, lines 5 and 6: c_x = linspace(x_start, x_end, steps), c_ε likewise."""
        return cls(_linspace(x_start, x_end, steps), _linspace(eps_start, eps_end, steps))


def _linspace(start: float, end: float, steps: int) -> tuple[float, ...]:
    """`steps` evenly spaced numbers; a single one is the start, and equal ends give exactly that number."""
    return tuple(start + (end - start) * i / max(steps - 1, 1) for i in range(steps))
