"""Q-Sched's coefficients, two numbers for every step of a few-step sampler, and the file they are kept in.

A `*.qsched.json` file tells not only the numbers but where they are from and what they are worth: the model
and method they were searched for, how, and JAQ before and after, on the prompts of the search, on prompts
the search never saw, and with the same coefficients on the full-precision model (the control).
"""

import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qsched.jaq import PairedGain


class CoefficientsError(ValueError):
    """A coefficients file that cannot be used; the message names the file and the field."""


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
        return cls(linspace(x_start, x_end, steps), linspace(eps_start, eps_end, steps))

    def interpolated(self, steps: int) -> Self:
        """The same course over another number of steps, straight between the known ones.

        Evenly spaced coefficients stay evenly spaced, with the same ends. That they still suit the model
        is not said: they were searched for their own number of steps.
        """
        here, there = (np.linspace(0, 1, count) for count in (self.steps, steps))
        return type(self)(*(tuple(np.interp(there, here, c)) for c in (self.c_x, self.c_eps)))


def linspace(start: float, end: float, steps: int) -> tuple[float, ...]:
    """Return `steps` evenly spaced numbers, exact at the ends and where these are equal; one is the start."""
    inner = [start + (end - start) * i / (steps - 1) for i in range(1, steps - 1)]
    return (start, *inner, end)[:steps]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Scores(_Record):
    """JAQ without (before) and with (after) the coefficients."""

    calibration: PairedGain
    """On the prompts of the search: the winner is picked by this number, so it flatters."""
    held_out: PairedGain | None
    """On prompts the search never saw; None if not measured."""
    control: PairedGain | None
    """The full-precision model with the same coefficients, on the held-out prompts; None if not measured."""
    held_out_judged: PairedGain | None = None
    """As `held_out`, by a second model that was not the objective of the search; None if not measured."""
    control_judged: PairedGain | None = None
    """As `control`, by that second model; None if not measured."""
    control_searched: PairedGain | None = None
    """The full-precision model with coefficients searched for it in the same way, held-out prompts."""
    control_searched_judged: PairedGain | None = None
    """As `control_searched`, by that second model; None if not measured."""


class CoefficientsFile(_Record):
    """What a `*.qsched.json` file holds."""

    format: Literal["qsched/1"] = "qsched/1"
    base_model: str
    method: str
    """The quantized model without Q-Sched, such as `w4a8`."""
    weight_bits: int
    act_bits: int
    """16 where activations are not quantized."""
    scheduler: str
    """The diffusers class whose steps the coefficients change, such as `TCDScheduler`."""
    steps: int
    c_x: tuple[float, ...]
    c_eps: tuple[float, ...]
    jaq_variant: str
    k: float
    calibration_prompts: tuple[str, ...] = Field(min_length=1)
    """Prompt ids."""
    search: dict[str, Any]
    scores: Scores
    versions: dict[str, str]

    @model_validator(mode="after")
    def _steps_match(self) -> Self:
        if self.coefficients.steps != self.steps:
            raise ValueError(f"steps is {self.steps}, but c_x and c_eps have {self.coefficients.steps}")
        return self

    @property
    def coefficients(self) -> Coefficients:
        """The numbers alone."""
        return Coefficients(self.c_x, self.c_eps)


def read_coefficients(path: str | os.PathLike[str]) -> CoefficientsFile:
    """Read a `*.qsched.json` file.

    Raises:
        CoefficientsError: no readable file, no JSON, or a field that is missing, unknown or has a bad value.
    """
    try:
        return CoefficientsFile.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise CoefficientsError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CoefficientsError(f"{path}: {field + ': ' if field else ''}{first['msg']}") from error


def write_coefficients(path: str | os.PathLike[str], file: CoefficientsFile) -> None:
    """Write a `*.qsched.json` file, whole or not at all."""
    path = Path(path)
    text = json.dumps(file.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as temporary:
        try:
            temporary.write(text)
            temporary.flush()
            os.fsync(temporary.fileno())
            Path(temporary.name).chmod(0o644)
            Path(temporary.name).replace(path)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise
