import math

import numpy as np
import pytest
from scipy import stats

from elo.counts import count
from elo.paired import elo_scale, fit, fit_bradley_terry
from elo.sandwich import critical_value, sandwich, two_sided_p
from elo.votes import read_votes


@pytest.mark.parametrize("name", ["food", "simple", "quant"])
def test_golden_standard_errors(golden, name):
    case, frame = golden(name)
    counts = count(read_votes(frame))
    fitted = fit_bradley_terry(counts)
    found = sandwich(counts, fitted)
    errors = np.sqrt(np.diag(found.covariance))
    expected = case["bradley_terry_ties_half"]["se_sandwich_mean0_gauge"]
    np.testing.assert_allclose(errors, [expected[n] for n in counts.names], rtol=0, atol=1e-6)
    half = critical_value(found.freedom) * errors * 400 / math.log(10)
    ratings = elo_scale(fitted.log_strength, counts.names)
    for i, method in enumerate(counts.names):
        arena = case["arena_rank_sandwich_95_elo_scale"]["values"][method]
        assert 2 * half[i] == pytest.approx(arena["high"] - arena["low"], rel=1e-3)
        assert ratings[i] - half[i] == pytest.approx(arena["low"], rel=1e-3)
        assert ratings[i] + half[i] == pytest.approx(arena["high"], rel=1e-3)


def plain(votes, counts, fitted, codes):
    """Vote by vote: one gradient each by finite differences, summed within clusters."""
    m, p = len(votes.names), len(fitted.parameters)
    gradients = np.zeros((len(votes), p))
    side, has_tie = fitted.side is not None, p > m + (fitted.side is not None)
    for row, (i, j, w) in enumerate(zip(votes.a, votes.b, votes.winner, strict=True)):

        def log_p(z, i=i, j=j, w=w):
            x = z[i] - z[j] + (z[-1] if side else 0)
            if not has_tie:
                won = -math.log1p(math.exp(-x)), -math.log1p(math.exp(x))
                return (*won, sum(won) / 2)[w]
            total = math.exp(x / 2) + math.exp(-x / 2) + math.exp(z[m])
            return (x / 2, -x / 2, z[m])[w] - math.log(total)

        for k in range(p):
            step = np.zeros(p)
            step[k] = 1e-5
            gradients[row, k] = (log_p(fitted.parameters + step) - log_p(fitted.parameters - step)) / 2e-5
    bread = np.linalg.pinv(fitted.information)
    if codes is None:
        meat, factor = gradients.T @ gradients, 1.0
    else:
        sums = np.array([gradients[codes == code].sum(axis=0) for code in np.unique(codes)])
        meat, factor = sums.T @ sums, len(sums) / (len(sums) - 1)
    return factor * bread @ meat @ bread


@pytest.mark.parametrize(
    "model,side", [("bradley-terry", False), ("bradley-terry", True), ("davidson", True)]
)
def test_agrees_with_a_plain_loop(five, model, side):
    votes = read_votes(five)
    counts = count(votes, by=["judge", "prompt"])
    fitted = fit(counts, model, side=side)
    parts = {
        group: plain(votes, counts, fitted, codes)
        for group, codes in (("vote", None), ("judge", votes.judge), ("prompt", votes.prompt))
    }
    for groups, wanted in (
        ((), parts["vote"]),
        (("judge",), parts["judge"]),
        (("prompt",), parts["prompt"]),
        (("judge", "prompt"), parts["judge"] + parts["prompt"] - parts["vote"]),
    ):
        found = sandwich(counts, fitted, groups)
        differences = found.differences()
        m = len(votes.names)
        for i in range(m):
            for j in range(m):
                contrast = np.zeros(len(wanted))
                contrast[i] += 1
                contrast[j] -= 1
                assert differences[i, j] ** 2 == pytest.approx(
                    contrast @ wanted @ contrast, rel=1e-4, abs=1e-9
                )


def test_two_ways_are_clipped_where_they_would_be_negative(five):
    """Every judge and prompt balanced by hand: the one-way parts are smaller than the vote part."""
    frame = five.iloc[:400].copy()
    frame["judge"] = [f"j{i // 10}" for i in range(400)]
    frame["prompt_id"] = [f"p{i % 10}" for i in range(400)]
    votes = read_votes(frame)
    counts = count(votes, by=["judge", "prompt"])
    found = sandwich(counts, fit_bradley_terry(counts), ("judge", "prompt"))
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-12
    assert found.freedom == 9
    assert found.clusters == {"judge": 40, "prompt": 10}


def test_half_win_ties_make_the_textbook_error_too_wide(golden):
    """The case `simple`, 56 % ties: 0.77 by the information, 0.48 by the sandwich."""
    counts = count(read_votes(golden("simple")[1]))
    fitted = fit_bradley_terry(counts)
    textbook = math.sqrt(np.linalg.pinv(fitted.information)[0, 0])
    assert textbook == pytest.approx(0.77, abs=0.005)
    assert math.sqrt(sandwich(counts, fitted).covariance[0, 0]) == pytest.approx(0.48, abs=0.005)


def test_people_who_differ_widen_the_errors(simulated):
    frame = simulated({"a": 1050, "b": 1000, "c": 950}, 3000, judges=60, judge_sd=150)
    counts = count(read_votes(frame), by=["judge"])
    assert sandwich(counts, fit_bradley_terry(counts), ["judge"]).design_effect > 1.9


def test_quantiles_and_p_values():
    assert critical_value(math.inf) == pytest.approx(1.959964, abs=1e-6)
    assert critical_value(9) == pytest.approx(stats.t.ppf(0.975, 9))
    assert two_sided_p(1.959964, math.inf) == pytest.approx(0.05, abs=1e-6)
    assert two_sided_p(np.array([-2.262157]), 9)[0] == pytest.approx(0.05, abs=1e-6)


def crossed(seed, judges=50, prompts=50, n=1500):
    """Votes where judges differ in taste and prompts in difficulty."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    theta = np.array([0.3, 0.0, -0.3])
    judge, prompt = rng.integers(0, judges, n), rng.integers(0, prompts, n)
    taste, difficulty = rng.normal(0, 0.6, (judges, 3)), rng.normal(0, 0.6, (prompts, 3))
    a = rng.integers(0, 3, n)
    b = (a + rng.integers(1, 3, n)) % 3
    mine = theta + taste[judge] + difficulty[prompt]
    rows = np.arange(n)
    gap = mine[rows, a] - mine[rows, b]
    left = rng.random(n) < 1 / (1 + np.exp(-gap))
    names = np.array(list("abc"))
    return pd.DataFrame(
        {
            "model_a": names[a],
            "model_b": names[b],
            "winner": np.where(left, "model_a", "model_b"),
            "judge": judge,
            "prompt_id": prompt,
        }
    )


def test_both_covers_where_judges_and_prompts_differ_and_votes_do_not():
    """A small version of bench/coverage.py: 100 studies of 50 judges and 50 prompts."""
    truth = fit_bradley_terry(count(read_votes(crossed(0, 3000, 3000, 300_000)))).log_strength
    covered = {(): 0, ("judge", "prompt"): 0}
    for seed in range(1, 101):
        counts = count(read_votes(crossed(seed)), by=["judge", "prompt"])
        fitted = fit_bradley_terry(counts)
        for groups in covered:
            found = sandwich(counts, fitted, groups)
            half = critical_value(found.freedom) * np.sqrt(np.diag(found.covariance))
            covered[groups] += (np.abs(fitted.log_strength - truth) <= half).sum()
    assert covered[()] / 300 < 0.88
    assert 0.91 < covered["judge", "prompt"] / 300 < 0.99
