import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from qsched.coefficients import Coefficients
from qsched.journal import Point
from qsched.parametrisations import paper
from qsched.surface import fitted, gains

RNG = np.random.default_rng(0)
PROMPTS = RNG.normal(size=16)  # prompts differ a lot, and alike for every candidate
TOP = np.array([1.03, 0.98, 1.01, 1.0])
IDENTITY = Point(Coefficients.identity(4), tuple(PROMPTS))


def point(numbers, seen, noise=0.0):
    gain = 0.01 - ((np.asarray(numbers) - TOP) ** 2 * [1, 2, 3, 4]).sum() + noise
    return Point(paper(4)(numbers), tuple(PROMPTS[:seen] + gain))


def test_a_quadratic_is_found_again():
    numbers = 1 + 0.1 * RNG.uniform(-1, 1, size=(40, 4))
    points = [point(row, seen) for row, seen in zip(numbers, RNG.choice([4, 8, 16], 40), strict=True)]
    surface = fitted(numbers, points, IDENTITY, np.ones(4), np.full(4, 0.1))
    assert surface(numbers) == pytest.approx(gains(points, IDENTITY))
    assert surface.top() == pytest.approx(TOP, abs=1e-4)
    assert surface(TOP[None]) == pytest.approx(0.01)
    # A top outside of the box is sought on its edge.
    small = fitted(numbers, points, IDENTITY, np.ones(4), np.full(4, 0.02))
    assert small.top() == pytest.approx([1.02, 0.98, 1.01, 1.0], abs=1e-4)


def test_points_weigh_by_their_prompts_as_in_a_reference_fit():
    numbers = 1 + 0.1 * RNG.uniform(-1, 1, size=(40, 4))
    seen = RNG.choice([4, 16], 40)
    points = [point(row, n, RNG.normal(0, 0.01)) for row, n in zip(numbers, seen, strict=True)]
    quadratic = PolynomialFeatures(2)
    reference = LinearRegression().fit(quadratic.fit_transform(numbers), gains(points, IDENTITY), seen)
    surface = fitted(numbers, points, IDENTITY, np.ones(4), np.full(4, 0.1))
    assert surface(numbers) == pytest.approx(reference.predict(quadratic.transform(numbers)))


def test_too_few_points_make_no_surface():
    numbers = 1 + 0.1 * RNG.uniform(-1, 1, size=(15, 4))  # as many as it has weights
    assert fitted(numbers, [point(row, 8) for row in numbers], IDENTITY, np.ones(4), np.ones(4)) is None
