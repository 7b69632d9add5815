import copy
import os

import pytest

if not os.environ.get("CI"):  # in CI a missing diffusers is a failure
    pytest.importorskip("diffusers")
import torch

from qsched.affine import affine_steps, fuse
from tests.qsched.test_schedulers import C_EPS, C_X, FAMILIES, PREDICTIONS, make


def loop(scheduler, seed=3, **step):
    """The whole sampling loop with a model that bends its input, so that errors do not cancel."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(torch.tanh(scaled), t, x, generator=generator, return_dict=False, **step)[0]
    return x


def test_tcd_without_noise_is_ddim_written_out():
    scheduler = make("TCDScheduler", qsched=False)
    abar = scheduler.alphas_cumprod.double()
    times = [*scheduler.timesteps.tolist(), 0]
    for i, step in enumerate(affine_steps(scheduler, eta=0.0)):
        now, then = abar[times[i]], abar[times[i + 1]]
        assert step.a == pytest.approx(float((then / now).sqrt()), rel=1e-4)
        b = (1 - then).sqrt() - ((1 - now) * then / now).sqrt()
        assert step.b == pytest.approx(float(b), rel=1e-4, abs=1e-5)
        assert step.s == 0


def test_euler_ancestral_is_its_formula():
    scheduler = make("EulerAncestralDiscreteScheduler", qsched=False)
    sigma = scheduler.sigmas.double()
    for i, step in enumerate(affine_steps(scheduler)):
        up = (sigma[i + 1] ** 2 * (sigma[i] ** 2 - sigma[i + 1] ** 2) / sigma[i] ** 2).sqrt()
        down = (sigma[i + 1] ** 2 - up**2).clamp(min=0).sqrt()
        assert step.a == pytest.approx(1)
        assert step.b == pytest.approx(float(down - sigma[i]), rel=1e-4)
        assert step.s == pytest.approx(float(up), rel=1e-4)


@pytest.mark.parametrize(("family", "prediction"), PREDICTIONS)
def test_coefficients_multiply_the_weights(family, prediction):
    plain = affine_steps(make(family, prediction, qsched=False))
    scaled = affine_steps(make(family, prediction, c_x=C_X, c_eps=C_EPS))
    for i, (one, other) in enumerate(zip(plain, scaled, strict=True)):
        assert other.a == pytest.approx(C_X[i] * one.a, rel=1e-3, abs=1e-4)
        assert other.b == pytest.approx(C_EPS[i] * one.b, rel=1e-3, abs=1e-4)
        assert other.s == pytest.approx(one.s, abs=1e-4)


@pytest.mark.parametrize(("family", "prediction"), PREDICTIONS)
def test_the_fused_sampler_draws_the_same(family, prediction):
    scheduler = make(family, prediction, c_x=C_X, c_eps=C_EPS)
    fused = fuse(scheduler)
    expected = loop(scheduler)
    assert torch.allclose(loop(fused), expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_a_fused_sampler_refuses_other_timesteps():
    fused = fuse(make("TCDScheduler", c_x=C_X, c_eps=C_EPS), eta=0.0)
    fused.set_timesteps(4)
    loop(fused)  # the same ones again are what a pipeline sets
    fused.coefficients = None
    fused.set_timesteps(2)
    with pytest.raises(ValueError, match="made for the timesteps"):
        loop(fused)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_of_a_fused_sampler_is_a_sampler_of_its_own(family):
    fused = fuse(make(family, c_x=C_X, c_eps=C_EPS))
    copied = copy.deepcopy(fused)
    expected = loop(fused)
    assert torch.equal(loop(copied), expected)  # the other's steps are not counted


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fused_sampler_has_the_weights_it_was_given(family):
    fused = fuse(make(family, c_x=C_X, c_eps=C_EPS))
    expected = affine_steps(make(family, c_x=C_X, c_eps=C_EPS))
    for one, other in zip(affine_steps(fused), expected, strict=True):
        assert (one.a, one.b, one.s) == pytest.approx((other.a, other.b, other.s), rel=1e-4, abs=1e-5)
    assert fused.step_index is None  # it was only asked


def test_the_fused_lcm_sampler_ends_with_the_denoised_sample():
    """LCM's pipeline takes the second value of the last step."""
    scheduler = make("LCMScheduler", qsched=False)
    fused, x = fuse(scheduler), torch.ones(1, 4, 8, 8)
    for each in (scheduler, fused):
        each._step_index = len(scheduler.timesteps) - 1
    t = scheduler.timesteps[-1]
    expected, got = (each.step(0.5 * x, t, x, return_dict=False) for each in (scheduler, fused))
    assert len(got) == len(expected) == 2
    assert torch.allclose(got[1], expected[1], atol=1e-5)


def test_what_is_not_affine_is_refused():
    scheduler = make("LCMScheduler", qsched=False, clip_sample=True)
    with pytest.raises(ValueError, match="not affine"):
        affine_steps(scheduler)


def test_timesteps_must_be_set():
    from diffusers import TCDScheduler

    with pytest.raises(ValueError, match="call set_timesteps first"):
        affine_steps(TCDScheduler())


def test_the_scheduler_stays_as_it_was():
    scheduler = make("EulerAncestralDiscreteScheduler", qsched=False)
    affine_steps(scheduler)
    assert scheduler.step_index is None
