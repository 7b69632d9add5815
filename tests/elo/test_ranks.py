import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from elo.ranks import kendall, spearman

few = st.integers(2, 7).flatmap(
    lambda m: st.tuples(*[st.lists(st.integers(-3, 3), min_size=m, max_size=m) for _ in range(2)])
)


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
@given(few)
def test_they_are_those_of_scipy(pair):
    x, y = np.array(pair, dtype=float)
    for ours, theirs in ((kendall, kendalltau), (spearman, spearmanr)):
        expected = theirs(x, y).statistic
        np.testing.assert_allclose(ours(x, y), expected, atol=1e-12, equal_nan=True)


def test_many_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 1, 6)), rng.integers(0, 4, (1, 3, 6))
    for correlation in (kendall, spearman):
        found = correlation(x, y)
        assert found.shape == (4, 3)
        for i, j in np.ndindex(4, 3):
            assert found[i, j] == pytest.approx(correlation(x[i, 0], y[0, j]))
