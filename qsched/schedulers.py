"""Drop-in diffusers schedulers with Q-Sched's two coefficients per step.

Equation 4 of the Q-Sched paper multiplies, in the update of its sampler, the sample x_t by c_x and the model
output by c_ε. It touches nothing else: neither the input of the network nor the noise that the sampler adds.
So one line serves every sampler (i is the step index; for FlowMatchEuler ε is the velocity):

    step_qsched(ε, t, x) = step(c_eps[i] · ε, t, c_x[i] · x)

Each class takes all settings of its parent and three more. `c_x` and `c_eps` are lists with one positive
number a step, or None for ones. `interpolate` says what is done where another number of steps is set than
they are for: ValueError by default, with True they are interpolated (`Coefficients.interpolated`). All are
part of the config, so they survive `save_pretrained`, `from_pretrained` and `from_config`, and
`from_config(scheduler.config, c_x=…, c_eps=…)` turns a parent scheduler into its twin. diffusers imports no
module on a model's word: import this one before it loads a pipeline that was saved with such a scheduler.

A step whose two coefficients are 1 is the parent's step, bit for bit and in every dtype. The others compute
in float32 (in bfloat16, 1.012 would be 1.0156) and return the dtype of their inputs.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    SchedulerMixin,  # must stay a name of this module: pipelines look for it here when they load a class
    TCDScheduler,
)
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from qsched.coefficients import Coefficients

_OWN = ("c_x", "c_eps", "interpolate")
_Scheduler: Any = SchedulerMixin  # stands for the scheduler that each class below names as its second base


class _QSched(_Scheduler):
    """The coefficients, and the step that uses them."""

    def __init__(
        self,
        *args: Any,
        c_x: Sequence[float] | None = None,
        c_eps: Sequence[float] | None = None,
        interpolate: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.interpolate = bool(interpolate)
        self.coefficients: Coefficients | None = None
        if c_x is not None or c_eps is not None:
            ones = [1.0] * len(c_x if c_x is not None else c_eps or ())
            self.coefficients = Coefficients(
                tuple(ones if c_x is None else c_x), tuple(ones if c_eps is None else c_eps)
            )
            # Lists of floats are what a config can save as JSON, and load again as it was.
            self.register_to_config(c_x=list(self.coefficients.c_x), c_eps=list(self.coefficients.c_eps))

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        if self.coefficients is not None:
            self._for_these_steps(self.coefficients)

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.coefficients is None:
            return super().step(model_output, timestep, sample, *args, **kwargs)
        coefficients = self._for_these_steps(self.coefficients)
        if self.step_index is None:
            self._init_step_index(timestep)
        c_x, c_eps = coefficients.c_x[self.step_index], coefficients.c_eps[self.step_index]
        if c_x == c_eps == 1:
            return super().step(model_output, timestep, sample, *args, **kwargs)
        output = super().step(
            c_eps * _at_least_float32(model_output),
            timestep,
            c_x * _at_least_float32(sample),
            *args,
            **kwargs,
        )
        dtype = torch.promote_types(model_output.dtype, sample.dtype)
        if isinstance(output, tuple):
            return tuple(value.to(dtype) for value in output)
        return type(output)(**{name: value.to(dtype) for name, value in output.items()})

    def _for_these_steps(self, coefficients: Coefficients) -> Coefficients:
        """The coefficients as they are, or for the timesteps that are set if there are more or fewer."""
        if len(self.timesteps) == coefficients.steps:
            return coefficients
        if self.interpolate:
            return coefficients.interpolated(len(self.timesteps))
        raise ValueError(
            f"{type(self).__name__} has coefficients for {coefficients.steps} steps, "
            f"but {len(self.timesteps)} timesteps are set; interpolate=True fits them"
        )

    def __init_subclass__(cls) -> None:
        """Give the methods the signatures of the parent scheduler's.

        diffusers reads signatures. That of `__init__` names the keys of the config; those of `step` and
        `set_timesteps` tell a pipeline whether to pass `eta`, `generator`, `timesteps`, `sigmas` and `mu`.
        """
        super().__init_subclass__()
        if _QSched in cls.__bases__:
            own: Any = cls
            parent: Any = cls.__bases__[1]
            own.__init__ = register_to_config(_signed(own.__init__, parent.__init__, *_OWN))
            own.step = _signed(own.step, parent.step)
            own.set_timesteps = _signed(own.set_timesteps, parent.set_timesteps)


def _signed(method: Callable[..., Any], like: Callable[..., Any], *extra: str) -> Callable[..., Any]:
    """Return `method` with the signature and docstring of `like`, and the keywords `extra` (default None)."""

    @functools.wraps(like)
    def signed(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, *args, **kwargs)

    signature = inspect.signature(like)
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in extra]
    parameters = [*signature.parameters.values(), *keywords]
    signed.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return signed


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class QSchedTCDScheduler(_QSched, TCDScheduler):
    """Equation 4, for PCM and TCD; `eta` = 0 is the deterministic sampler of the released code."""


class QSchedLCMScheduler(_QSched, LCMScheduler):
    """Multi-step consistency sampling; c_x also scales the c_skip · x_t of the boundary condition."""


class QSchedEulerDiscreteScheduler(_QSched, EulerDiscreteScheduler):
    """x_s = c_x x_t + (σ_s − σ_t) c_ε ε."""


class QSchedEulerAncestralDiscreteScheduler(_QSched, EulerAncestralDiscreteScheduler):
    """x_s = c_x x_t + (σ_down − σ_t) c_ε ε + σ_up z, the sampler of SDXL-Turbo."""


class QSchedFlowMatchEulerDiscreteScheduler(_QSched, FlowMatchEulerDiscreteScheduler):
    """x_s = c_x x_t + (σ_s − σ_t) c_v v, the sampler of FLUX; c_eps holds c_v."""


def twin_of(name: str) -> type[_QSched] | None:
    """Return the Q-Sched class of a scheduler, named as diffusers or as this module names it; or None."""
    twins = {twin.__name__: twin for twin in _QSched.__subclasses__()}
    return twins.get(f"QSched{name.removeprefix('QSched')}")
