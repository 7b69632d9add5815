import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import elo
from elo.cli import cli
from elo.counts import count
from elo.paired import fit_bradley_terry
from elo.stability import stability, to_terminal
from elo.votes import read_votes


def theta_of(frame):
    fitted = fit_bradley_terry(count(read_votes(frame)))
    return dict(zip(fitted.names, fitted.log_strength, strict=True))


def test_every_judge_left_out_by_hand(five):
    """Who moves what most, and who turns a claim alone, by reading the votes without each judge."""
    five = five[:200]
    found = stability(read_votes(five))
    whole = theta_of(five)
    without = {judge: theta_of(five[five["judge"] != judge]) for judge in five["judge"].unique()}
    points = 400 / np.log(10)
    for name, mover, change in zip(found.names, found.mover, found.change, strict=True):
        moves = {judge: points * (theta[name] - whole[name]) for judge, theta in without.items()}
        assert change == pytest.approx(max(moves.values(), key=abs), abs=1e-6)
        assert change == pytest.approx(moves[mover], abs=1e-6)
    assert list(found.names) == sorted(whole, key=lambda name: -whole[name])
    for flip, gap, turned in zip(found.claims, found.gap, found.turned, strict=True):
        assert gap == pytest.approx(points * (whole[flip.better] - whole[flip.worse]))
        alone = {judge for judge, theta in without.items() if theta[flip.better] <= theta[flip.worse]}
        assert set(turned) == alone
    assert any(found.turned), "the case must have a judge who turns a claim"
    assert found.judges == five["judge"].nunique()


def test_two_methods_in_any_order_and_models(five):
    one, two = (
        stability(read_votes(five), pair, method="davidson", side=True)
        for pair in (("w4a4", "fp16"), ("fp16", "w4a4"))
    )
    assert one.claims == two.claims
    (flip,) = one.claims
    assert (flip.better, flip.worse, flip.confirmed) == ("fp16", "w4a4", True)
    assert "davidson, with a side effect, prior 0" in to_terminal(one)


def test_a_lead_of_one_vote_is_called_fragile():
    frame = pd.DataFrame({"left": "x", "right": "y", "winner": ["left"] * 101 + ["right"] * 100})
    found = stability(read_votes(frame))
    assert found.claims[0].votes == 1
    assert found.judges is None
    assert found.verdict()[:2] == [
        "x above y is fragile: leaving out 1 of 201 votes turns it.",
        "These votes do not say who voted, so no judge could be left out.",
    ]


def test_a_judge_without_whom_nothing_can_be_said_is_named():
    rows = [("x", "y", "left", "ann"), ("y", "x", "left", "bob"), ("x", "y", "left", "cyd")]
    frame = pd.DataFrame([*rows, *rows], columns=["left", "right", "winner", "judge"])
    found = stability(read_votes(frame))
    assert found.lost == ("bob",)
    assert "There are no finite ratings without bob." in found.verdict()
    assert found.turned == (("ann", "cyd"),)  # who leave one win each


def test_what_does_not_fit_is_said(five, golden):
    votes = read_votes(five)
    for arguments, message in [
        ((votes, ("fp16", "fp8")), "method 'fp8': no votes on it"),
        ((votes, ("fp16", "fp16")), "expected two methods"),
        ((read_votes(golden("tiny")[1]),), "no ratings to look at.*burger"),
    ]:
        with pytest.raises(elo.SettingsError, match=message):
            stability(*arguments)
    with pytest.raises(elo.SettingsError, match="only fitted ratings"):
        stability(votes, method="elo")


def test_command(five, tmp_path):
    path = str(tmp_path / "votes.csv")
    five.to_csv(path, index=False)
    result = CliRunner().invoke(cli, ["robustness", path])
    assert result.exit_code == 0, result.output
    for word in ("votes that turn it", "most moved by, of 40 judges", "A smaller set may exist."):
        assert word in " ".join(result.stdout.split())
    document = json.loads(CliRunner().invoke(cli, ["robustness", path, "--json"]).stdout)
    assert len(document["claims"]) == 4
    for claim in document["claims"]:
        assert claim["confirmed"]
        assert claim["share"] == pytest.approx(claim["votes"] / 800)
    assert {row["method"] for row in document["methods"]} == {"fp16", "w8a8", "qsched", "w4a8", "w4a4"}
    one = json.loads(CliRunner().invoke(cli, ["robustness", path, "w4a4", "fp16", "--json"]).stdout)
    assert [(claim["better"], claim["worse"]) for claim in one["claims"]] == [("fp16", "w4a4")]
    refused = CliRunner().invoke(cli, ["robustness", path, "fp16"])
    assert (refused.exit_code, refused.stderr) == (2, "Error: fp16: expected two methods, or none\n")
