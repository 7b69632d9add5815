import numpy as np
import pandas as pd
import pytest

from elo.counts import count
from elo.errors import SettingsError
from elo.intervals import bootstrap, percentile_intervals, rank_ranges
from elo.paired import fit_bradley_terry, fit_rounds
from elo.votes import read_votes


def draw(frame, **options):
    votes = read_votes(frame)
    return bootstrap(votes, fit_bradley_terry(count(votes)).log_strength, **options)


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
    assert any("no finite maximum" in note for note in boot.notes) == (boot.no_maximum > 0)


def test_auto_takes_judges_then_prompts_then_votes(five):
    options = {"rounds": 20}
    assert (draw(five, **options).cluster, draw(five, **options).clusters) == ("judge", 40)
    few = five.assign(judge=five["judge"].map(lambda j: int(j[1:]) % 7))
    assert draw(few, **options).cluster == "prompt"
    boot = draw(few.drop(columns="prompt_id"), **options)
    assert (boot.cluster, boot.clusters) == ("vote", 800)
    assert "Votes by the same person are treated as independent (7 judges)" in boot.notes[0]
    assert "(who voted is not known)" in draw(five[["model_a", "model_b", "winner"]], **options).notes[0]
    assert any("Only 40 judges" in note for note in draw(five, **options).notes)


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
        draw(five.drop(columns="judge"), cluster="judge")
    with pytest.raises(SettingsError, match="share one prompt; two are needed"):
        draw(five.assign(prompt_id="same"), cluster="prompt")
    with pytest.raises(SettingsError, match="cluster 'both': expected one of auto, vote, judge, prompt"):
        draw(five, cluster="both")


def test_rank_ranges_tell_what_is_open():
    rng = np.random.default_rng(0)
    draws = np.column_stack([rng.normal(10, 1, 999), rng.normal(0, 1, 999), rng.normal(0, 1, 999)])
    low, high = rank_ranges(draws)
    assert (low.tolist(), high.tolist()) == ([1, 2, 2], [1, 3, 3])


def test_rounds_without_maximum_are_nan_and_no_draws_no_interval():
    assert np.isnan(fit_rounds(np.zeros((3, 2, 2)), np.zeros(2))).all()
    assert np.isnan(percentile_intervals(np.empty((0, 3)))).all()
