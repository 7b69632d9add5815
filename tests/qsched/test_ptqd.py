import os

import numpy as np
import pytest
from scipy.stats import linregress

if not os.environ.get("CI"):  # in CI a missing diffusers is a failure
    pytest.importorskip("diffusers")
import torch

from qsched.affine import affine_steps
from qsched.ptqd import corrected, starting_point, statistics, statistics_as_released
from tests.qsched.test_schedulers import FAMILIES, make

K, BIAS, SIGMA = 0.08, np.array([0.3, -0.2, 0.0, 0.1]), 0.05


def planted(seed=0, n=64, k=K):
    """Samples and outputs of two models, in which the second's error is known."""
    rng = np.random.default_rng(seed)
    x, eps = rng.normal(size=(2, n, 4, 8, 8))
    rest = BIAS[:, None, None] + SIGMA * (1 + k) * rng.normal(size=eps.shape)
    return x, eps, (1 + k) * eps + rest


def test_planted_errors_are_found():
    x, eps, eps_q = planted()
    (found,) = statistics([(x, eps)], [(x, eps_q)])
    assert found.k == pytest.approx(K, abs=2e-3)
    assert found.bias == pytest.approx(BIAS, abs=3e-3)
    assert found.sigma == pytest.approx(SIGMA, rel=0.02)
    assert starting_point([found]).c_eps == (1 / (1 + found.k),)
    one = slice(0, 1)  # with one channel it is a plain regression
    (found,) = statistics([(x[:, one], eps[:, one])], [(x[:, one], eps_q[:, one])])
    line = linregress(eps[:, one].ravel(), (eps_q - eps)[:, one].ravel())
    assert (found.k, found.bias[0]) == (pytest.approx(line.slope), pytest.approx(line.intercept))


def test_a_damped_output_is_left_as_it_is():
    x, eps, eps_q = planted(k=-0.1)
    assert statistics([(x, eps)], [(x, eps_q)])[0].k == 0


def test_two_free_runs_are_no_pair():
    x, eps, eps_q = planted()
    with pytest.raises(ValueError, match="same samples"):
        statistics([(x, eps)], [(x + 1, eps_q)])


def test_the_released_port_goes_the_wrong_way():
    x, eps, eps_q = planted()
    (wrong,) = statistics_as_released([(x, eps)], [(x, eps_q)])
    assert wrong.k == pytest.approx(-K, abs=2e-3)
    assert starting_point([wrong]).c_eps[0] > 1  # where the output is too large already


def test_the_released_port_is_as_its_source_has_it():
    """src/eval_dataset.py of the released code, in its own words, on an output that has a mean."""
    x, eps, eps_q = planted(n=4)
    eps, eps_q = (torch.tensor(value + 0.5) for value in (eps, eps_q))
    error, data = eps - eps_q, eps
    k = linregress(data.flatten(), error.flatten()).slope
    residual_error = data + error - (1 + k) * data
    (found,) = statistics_as_released([(x, eps)], [(x + 1, eps_q)])  # the samples are not compared
    assert found.k == pytest.approx(k)
    assert found.bias == pytest.approx(torch.mean(error, dim=(0, 2, 3)).tolist())
    assert found.sigma * (1 + found.k) == pytest.approx(float(torch.std(residual_error)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_corrected_step_is_the_step_of_the_true_output(family):
    """With an error that is slope and bias alone, the correction is exact for every sampler."""
    scheduler = make(family, qsched=False)
    x, eps, _ = planted(n=2)
    eps_q = (1 + K) * eps + BIAS[:, None, None]
    found = statistics([(x, eps)] * 4, [(x, eps_q)] * 4)
    repaired = corrected(scheduler, found)
    x, eps, eps_q = (torch.tensor(value, dtype=torch.float32) for value in (x, eps, eps_q))
    for t in scheduler.timesteps:
        noise = [torch.Generator().manual_seed(1) for _ in range(2)]
        for each in (scheduler, repaired):
            if hasattr(each, "scale_model_input"):
                each.scale_model_input(x, t)
        expected = scheduler.step(eps, t, x, generator=noise[0]).prev_sample
        got = repaired.step(eps_q, t, x, generator=noise[1]).prev_sample
        assert torch.allclose(got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_noise_that_is_there_is_not_added_again():
    """x' = a x + b ε + s z: the variance after the step is that of full precision."""
    scheduler = make("EulerAncestralDiscreteScheduler", qsched=False)
    steps = affine_steps(scheduler)
    rng = np.random.default_rng(5)
    x, eps = rng.normal(size=(2, 200, 4, 8, 8))
    sigma = 0.5 * steps[1].s / abs(steps[1].b)
    eps_q = eps + sigma * rng.normal(size=eps.shape)
    found = statistics([(x, eps)] * 4, [(x, eps_q)] * 4)
    repaired = affine_of(corrected(scheduler, found), 1, eps_q, x)
    plain = affine_of(make("EulerAncestralDiscreteScheduler", qsched=False), 1, eps_q, x)
    true = affine_of(make("EulerAncestralDiscreteScheduler", qsched=False), 1, eps, x)
    assert repaired.var() == pytest.approx(true.var(), rel=0.005)
    assert plain.var() > true.var() * 1.01


def affine_of(scheduler, i, eps, x):
    """The next samples of step `i`, with noise of its own."""
    scheduler._step_index = i
    x, eps = torch.tensor(x, dtype=torch.float32), torch.tensor(eps, dtype=torch.float32)
    t = scheduler.timesteps[i]
    scheduler.scale_model_input(x, t)
    return scheduler.step(eps, t, x, generator=torch.Generator().manual_seed(9)).prev_sample.numpy()


def test_the_number_of_steps_must_match():
    x, eps, eps_q = planted(n=2)
    with pytest.raises(ValueError, match="statistics of 1 steps, but 4"):
        corrected(make("TCDScheduler", qsched=False), statistics([(x, eps)], [(x, eps_q)]))
