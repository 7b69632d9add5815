import json

import numpy as np
import pytest
from click.testing import CliRunner

import elo
from elo.anytime import bet, compare_anytime
from elo.cli import cli


def test_capital_is_the_plain_product():
    x = np.array([1.0, 0.5, 0, 1, 1, 0.25])
    found = bet(x)
    up = down = 1.0
    seen = []
    for t, score in enumerate(x, start=1):
        mean = [(0.5 + sum(seen[:k])) / (k + 1) for k in range(1, t)]
        variance = (0.25 + sum((s - m) ** 2 for s, m in zip(seen, mean, strict=True))) / t
        stake = min(np.sqrt(2 * np.log(2 / 0.05) / (variance * t * np.log(1 + t))), 1)
        up *= 1 + stake * (score - 0.5)
        down *= 1 - stake * (score - 0.5)
        seen.append(score)
        assert found.e_values[t - 1] == pytest.approx((up + down) / 2)


def test_peeking_after_every_judge_stays_below_5_percent():
    """400 studies of 120 judges without a difference, looked at after each judge."""
    rng = np.random.default_rng(0)
    false = outside = 0
    for _ in range(400):
        taste = rng.beta(2, 2, 120)
        found = bet(rng.binomial(4, taste) / 4)
        false += found.e_values.max() >= 20
        outside += bool(((found.low > 0.5) | (found.high < 0.5)).any())
    assert false / 400 <= 0.05
    assert outside == false


def test_a_difference_is_found_and_the_sequence_narrows():
    rng = np.random.default_rng(1)
    found = bet(rng.binomial(5, 0.65, 150) / 5)
    assert found.p < 0.01
    assert found.low[-1] < 0.65 < found.high[-1]
    assert (np.diff(found.low) >= 0).all()
    assert found.low[-1] > 0.5


def test_judges_not_votes_are_the_bets(five):
    votes = elo.read_votes(five)
    found = compare_anytime(votes, "fp16", "w4a4")
    mirrored = compare_anytime(votes, "w4a4", "fp16")
    pair = five[five["model_a"].isin(["fp16", "w4a4"]) & five["model_b"].isin(["fp16", "w4a4"])]
    assert len(found.scores) == pair["judge"].nunique()
    np.testing.assert_allclose(found.scores, 1 - mirrored.scores)
    np.testing.assert_allclose(found.e_values, mirrored.e_values)
    ten = pair[pair["judge"] == pair["judge"].iloc[-1]]
    won = np.where(ten["winner"].eq("tie"), 0.5, ten["winner"].eq("model_a") == ten["model_a"].eq("fp16"))
    assert found.scores[-1] == pytest.approx(won.mean())
    with pytest.raises(elo.SettingsError, match="no votes on it"):
        compare_anytime(votes, "fp16", "fp8")


def test_command(five, tmp_path):
    path = str(tmp_path / "votes.csv")
    five.to_csv(path, index=False)
    found = compare_anytime(elo.read_votes(five), "fp16", "w4a4")
    document = json.loads(CliRunner().invoke(cli, ["anytime", path, "fp16", "w4a4", "--json"]).stdout)
    assert (document["judges"], document["votes"]) == (len(found.scores), found.votes)
    assert document["e_value"] == pytest.approx(found.e_values[-1])
    assert (document["low"], document["high"]) == (found.low[-1], found.high[-1])
    assert document["may_stop"] == (max(step["e_value"] for step in document["steps"]) >= 20)
    result = CliRunner().invoke(cli, ["anytime", path, "fp16", "w4a4", "--alpha", "0.001"])
    assert result.exit_code == 0, result.output
    assert "No claim yet: it takes e = 1000." in result.stdout
    easy = CliRunner().invoke(cli, ["anytime", path, "w4a4", "fp16", "--alpha", "0.3"]).stdout
    assert "You may stop: fp16 is preferred" in easy
    for arguments, message in [
        (["fp16", "fp8"], "method 'fp8': no votes on it"),
        (["fp16", "fp16"], "nobody compared fp16 with fp16"),
        (["fp16", "w4a4", "--alpha", "2"], "alpha 2.0: expected a share"),
    ]:
        refused = CliRunner().invoke(cli, ["anytime", path, *arguments])
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_stopping_is_what_the_sequence_says_too():
    rng = np.random.default_rng(2)
    for share in (0.5, 0.7, 0.2):
        found = bet(rng.binomial(4, share, 100) / 4)
        excluded = bool(((found.low > 0.5) | (found.high < 0.5)).any())
        assert found.may_stop == excluded == (found.e_values.max() >= 20)
