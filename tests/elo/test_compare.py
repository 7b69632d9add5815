import json

import numpy as np
import pandas as pd
import pytest

from elo.compare import compare, to_terminal
from elo.errors import SettingsError
from elo.votes import read_votes

TRUE = {"fp16": 1060, "w8a8": 1050, "qsched": 1030, "w4a8": 980}


def test_the_same_dump_has_not_changed(five):
    found = compare(read_votes(five), read_votes(five), bootstrap=50)
    np.testing.assert_allclose(found.difference, 0, atol=1e-9)
    assert found.overall_p == 1
    assert (found.p == 1).all()
    assert found.verdict() == ["No rating changed beyond chance (p = 1 for all together)."]


def test_a_method_that_joins_moves_nobody(simulated):
    before = simulated(TRUE, 2000)
    joined = simulated({**TRUE, "giant": 1600}, 2000, seed=5)
    both = pd.concat([before, joined[(joined["model_a"] == "giant") | (joined["model_b"] == "giant")]])
    found = compare(read_votes(before), read_votes(both), bootstrap=200)
    assert (found.added, found.removed) == (("giant",), ())
    assert np.abs(found.difference).max() < 30
    assert found.p.min() > 0.05


def test_a_change_is_found_and_named(simulated):
    before = read_votes(simulated(TRUE, 3000))
    after = read_votes(simulated({**TRUE, "w4a8": 1090}, 3000, seed=7))
    found = compare(before, after, bootstrap=300)
    moved = dict(zip(found.names, found.difference, strict=True))
    assert moved["w4a8"] > 50
    assert found.overall_p < 1e-6
    assert "Changed beyond chance" in found.verdict()[0]
    assert "w4a8" in found.verdict()[0]
    text = to_terminal(found)
    assert "→" in text
    assert "judges, the same in both" in text
    document = json.loads(json.dumps(found.record(), allow_nan=False))
    assert {row["method"] for row in document["methods"]} == set(TRUE)


def test_what_is_in_both_cancels(simulated):
    """100 votes more on 3000 can change little, and the interval knows; two dumps of 3000 know less."""
    votes = simulated(TRUE, 6000).drop(columns=["judge", "prompt_id"])
    little = compare(read_votes(votes[:3000]), read_votes(votes[:3100]), bootstrap=200)
    apart = compare(read_votes(votes[:3000]), read_votes(votes[3000:]), bootstrap=200)
    assert little.drawn == "votes, the old ones the same in both"
    assert apart.drawn == "votes, both dumps taken as independent"
    assert (little.high - little.low).max() < 0.5 * (apart.high - apart.low).min()


@pytest.mark.parametrize("drop", [[], ["judge"]])
def test_chance_is_called_a_change_in_5_percent(simulated, drop):
    called = 0
    for seed in range(40):
        votes = (
            simulated(TRUE, 1600, judges=80, judge_sd=60, seed=seed)
            if not drop
            else simulated(TRUE, 1600, seed=seed)
        )
        early, late = votes[:800], votes[800:]
        if not drop:  # other people each time, so that the dumps are two samples of people
            early = votes[votes["judge"].isin([f"j{i}" for i in range(40)])]
            late = votes[~votes["judge"].isin([f"j{i}" for i in range(40)])]
        found = compare(
            read_votes(early.drop(columns=drop)), read_votes(late.drop(columns=drop)), bootstrap=60
        )
        called += found.p.min() < 0.05
    assert called <= 7  # 40 × 5 % = 2; P(more than 7) < 0.002


def test_no_answer_is_said(simulated, golden, five):
    with pytest.raises(SettingsError, match="fewer than two methods in common"):
        compare(read_votes(golden("tiny")[1]), read_votes(five))
    with pytest.raises(SettingsError, match=r"no ratings to compare.*burger never won"):
        compare(read_votes(golden("tiny")[1]), read_votes(golden("tiny")[1]))
