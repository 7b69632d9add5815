import math

import numpy as np
import pytest

from elo.errors import SettingsError
from elo.planning import plan, win_rate


def test_closed_form():
    """30 Elo, 80 % power, 5 % two-sided."""
    found = plan(gap=30)
    assert (found.votes, found.total, found.power) == (1056, 1056, 0.8)


def test_every_question_is_the_reverse_of_the_others():
    for gap in (5, 30, 100, 300):
        for power in (0.5, 0.8, 0.95):
            settings = {"ties": 0.2, "design_effect": 1.7, "methods": 5}
            need = plan(gap=gap, power=power, **settings)
            assert plan(gap=gap, votes=need.votes, **settings).power >= power - 1e-9
            assert plan(gap=gap, votes=need.votes - 1, **settings).power < power
            found = plan(votes=100_000, power=power, **settings)
            assert plan(gap=found.gap, votes=100_000, **settings).power == pytest.approx(power, abs=1e-9)


def test_ties_design_effect_and_methods():
    plain = plan(gap=30).votes
    assert plan(gap=30, ties=0.5).votes == pytest.approx(2 * plain, abs=2)
    assert plan(gap=30, design_effect=2).votes == pytest.approx(2 * plain, abs=2)
    six = plan(gap=30, methods=6)
    assert six.votes == pytest.approx(plain / 3, abs=1)
    assert six.total == 15 * six.votes


def test_power_by_simulation():
    """A pair 60 Elo apart, 20 % ties: the test on decided votes finds it as often as planned."""
    found = plan(gap=60, ties=0.2)
    rng = np.random.default_rng(0)
    decided = rng.binomial(found.votes, 0.8, size=20_000)
    won = rng.binomial(decided, win_rate(60))
    z = (won - decided / 2) / np.sqrt(decided / 4)
    assert (np.abs(z) > 1.959964).mean() == pytest.approx(0.8, abs=0.015)
    none = (rng.binomial(decided, 0.5) - decided / 2) / np.sqrt(decided / 4)
    assert (np.abs(none) > 1.959964).mean() == pytest.approx(0.05, abs=0.012)


def test_many_methods_by_simulation():
    """With m methods a Bradley–Terry difference is known as from m / 2 times the votes on the pair."""
    from elo.counts import Counts
    from elo.paired import fit_bradley_terry, fit_rounds

    m, gap = 5, 60
    found = plan(gap=gap, methods=m)
    theta = np.array([gap * math.log(10) / 400, 0, 0, 0, 0])
    rng = np.random.default_rng(1)
    p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    left = rng.binomial(found.votes, np.triu(p, 1), size=(2000, m, m)).astype(float)
    number = np.stack([left, np.triu(found.votes - left, 1), 0 * left], axis=1)
    drawn = fit_rounds(number, fit_bradley_terry(Counts(tuple("abcde"), number[0])))
    error = math.sqrt(8 / (m * found.votes))
    assert ((drawn[:, 0] - drawn[:, 1]) / error > 1.959964).mean() == pytest.approx(0.8, abs=0.035)


@pytest.mark.parametrize(
    "settings,message",
    [
        ({}, "give two of gap, votes and power"),
        ({"gap": 30, "votes": 10, "power": 0.8}, "give two of"),
        ({"gap": 0}, "gap 0"),
        ({"gap": 30, "ties": 1}, "ties 1"),
        ({"gap": 30, "alpha": 0}, "alpha 0"),
        ({"gap": 30, "power": 1}, "power 1"),
        ({"gap": 30, "design_effect": 0}, "design effect 0"),
        ({"gap": 30, "methods": 1}, "methods 1"),
        ({"votes": 0}, "votes 0"),
        ({"votes": 2}, "so few votes"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(SettingsError, match=message):
        plan(**settings)
