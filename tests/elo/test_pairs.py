import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elo.counts import count
from elo.paired import fit_bradley_terry
from elo.pairs import compare_pairs, holm, wilson
from elo.sandwich import sandwich
from elo.votes import read_votes


def compared(frame, groups=("judge",)):
    counts = count(read_votes(frame), by=groups)
    fitted = fit_bradley_terry(counts)
    return compare_pairs(counts, fitted, sandwich(counts, fitted, groups))


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_procedure(p):
    """Rejecting at 5 % by corrected p is rejecting the smallest ones until the first that fails."""
    p = np.array(p)
    rejected = np.zeros(len(p), dtype=bool)
    for step, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] * (len(p) - step) > 0.05:
            break
        rejected[i] = True
    np.testing.assert_array_equal(holm(p) <= 0.05, rejected)


def test_wilson_published():
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611; 1 of 29."""
    low, high = wilson(np.array([81 / 263, 0.0, 1 / 29]), np.array([263, 20, 29]))
    np.testing.assert_allclose(low, [0.2553, 0, 0.0061], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1611, 0.1718], atol=5e-5)
    assert np.isnan(wilson(np.array([np.nan]), np.array([0]))[0]).all()


def test_matrices_mirror_and_ranks_follow(simulated):
    frame = simulated({"a": 1300, "b": 1010, "c": 1000, "d": 700}, 3000, ties=0.1)
    pairs = compared(frame)
    np.testing.assert_allclose(pairs.win_rate + pairs.win_rate.T, np.where(np.eye(4), np.nan, 1))
    np.testing.assert_allclose(pairs.difference, -pairs.difference.T)
    np.testing.assert_array_equal(pairs.p_holm, pairs.p_holm.T)
    low, high = pairs.rank_ranges()
    assert (low.tolist(), high.tolist()) == ([1, 2, 2, 4], [1, 3, 3, 4])


def test_equal_methods_are_rarely_called_different(simulated):
    """The chance of any false claim among 6 pairs of equal methods stays near 5 % (60 small studies)."""
    false = 0
    for seed in range(60):
        frame = simulated(dict.fromkeys("abcd", 1000), 600, judges=50, judge_sd=100, seed=seed)
        false += bool((compared(frame).p_holm < 0.05).any())
    assert false / 60 <= 0.12
