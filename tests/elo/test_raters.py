import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import elo
from elo.agreement import krippendorff_alpha
from elo.answers import read_answers
from elo.cli import cli
from elo.raters import binomial_p, outlier_scores, raters, to_terminal

TMO = Path(__file__).parents[3] / "shared" / "votes" / "tmo-video.csv"

# "Computing Krippendorff's Alpha-Reliability" (2011): examples B (no missing data) and C (some missing).
TWO_OBSERVERS = """a a b b d c c c e d d a
b a b b b c c c e d d d"""
FOUR_OBSERVERS = """1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""


@pytest.mark.parametrize("text,published", [(TWO_OBSERVERS, 0.692), (FOUR_OBSERVERS, 0.743)])
def test_alpha_published(text, published):
    cells = [
        (unit, ord(answer))
        for line in text.splitlines()
        for unit, answer in enumerate(line.split())
        if answer != "."
    ]
    assert krippendorff_alpha(*zip(*cells, strict=True)) == pytest.approx(published, abs=5e-4)


def test_alpha_where_nothing_can_be_compared():
    assert np.isnan(krippendorff_alpha([0, 1, 2], [0, 1, 0]))
    assert np.isnan(krippendorff_alpha([], []))
    assert krippendorff_alpha([0, 0, 1, 1], [0, 0, 1, 1]) == 1


def test_exact_binomial():
    # 2 (1 + 10 + 45) / 1024
    assert binomial_p(np.array([2, 8, 5, 0]), np.array([10, 10, 10, 0]))[:3] == pytest.approx(
        [112 / 1024, 112 / 1024, 1]
    )
    assert np.isnan(binomial_p(np.array([0]), np.array([0]))[0])


def test_outlier_scores():
    scores = outlier_scores(np.array([-0.5, -0.5, -0.6, -0.6, -1.2]))
    np.testing.assert_allclose(scores, [0, 0, 0, 0, 6])


@pytest.mark.skipif(not TMO.exists(), reason="no real votes at hand (they may not be redistributed)")
def test_exactly_two_observers_of_tmo_video_stand_out():
    found = raters(elo.read_votes(TMO, column_map={"prompt_id": "group"}))
    assert len(found.table) == 18
    assert found.standing_out() == ["bab", "M02"]
    assert found.settings["fitted"] == "each prompt by itself"


@pytest.fixture
def odd(simulated):
    """40 judges: j1 answers at random, j2 always left; j3 answers again, and has control questions."""
    frame = simulated({"a": 1300, "b": 1000, "c": 700}, 2400, seed=3)
    rng = np.random.default_rng(0)
    frame["rt_ms"] = 2000
    frame.loc[frame["judge"] == "j1", "rt_ms"] = 300
    one, two = frame["judge"] == "j1", frame["judge"] == "j2"
    frame.loc[one, "winner"] = rng.choice(["model_a", "model_b"], one.sum())
    frame.loc[two, "winner"] = "model_a"
    frame["kind"], frame["trial_id"], frame["repeat_of"], frame["expected"] = "main", "", None, None
    frame["trial_id"] = [f"t{i}" for i in range(len(frame))]
    three = frame[frame["judge"] == "j3"].iloc[:4].copy()
    swapped = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
    again = three.assign(
        kind="repeat",
        repeat_of=three["trial_id"],
        trial_id=[f"r{i}" for i in range(4)],
        model_a=three["model_b"],
        model_b=three["model_a"],
        winner=[*three["winner"].iloc[:3].map(swapped), "tie"],
    )
    again.loc[again.index[3], "winner"] = (
        three["winner"].iloc[3] if three["winner"].iloc[3] != "tie" else "model_a"
    )
    gold = three.iloc[:2].assign(kind="gold", winner=["model_a", "model_b"], expected="model_a", trial_id="g")
    return pd.concat([frame, again, gold], ignore_index=True)


def test_who_stands_out_and_why(odd):
    found = raters(elo.read_votes(odd), read_answers(odd))
    rows = found.table.set_index("judge")
    assert set(found.standing_out()) >= {"j1", "j2"}
    assert rows.loc["j1", "median_s"] == 0.3
    assert rows.loc["j2", "left"] == 1
    assert rows.loc["j2", "left_p"] < 1e-6
    assert (rows.loc["j3", "repeats"], rows.loc["j3", "repeats_same"]) == (4, 0.75)
    assert (rows.loc["j3", "golds"], rows.loc["j3", "golds_right"]) == (2, 0.5)
    assert rows["votes"].sum() == 2400
    assert any(note.startswith("j2: prefer one side") for note in found.notes)
    assert 0 < found.alpha < 1
    document = json.loads(json.dumps(found.record(), allow_nan=False))
    assert document["raters"][0]["judge"] in {"j1", "j2"}
    assert "Krippendorff's alpha" in to_terminal(found)


def test_what_cannot_be_judged_is_said(odd):
    def notes(frame):
        return " ".join(raters(elo.read_votes(frame), read_answers(frame)).notes)

    assert "could not be judged" not in notes(odd)
    unknown = odd.drop(columns="expected")
    assert "2 of 2 control questions could not be judged: there is no column expected." in notes(unknown)
    odd.loc[odd.index[-1], "expected"] = None
    assert "1 of 2 control questions could not be judged: no right answer is known." in notes(odd)
    assert raters(elo.read_votes(odd), read_answers(odd)).table["golds"].sum() == 1
    odd.loc[odd["kind"] == "repeat", "repeat_of"] = [None, "t-lost", "t-lost", None]
    assert "4 of 4 repeats could not be judged" in notes(odd)
    assert "No speed" in notes(odd.drop(columns="rt_ms"))
    counted = odd.assign(left_votes=1, right_votes=2).drop(columns="winner")
    assert "do not stand one by one" in notes(counted)


def test_answers_to_another_question_are_not_mixed_in(odd):
    other = odd.assign(question="match", rt_ms=90_000)
    both = pd.concat([odd.assign(question="quality"), other])
    alone = raters(elo.read_votes(odd), read_answers(odd)).table
    asked = raters(elo.read_votes(both, question="quality"), read_answers(both, question="quality")).table
    pd.testing.assert_frame_equal(asked, alone)


def test_commands(odd, tmp_path):
    path = tmp_path / "votes.csv"
    odd.to_csv(path, index=False)
    result = CliRunner().invoke(cli, ["raters", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["raters"]) == 40
    assert "outlier" in CliRunner().invoke(cli, ["raters", str(path)]).stdout
    odd.loc[3, "winner"] = "neither"
    odd.to_csv(path, index=False)
    assert CliRunner().invoke(cli, ["raters", str(path)]).exit_code == 2
    skipped = json.loads(
        CliRunner().invoke(cli, ["raters", str(path), "--on-error", "skip", "--json"]).stdout
    )
    assert skipped["settings"]["left_out"]["unreadable winner"] == 1
    odd.drop(columns="judge").drop(index=3).to_csv(path, index=False)
    refused = CliRunner().invoke(cli, ["raters", str(path)])
    assert refused.exit_code == 2
    assert "does not say the judge" in refused.stderr


def test_plan_command():
    result = CliRunner().invoke(cli, ["plan", "--gap", "30", "--json"])
    assert json.loads(result.stdout)["votes"] == 1056
    assert "1056 votes on each pair" in CliRunner().invoke(cli, ["plan", "--gap", "30"]).stdout
    refused = CliRunner().invoke(cli, ["plan"])
    assert refused.exit_code == 2
    assert "give two of" in refused.stderr
    for command in ("raters", "plan"):
        shown = CliRunner().invoke(cli, [command, "--help"]).stdout
        assert f"elo {command} " in shown.split("Example:")[1]
