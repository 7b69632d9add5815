import json

import numpy as np
import pytest

import elo
from elo.checks import check, side_effect, transitivity
from elo.counts import Counts, count, from_wins
from elo.existence import NoMaximum
from elo.paired import fit
from elo.votes import read_votes


def test_a_circle_is_not_transitive_and_three_wins_of_four_are():
    circle = transitivity(from_wins("abc", [[0, 60, 30], [30, 0, 60], [60, 30, 0]]))
    # 2 · 270 · (ln 2 + ⅔ ln ⅔ + ⅓ ln ⅓), one degree of freedom
    gain = 540 * (np.log(2) + 2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert circle.statistic == pytest.approx(gain)
    assert circle.df == 1
    assert circle.p < 1e-6
    odds = np.array([[0, 60, 72], [30, 0, 60], [18, 30, 0]])  # 2 : 1, 2 : 1 and 4 : 1
    assert transitivity(from_wins("abc", odds)).statistic == pytest.approx(0, abs=1e-9)
    assert transitivity(from_wins("ab", [[0, 5], [3, 0]])) is None


def test_design_effect_deflates():
    circle = from_wins("abc", [[0, 60, 30], [30, 0, 60], [60, 30, 0]])
    assert transitivity(circle, 4).statistic == pytest.approx(transitivity(circle).statistic / 4)


def test_p_values_are_uniform_where_nothing_is_wrong():
    rng = np.random.default_rng(0)
    theta = np.array([0.5, 0.2, 0.0, -0.7])
    p = 1 / (1 + np.exp(-(theta[:, None] - theta[None, :])))
    found = []
    for _ in range(300):
        left = rng.binomial(40, p) * (1 - np.eye(4, dtype=int))
        number = np.array([left, (40 - left) * (1 - np.eye(4)), np.zeros((4, 4))])
        counts = Counts(tuple("abcd"), number)
        found.append((transitivity(counts).p, side_effect(counts).p))
    for p in np.array(found).T:
        assert 0.02 <= (p < 0.05).mean() <= 0.09
        assert 0.4 <= (p < 0.5).mean() <= 0.6


def test_side_effect_is_found(simulated):
    frame = simulated({"a": 1050, "b": 1000, "c": 950}, 4000, seed=1)
    assert side_effect(count(read_votes(frame))).p > 0.01
    turned = frame["winner"].eq("model_b") & (np.arange(len(frame)) % 5 == 0)
    biased = frame.assign(winner=frame["winner"].mask(turned, "model_a"))
    assert side_effect(count(read_votes(biased))).p < 1e-6
    table = elo.compute(elo.read_votes(biased), bootstrap=0)
    assert any("The side an image stood on mattered" in note for note in table.notes)
    fitted = elo.compute(elo.read_votes(biased), bootstrap=0, side=True)
    assert fitted.settings["side_effect"] > 20
    assert any("The image on the left is worth +" in note for note in fitted.notes)


def test_ranks_by_tie_model_in_simple(golden):
    """Golden: half wins and Davidson order 4 3 2 1 0, Rao–Kupper 3 4 1 2 0."""
    votes = read_votes(golden("simple")[1])
    table = elo.compute(votes, bootstrap=0)
    ranks = table.checks["rank_by_tie_model"]
    assert ranks["bradley-terry"] == ranks["davidson"] == {"4": 1, "3": 2, "2": 3, "1": 4, "0": 5}
    assert ranks["rao-kupper"] == {"3": 1, "4": 2, "1": 3, "2": 4, "0": 5}
    assert "Ranks depend on how ties are read: they differ under rao-kupper." in table.notes


def test_what_cannot_be_told_is_none():
    ranking = from_wins("abc", [[0, 1, 1], [0, 0, 1], [0, 0, 0]], [[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    with pytest.raises(NoMaximum):
        transitivity(ranking)
    found = check(ranking, fit(ranking), 1.0)
    assert found["transitivity"] is None
    json.dumps(found)
