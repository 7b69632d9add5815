import numpy as np
import pandas as pd
import pytest

from elo.counts import Counts, count
from elo.errors import SettingsError
from elo.existence import NoMaximum
from elo.intervals import bootstrap, choose_clusters, percentile_intervals, probability_best
from elo.notes import cluster_notes
from elo.paired import fit, fit_bradley_terry, fit_rounds
from elo.tally import tally
from elo.votes import read_votes


def draw(frame, cluster="judge", **options):
    counts = tally(read_votes(frame)).counts
    return bootstrap(counts, fit_bradley_terry(counts), cluster=cluster, **options)


@pytest.mark.parametrize("name", ["food", "simple", "quant"])
def test_golden_percentile_intervals(golden, name):
    case, frame = golden(name)
    expected = case["bootstrap_percentile_95"]
    boot = draw(frame, rounds=10_000, cluster="vote")
    low, high = percentile_intervals(boot.draws)
    for i, method in enumerate(case["names"]):
        want = expected["log_strength_mean0"][method]
        tolerance = 0.03 + 0.02 * (want["high"] - want["low"])
        assert low[i] == pytest.approx(want["low"], abs=tolerance)
        assert high[i] == pytest.approx(want["high"], abs=tolerance)
    without = expected["resamples without a finite maximum (skipped)"] / expected["rounds"]
    assert boot.no_maximum / boot.rounds == pytest.approx(without, abs=0.012)
    assert len(boot.draws) == boot.rounds - boot.no_maximum


def chosen(frame, cluster="auto"):
    votes = tally(read_votes(frame))
    groups = choose_clusters(votes, cluster)
    return groups, cluster_notes(votes, groups)


def test_auto_takes_every_one_of_judge_and_prompt_with_20_values(five):
    assert chosen(five)[0] == ("judge", "prompt")
    few = five.assign(judge=five["judge"].map(lambda j: int(j[1:]) % 7))
    assert chosen(few)[0] == ("prompt",)
    assert chosen(five.drop(columns="prompt_id"))[0] == ("judge",)
    assert chosen(five, "vote")[0] == ()
    groups, notes = chosen(few.drop(columns="prompt_id"))
    assert groups == ()
    assert "Votes by the same person are treated as independent (7 judges)" in notes[0]
    assert "(who voted is not known)" in chosen(five[["model_a", "model_b", "winner"]])[1][0]


def test_few_clusters_are_said(five):
    notes = " ".join(chosen(five)[1])
    assert "Only 40 judges" in notes
    assert "Only 30 prompts" in notes
    assert "they speak of these prompts" in chosen(five, "judge")[1][0]
    assert "they speak of these judges" in chosen(five, "prompt")[1][0]


def test_clusters_are_resampled_whole(five):
    """The counts trick is the same as drawing clusters of rows one by one (here: each judge votes alike)."""
    frame = five.assign(
        winner=np.where(five["judge"].map(lambda j: int(j[1:]) % 3 > 0), five["winner"], "tie")
    )
    boot = draw(frame, rounds=4000, cluster="judge", seed=3)
    rng, groups = np.random.default_rng(4), [rows for _, rows in frame.groupby("judge")]
    rounds = []
    for _ in range(300):
        votes = read_votes(pd.concat([groups[i] for i in rng.integers(0, len(groups), len(groups))]))
        rounds.append(fit_bradley_terry(count(votes)).log_strength)
    np.testing.assert_allclose(boot.draws.std(axis=0), np.std(rounds, axis=0), rtol=0.15)
    np.testing.assert_allclose(boot.draws.mean(axis=0), np.mean(rounds, axis=0), atol=0.02)


def test_people_who_differ_widen_the_intervals_of_judges_only(simulated):
    frame = simulated({"a": 1050, "b": 1000, "c": 950}, 3000, judges=60, judge_sd=150)
    by_judge, by_vote = draw(frame, cluster="judge", rounds=500), draw(frame, cluster="vote", rounds=500)
    assert (by_judge.draws.std(axis=0) > 1.4 * by_vote.draws.std(axis=0)).all()


def test_intervals_cover_planted_strengths(simulated):
    """60 small studies with judges who differ: intervals by judge hold the truth, those by vote do not."""
    planted = np.array([40.0, 0, -40]) * np.log(10) / 400
    covered = {"judge": 0, "vote": 0}
    for seed in range(60):
        frame = simulated({"a": 1040, "b": 1000, "c": 960}, 1500, judges=50, judge_sd=100, ties=0, seed=seed)
        # The marginal strengths that the votes tell of are shrunk by the spread between judges.
        shrink = 1 / np.sqrt(1 + np.pi / 8 * 2 * (100 * np.log(10) / 400) ** 2)
        for cluster in covered:
            low, high = percentile_intervals(draw(frame, rounds=200, cluster=cluster, seed=seed).draws)
            covered[cluster] += ((low <= planted * shrink) & (planted * shrink <= high)).sum()
    assert covered["judge"] / 180 > 0.88
    assert covered["vote"] / 180 < 0.85


def test_seed_decides(five):
    same = draw(five, rounds=50, seed=1).draws, draw(five, rounds=50, seed=1).draws
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], draw(five, rounds=50, seed=2).draws)


def test_unknown_judges_are_clusters_of_their_own(five):
    five.loc[:99, "judge"] = None
    assert draw(five, rounds=5, cluster="judge").clusters == 140


def test_settings_that_do_not_fit(five):
    with pytest.raises(SettingsError, match="does not say the judge"):
        chosen(five.drop(columns="judge"), "judge")
    with pytest.raises(SettingsError, match="share one prompt; two are needed"):
        chosen(five.assign(prompt_id="same"), "both")
    with pytest.raises(SettingsError, match="cluster 'all': expected one of auto, vote, judge, prompt, both"):
        chosen(five, "all")


def test_probability_best_shares_ties():
    draws = np.array([[2.0, 1, 0], [1, 2, 0], [2, 2, 0], [3, 1, 0]])
    assert probability_best(draws).tolist() == [0.625, 0.375, 0]


@pytest.mark.parametrize("model", ["davidson", "rao-kupper"])
def test_rounds_of_tie_models_are_each_fit_alone(five, model):
    """Every round fits as it does alone, and NaN stands where it has no maximum alone."""
    for frame in (five, five[:25]):
        counts = count(read_votes(frame))
        like = fit(counts, model)
        rng = np.random.default_rng(0)
        used = counts.number.ravel() / counts.total
        rounds = rng.multinomial(round(counts.total), used, size=12).reshape(12, 3, 5, 5)
        for row, number in zip(fit_rounds(rounds.astype(float), like), rounds, strict=True):
            try:
                alone = fit(Counts(counts.names, number.astype(float)), model)
            except NoMaximum:
                assert np.isnan(row).all()
            else:
                if number[2].any():
                    np.testing.assert_allclose(row, alone.log_strength, atol=1e-8)
                else:
                    assert np.isnan(row).all()


def test_rounds_without_maximum_are_nan_and_no_draws_no_interval(five):
    like = fit_bradley_terry(count(read_votes(five)))
    assert np.isnan(fit_rounds(np.zeros((3, 3, 5, 5)), like)).all()
    assert np.isnan(percentile_intervals(np.empty((0, 3)))).all()
