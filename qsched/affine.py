"""Every sampler here is an affine map a step, and so its Q-Sched coefficients cost nothing.

    x_{i+1} = a_i x_i + b_i ε_i + s_i z_i,     z_i ~ N(0, I)

(ε is whatever the model predicts: noise, v, or FLUX's velocity.) The three numbers are read off the
scheduler by asking it for steps, so they hold for whatever settings it has. Q-Sched multiplies a_i by c_x
and b_i by c_ε (equation 4): `fuse` puts the products where a and b were.
"""

import copy
import functools
import types
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

_SHAPE = (1, 1, 8, 8)
_TOLERANCE = 1e-4  # of a step's largest term; float32 rounding is about 1e-6 of it


@dataclass(frozen=True)
class AffineStep:
    """One step of a sampler: weight of the sample, of the model output, and of fresh noise.

    `shift` is added to every sample: one number a channel, or none.
    """

    a: float
    b: float
    s: float
    shift: tuple[float, ...] = ()


def affine_steps(scheduler: Any, **options: Any) -> tuple[AffineStep, ...]:
    """Read a, b and s of every step off a scheduler whose timesteps are set; it stays as it is.

    `options` go to `step`, such as TCD's `eta`. For a scheduler with coefficients, they are in a and b.

    Raises:
        ValueError: no timesteps, or a step that is not affine (it clips or thresholds, or needs steps
        before).
    """
    count = len(scheduler.timesteps) if scheduler.num_inference_steps else 0
    if not count:
        raise ValueError(f"{type(scheduler).__name__} has no timesteps; call set_timesteps first")
    zero, one = torch.zeros(_SHAPE), torch.ones(_SHAPE)
    z = torch.randn(_SHAPE, generator=torch.Generator().manual_seed(0))
    wide = 10 * torch.linspace(-1, 1, zero.numel()).view(_SHAPE)
    steps = []
    for i in range(count):
        noise = _stepped(scheduler, i, zero, zero, options)
        a = (_stepped(scheduler, i, zero, one, options) - noise).mean()
        b = (_stepped(scheduler, i, one, zero, options) - noise).mean()
        s = (noise * z).sum() / z.square().sum()
        expected = a * wide - b * wide.flip(-1) + s * z
        off = (_stepped(scheduler, i, -wide.flip(-1), wide, options) - expected).abs().max()
        if off > _TOLERANCE * max(1.0, 10 * float(a.abs() + b.abs())):
            raise ValueError(f"step {i} of {type(scheduler).__name__} is not affine: off by {off:.2g}")
        steps.append(AffineStep(float(a), float(b), float(s)))
    return tuple(steps)


def _stepped(scheduler: Any, i: int, output: Tensor, sample: Tensor, options: dict[str, Any]) -> Tensor:
    """Return what the `i`-th step makes of `output` and `sample`; the noise is always that of seed 0."""
    return _step(scheduler, i, output, sample, options)[0].float()


def _step(
    scheduler: Any, i: int, output: Tensor, sample: Tensor, options: dict[str, Any]
) -> tuple[Tensor, ...]:
    """As `_stepped`, with all that the step returns."""
    probe = copy.deepcopy(scheduler)
    probe._step_index = i
    t = probe.timesteps[i]
    if hasattr(probe, "scale_model_input"):
        probe.scale_model_input(sample, t)  # Euler's samplers warn if it was not called
    generator = torch.Generator().manual_seed(0)
    return probe.step(output, t, sample, generator=generator, return_dict=False, **options)


def fuse(scheduler: Any, **options: Any) -> Any:
    """Return a copy of `scheduler` whose step is one weighted sum, its coefficients folded into the weights.

    `options` as for `affine_steps`; what a pipeline passes for them later counts no more. The copy is for the
    timesteps that are set now, and its `step` raises ValueError where others were set.

    Raises:
        ValueError: as `affine_steps`.
    """
    return sampler_of(scheduler, affine_steps(scheduler, **options))


def sampler_of(scheduler: Any, steps: tuple[AffineStep, ...]) -> Any:
    """Return a copy of `scheduler` that takes these `steps` in place of its own, as `fuse` describes.

    What `save_pretrained` saves of it is the scheduler it was made of.
    """
    timesteps = scheduler.timesteps.clone()
    # LCM's step also gives the denoised sample. Its pipeline takes the last, and that is the last sample.
    width = len(_step(scheduler, 0, torch.zeros(_SHAPE), torch.zeros(_SHAPE), {}))

    @functools.wraps(type(scheduler).step)  # pipelines look at its signature
    def step(
        self: Any,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        *_: Any,
        generator: Any = None,
        return_dict: bool = True,
        **__: Any,
    ) -> Any:
        if not torch.equal(self.timesteps.cpu(), timesteps.cpu()):
            raise ValueError(f"made for the timesteps {timesteps.tolist()}, not {self.timesteps.tolist()}")
        if self.step_index is None:
            self._init_step_index(timestep)
        now = steps[self.step_index]
        # In float32: in bfloat16 a weight of 1.012 would be 1.0156.
        after = now.a * sample.float() + now.b * model_output.float()
        if now.shift:
            # Latents are (n, channels, height, width), but FLUX packs them: (n, tokens, channels).
            channels = (-1, 1, 1) if after.ndim == 4 else (-1,)
            after += torch.tensor(now.shift, device=after.device).view(channels)
        if now.s:
            after += now.s * randn_tensor(after.shape, generator, after.device, after.dtype)
        self._step_index += 1
        after = after.to(torch.promote_types(model_output.dtype, sample.dtype))
        return SchedulerOutput(prev_sample=after) if return_dict else (after,) * width

    copied = copy.deepcopy(scheduler)
    copied.step = types.MethodType(step, copied)  # a method, so that a copy of the copy has one of its own
    return copied
