import pytest

from qsched import Coefficients


def test_ends_by_hand():
    # The published set for SDXL-Turbo, 4 steps, W4A4.
    c = Coefficients.from_ends(1.012, 0.967, 0.955, 1.099, steps=4)
    assert c.steps == 4
    assert c.c_x == pytest.approx((1.012, 0.997, 0.982, 0.967))
    assert c.c_eps == pytest.approx((0.955, 1.003, 1.051, 1.099))


def test_equal_ends_give_exactly_that_number():
    assert Coefficients.from_ends(1.1, 1.1, 1, 1, steps=7) == Coefficients((1.1,) * 7, (1.0,) * 7)


def test_one_step_takes_the_start():
    assert Coefficients.from_ends(0.9, 1.1, 1.2, 0.8, steps=1) == Coefficients((0.9,), (1.2,))


def test_identity():
    assert (
        Coefficients.identity(2)
        == Coefficients.from_ends(1, 1, 1, 1, 2)
        == Coefficients((1.0, 1.0), (1.0, 1.0))
    )


@pytest.mark.parametrize(
    ("c_x", "c_eps", "message"),
    [
        ([], [], "at least one step"),
        ([1, 1], [1], "c_x has 2 steps, but c_eps has 1"),
        ([1, 0], [1, 1], r"c_x must be finite and positive: \[1.0, 0.0\]"),
        ([1], [float("inf")], "c_eps must be finite"),
        ([1], [float("nan")], "c_eps must be finite"),
    ],
)
def test_bad_values_are_refused(c_x, c_eps, message):
    with pytest.raises(ValueError, match=message):
        Coefficients(c_x, c_eps)
