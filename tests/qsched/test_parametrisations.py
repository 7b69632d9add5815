import numpy as np
import pytest

from qsched.coefficients import Coefficients
from qsched.parametrisations import level_and_difference, paper, per_step, released

ALL = [paper(4), released(4), per_step(4), level_and_difference([-14.0, -3.0, -1.0, -0.2])]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_its_identity_is_the_identity(one):
    assert one(one.identity) == Coefficients.identity(4)
    assert len(one.identity) == one.size


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_another_number_of_numbers_is_refused(one):
    with pytest.raises(ValueError, match=f"{one.name} takes {one.size} numbers, not 3"):
        one([1.0, 1.0, 1.0])


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_its_own_coefficients_are_nearest_to_themselves(one):
    numbers = [start + move for start, move in zip(one.identity, [0.04, -0.03, 0.02, 0.05] * 2, strict=False)]
    assert one.nearest(one(numbers)) == pytest.approx(numbers)


def test_the_nearest_evenly_spaced_coefficients_are_the_line_of_least_squares():
    c_eps = (0.99, 1.02, 1.01, 1.06)
    slope, start = np.polyfit([0, 1, 2, 3], c_eps, 1)
    found = paper(4).nearest(Coefficients((1.0,) * 4, c_eps))
    assert found == pytest.approx([1, 1, start, start + 3 * slope])


def test_the_published_coefficients_of_sdxl_turbo():
    """W4A4, scripts/collect_images.sh of the released code: c_ε 0.955 → 1.099, c_x 1.012 → 0.967."""
    published = paper(4)([1.012, 0.967, 0.955, 1.099])
    assert published.c_x == pytest.approx([1.012, 0.997, 0.982, 0.967])
    assert published.c_eps == pytest.approx([0.955, 1.003, 1.051, 1.099])


def test_the_released_search_ends_at_one():
    assert released(3)([0.9, 1.1]) == Coefficients((0.9, 0.95, 1.0), (1.1, 1.05, 1.0))


def test_per_step_is_as_written():
    assert per_step(2)([0.9, 1.1, 0.8, 1.2]) == Coefficients((0.9, 1.1), (0.8, 1.2))


def test_a_difference_weighs_alike_at_every_step():
    """b (c_ε − c_x) is what the difference adds to the next sample: d, whatever b is."""
    b = [-14.0, -3.0, -1.0, -0.2]
    c = level_and_difference(b)([0.02, -0.01, 0.05, 0.05])
    assert c.c_x == pytest.approx([1.02, 1.01, 1.0, 0.99])
    assert [w * (e - x) for w, x, e in zip(b, c.c_x, c.c_eps, strict=True)] == pytest.approx([0.05] * 4)


def test_a_step_without_output_has_no_difference():
    with pytest.raises(ValueError, match="weigh the model output"):
        level_and_difference([-1.0, 0.0])
