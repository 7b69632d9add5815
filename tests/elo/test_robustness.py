import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elo.counts import Counts, count, from_wins
from elo.existence import NoMaximum
from elo.paired import fit, fit_bradley_terry
from elo.robustness import leave_one_out, votes_to_flip
from elo.votes import read_votes


def test_two_methods_flip_by_the_lead():
    counts = from_wins("ab", [[0, 60], [40, 0]])
    flip = votes_to_flip(counts, fit_bradley_terry(counts), "a", "b")
    assert (flip.votes, flip.share, flip.confirmed) == (20, 0.2, True)
    with pytest.raises(ValueError, match="b does not rate higher"):
        votes_to_flip(counts, fit_bradley_terry(counts), "b", "a")


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 20))
def test_two_methods_flip_by_the_lead_whatever_the_ties(losses, lead, ties):
    counts = from_wins("ab", [[0, losses + lead], [losses, 0]], [[0, ties], [ties, 0]])
    for model in ("bradley-terry", "davidson"):
        flip = votes_to_flip(counts, fit(counts, model), "a", "b")
        assert (flip.votes, flip.confirmed) == (lead, True)


def test_no_smaller_set_flips_a_small_table():
    """Against all ways to take away fewer votes."""
    counts = from_wins("abc", [[0, 3, 2], [2, 0, 2], [1, 2, 0]])
    flip = votes_to_flip(counts, fit_bradley_terry(counts), "a", "b")
    cells = list(zip(*np.nonzero(counts.number), strict=True))
    for k in range(1, flip.votes):
        for taken in itertools.combinations_with_replacement(cells, k):
            number = counts.number.copy()
            for cell in taken:
                number[cell] -= 1
            if number.min() < 0:
                continue
            theta = fit(Counts(counts.names, number), prior=1e-9).log_strength
            assert theta[0] > theta[1]


def test_what_is_reported_does_flip(five):
    counts = count(read_votes(five))
    for model in ("bradley-terry", "davidson"):
        fitted = fit(counts, model)
        order = [counts.names[i] for i in np.argsort(-fitted.log_strength)]
        for better, worse in itertools.pairwise(order):
            flip = votes_to_flip(counts, fitted, better, worse)
            assert flip.confirmed
            assert 0 < flip.votes < counts.total / 2


def test_the_prediction_is_first_order(simulated):
    """With a small gap among many votes, the first order is all there is."""
    counts = count(read_votes(simulated({"a": 1010, "b": 1000, "c": 990}, 20_000, ties=0.2)))
    fitted = fit_bradley_terry(counts)
    flip = votes_to_flip(counts, fitted, "a", "b")
    assert flip.votes > 20
    assert flip.predicted == pytest.approx(flip.votes, rel=0.1)


def test_a_claim_may_vanish_instead_of_turning():
    """a beat c 5 : 1 and c beat b 5 : 1: the votes for a go first, and then a has never won."""
    wins = np.zeros((3, 3))
    wins[0, 2], wins[2, 0], wins[2, 1], wins[1, 2] = 5, 1, 5, 1
    flip = votes_to_flip(from_wins("abc", wins), fit_bradley_terry(from_wins("abc", wins)), "a", "b")
    assert (flip.votes, flip.confirmed) == (5, False)
    wins[0, 2] = 1
    theta = fit_bradley_terry(from_wins("abc", wins)).log_strength
    assert theta[0] - theta[1] == pytest.approx(np.log(5))  # still above, with 4 votes gone
    wins[0, 2] = 0
    with pytest.raises(NoMaximum):
        fit_bradley_terry(from_wins("abc", wins))


def test_leaving_one_judge_out_is_fitting_without_them(five):
    counts = count(read_votes(five), by=["judge"])
    fitted = fit_bradley_terry(counts)
    found = leave_one_out(counts, fitted)
    for k in (0, 17):
        rest = count(read_votes(five[five["judge"] != found.labels[k]]))
        np.testing.assert_allclose(found.log_strength[k], fit_bradley_terry(rest).log_strength, atol=1e-9)
    np.testing.assert_allclose(
        found.largest, np.abs(found.log_strength - fitted.log_strength).max(axis=0), atol=1e-12
    )
