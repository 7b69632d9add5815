import itertools

import numpy as np
import pytest

from elo.counts import Counts, count, from_wins
from elo.paired import fit, fit_bradley_terry
from elo.robustness import leave_one_out, votes_to_flip
from elo.votes import read_votes


def test_two_methods_flip_by_the_lead():
    counts = from_wins("ab", [[0, 60], [40, 0]])
    flip = votes_to_flip(counts, fit_bradley_terry(counts), "a", "b")
    assert (flip.votes, flip.share) == (20, 0.2)
    with pytest.raises(ValueError, match="b does not rate higher"):
        votes_to_flip(counts, fit_bradley_terry(counts), "b", "a")


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
            assert 0 < flip.votes < counts.total / 2


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
