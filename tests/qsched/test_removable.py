import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from qsched.removable import removable_error


def tensors(seed, count=4, shape=(6, 2, 3, 3)):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for _ in range(count)]


def test_an_error_that_is_two_scalars_is_removed_whole():
    x, eps, *_ = tensors(0)
    (found,) = removable_error([(x, eps)], [(x / 1.1, eps / 0.9)], [(0.8, -0.6)])
    assert found.removable == pytest.approx(1)
    assert (found.c_x, found.c_eps) == (pytest.approx(1.1), pytest.approx(0.9))


def test_no_error_is_no_error():
    x, eps, *_ = tensors(1)
    (found,) = removable_error([(x, eps)], [(x, eps)], [(0.8, -0.6)])
    assert (found.error, found.removable, found.c_x, found.c_eps) == (0, 0, 1, 1)


def test_independent_noise_can_only_be_shrunk():
    """Noise of variance v on ε of variance 1, with x = 0: the best c_ε is 1 / (1 + v)."""
    rng = np.random.default_rng(2)
    eps, noise = rng.normal(size=(2, 40_000))
    x = np.zeros_like(eps)
    (found,) = removable_error([(x, eps)], [(x, eps + 0.5 * noise)], [(1.0, -2.0)])
    assert found.c_eps == pytest.approx(1 / 1.25, abs=0.01)
    assert found.c_x == 1  # nothing speaks for another
    assert found.error == pytest.approx(0.25, abs=0.01)
    assert found.left == pytest.approx(0.25 / 1.25, abs=0.01)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.2, 2), st.floats(-2, -0.2))
def test_a_generic_optimiser_finds_the_same_bound(seed, a, b):
    x, eps, dx, de = tensors(seed)
    x_q, eps_q = x + 0.1 * dx, eps + 0.2 * de
    (found,) = removable_error([(x, eps)], [(x_q, eps_q)], [(a, b)])
    target = a * x + b * eps

    def left(c):
        return ((c[0] * a * x_q + c[1] * b * eps_q - target) ** 2).sum() / (target**2).sum()

    other = minimize(left, [1, 1], tol=1e-12)
    assert found.left == pytest.approx(other.fun, rel=1e-6)
    assert [found.c_x, found.c_eps] == pytest.approx(other.x, abs=1e-4)
    assert found.error == pytest.approx(left([1, 1]))
    assert found.left <= found.error


def test_steps_and_shapes_must_match():
    x, eps, *_ = tensors(3)
    with pytest.raises(ValueError, match="steps differ"):
        removable_error([(x, eps)], [], [(1, 1)])
    with pytest.raises(ValueError, match="one shape"):
        removable_error([(x, eps)], [(x[:2], eps[:2])], [(1, 1)])
