import numpy as np
import pandas as pd
import pytest

import elo
from elo.online import sequential_elo
from elo.tables import COLUMNS, compute_by

DESIGN = "rank method rating ci_low ci_high votes wins losses ties win_rate elo size_gb"


def test_columns_are_those_of_the_design(five):
    table = elo.compute(elo.read_votes(five), bootstrap=50)
    assert tuple(table.ratings.columns) == COLUMNS == tuple(DESIGN.split())


def test_golden(golden):
    case, frame = golden("quant")
    votes = elo.read_votes(frame)
    table = elo.compute(votes, bootstrap=200)
    by_method = table.ratings.set_index("method")
    expected = case["bradley_terry_ties_half"]["elo_scale_mean1000"]
    for name, rating in expected.items():
        assert by_method.loc[name, "rating"] == pytest.approx(rating, abs=1e-6)
    sequential = case["elo_in_listed_order"]["values"]["K=32, initial=1000, scale=400"]
    for name, rating in sequential.items():
        assert by_method.loc[name, "elo"] == pytest.approx(rating, abs=1e-8)
    assert by_method.index.tolist() == ["W8A8", "FP16", "W4A8", "W4A5"]
    assert by_method["rank"].tolist() == [1, 2, 3, 4]
    fp16 = by_method.loc["FP16"]
    assert (fp16["votes"], fp16["wins"], fp16["losses"], fp16["ties"]) == (90, 41, 34, 15)
    assert fp16["win_rate"] == pytest.approx((41 + 7.5) / 90)
    assert (table.ratings["ci_low"] < table.ratings["rating"]).all()
    assert (table.ratings["rating"] < table.ratings["ci_high"]).all()
    assert table.draws.shape == (200, 4)
    np.testing.assert_allclose(np.median(table.draws, axis=0), table.ratings["rating"], atol=12)


def test_settings_say_all_it_takes(five):
    five["kind"] = ["main"] * 790 + ["gold"] * 10
    table = elo.compute(elo.read_votes(five), k=16, base=1500, scale=200, bootstrap=60, seed=7)
    assert table.settings == {
        "method": "bradley-terry",
        "ties": "half a win for each side",
        "tie_parameter": None,
        "side": False,
        "side_effect": None,
        "prior": 0,
        "k": 16,
        "base": 1500,
        "scale": 200,
        "anchor": None,
        "interval": "95 % sandwich",
        "cluster": "both",
        "clusters": {"judge": 40, "prompt": 30},
        "resampled": table.settings["resampled"],
        "design_effect": table.settings["design_effect"],
        "rounds": 60,
        "rounds_without_maximum": 0,
        "seed": 7,
        "n": 790,
        "judges": 40,
        "prompts": 30,
        "question": None,
        "order": "tstamp",
        "left_out": {"kind=gold": 10},
        "source": "DataFrame",
    }
    assert table.ratings["rating"].mean() == pytest.approx(1500)


def test_planted_order_is_found(simulated):
    planted = {"a": 1200, "b": 1100, "c": 1000, "d": 900, "e": 800}
    table = elo.compute(elo.read_votes(simulated(planted, 20_000, ties=0, seed=5)), bootstrap=100)
    assert table.ratings["method"].tolist() == list(planted)
    np.testing.assert_allclose(table.ratings["rating"], list(planted.values()), atol=25)
    assert table.rank_ranges() == [(i, i) for i in range(1, 6)]


def test_anchor_fixes_one_method_and_makes_intervals_of_differences(five):
    votes = elo.read_votes(five)
    free, anchored = (
        elo.compute(votes, bootstrap=100),
        elo.compute(votes, bootstrap=100, anchor={"fp16": 1000}),
    )
    rows = anchored.ratings.set_index("method")
    assert rows.loc["fp16", ["rating", "ci_low", "ci_high"]].tolist() == pytest.approx([1000] * 3)
    assert rows.loc["fp16", "elo"] == pytest.approx(1000)
    free_rating = free.ratings.set_index("method")["rating"]
    gaps = rows["rating"] - (free_rating - free_rating["fp16"] + 1000).reindex(rows.index)
    assert gaps.abs().max() < 1e-9
    assert "Intervals are of differences to fp16, which stands at 1000 by choice." in anchored.notes


def test_without_a_maximum_counts_and_elo_stand_and_notes_say_why(golden):
    _, frame = golden("tiny")
    votes = elo.read_votes(frame)
    table = elo.compute(votes)
    assert table.ratings[["rank", "rating", "ci_low", "ci_high"]].isna().all(axis=None)
    assert table.ratings["method"].tolist() == ["pizza", "sushi", "burger"]
    assert table.ratings["win_rate"].tolist() == [0.75, 0.75, 0]
    np.testing.assert_allclose(table.ratings["elo"], sequential_elo(votes).ratings[[1, 2, 0]])
    assert any("burger never won or tied" in note for note in table.notes)
    assert table.settings["interval"] is None
    assert table.rank_ranges() is None


def test_equal_methods_share_a_rank_and_ranks_are_not_oversold():
    rows = [
        ("x", "y", "tie"),
        ("y", "x", "tie"),
        ("x", "z", "left"),
        ("y", "z", "left"),
        ("z", "x", "left"),
        ("z", "y", "left"),
    ]
    frame = pd.DataFrame(
        [*rows, ("x", "z", "left"), ("y", "z", "left")] * 30, columns=["left", "right", "winner"]
    )
    table = elo.compute(elo.read_votes(frame), bootstrap=300)
    assert table.ratings["rank"].tolist() == [1, 1, 3]
    assert any(note.startswith("Ranks these votes leave open at 95 %: x 1–2, y 1–2") for note in table.notes)


def test_the_chance_to_be_best_is_counted_over_the_draws(five):
    table = elo.compute(elo.read_votes(five), bootstrap=200)
    winners = [table.ratings["method"][i] for i in table.draws.argmax(axis=1)]
    chance = {name: winners.count(name) / 200 for name in table.ratings["method"]}
    assert dict(zip(table.ratings["method"], table.probability_best(), strict=True)) == pytest.approx(chance)
    (note,) = [note for note in table.notes if note.startswith("Chance to be best")]
    told = [f"{name} {100 * c:.0f} %" for name, c in sorted(chance.items(), key=lambda item: -item[1]) if c]
    assert note == f"Chance to be best, by the bootstrap: {', '.join(told)}."


def test_unknown_settings_are_refused(five):
    with pytest.raises(TypeError, match="rounds"):
        elo.compute(elo.read_votes(five), rounds=3)


def test_method_elo_has_no_interval_and_says_so(five):
    votes = elo.read_votes(five)
    table = elo.compute(votes, method="elo")
    np.testing.assert_array_equal(table.ratings["rating"], table.ratings["elo"])
    assert table.ratings["ci_low"].isna().all()
    assert "depends on the order" in table.notes[0]


def test_without_bootstrap_intervals_stand_and_draws_are_none(five):
    votes = elo.read_votes(five)
    with_draws, without = elo.compute(votes, bootstrap=20), elo.compute(votes, bootstrap=0)
    np.testing.assert_array_equal(without.ratings["ci_low"], with_draws.ratings["ci_low"])
    assert without.draws.shape == (0, 5)
    assert without.probability_best() is None
    assert without.settings["rounds"] == 0


def test_sizes(five, sizes):
    del sizes["w8a8"]
    table = elo.compute(elo.read_votes(five), bootstrap=0, sizes=sizes)
    assert table.ratings.set_index("method")["size_gb"].loc["fp16"] == 5.14
    assert "No size is known for w8a8." in table.notes


@pytest.mark.parametrize(
    "options,message",
    [
        ({"method": "glicko"}, "method 'glicko': expected one of bradley-terry, davidson, rao-kupper, elo"),
        ({"prior": -1}, "prior -1: expected a number of votes"),
        ({"k": 0}, "k 0: expected a number above 0"),
        ({"scale": float("nan")}, "scale nan"),
        ({"base": float("inf")}, "base inf"),
        ({"bootstrap": -1}, "bootstrap -1"),
        ({"seed": -1}, "seed -1"),
        ({"cluster": "all"}, "cluster 'all'"),
        ({"anchor": {"fp8": 1000}}, "anchor 'fp8': no votes on it; there are fp16, qsched"),
        ({"anchor": {"fp16": 1000, "w4a4": 900}}, "expected one method and its rating"),
        ({"anchor": {"fp16": float("nan")}}, "expected a finite rating"),
        ({"sizes": {"other": 3}}, "none of other was voted on"),
    ],
)
def test_settings_that_do_not_fit(five, options, message):
    with pytest.raises(elo.SettingsError) as caught:
        elo.compute(elo.read_votes(five), **options)
    assert message in str(caught.value)


def test_by_category_is_each_category_alone(five):
    five["category"] = np.where(np.arange(800) % 3 == 0, "people", "places")
    tables = compute_by(elo.read_votes(five), bootstrap=0)
    assert list(tables) == ["people", "places"]
    alone = elo.compute(elo.read_votes(five[five["category"] == "people"]), bootstrap=0)
    pd.testing.assert_frame_equal(tables["people"].ratings, alone.ratings)
    assert tables["people"].settings["left_out"] == {"category other than people": 533}
    with pytest.raises(elo.SettingsError, match="does not say the category"):
        compute_by(elo.read_votes(five.drop(columns="category")))


def test_tie_models_and_prior_are_told(golden, five):
    table = elo.compute(elo.read_votes(golden("quant")[1]), method="davidson", bootstrap=20)
    assert table.settings["tie_parameter"] == pytest.approx(0.4943553668, abs=1e-9)
    assert table.settings["ties"] == "an outcome of its own (Davidson)"
    tiny = elo.compute(elo.read_votes(golden("tiny")[1]), prior=0.5, bootstrap=0)
    assert tiny.ratings["rating"].notna().all()
    assert any("A prior of 0.5 votes on every pair that met" in note for note in tiny.notes)


def test_intervals_of_differences_to_the_anchor_are_of_the_pair(five):
    table = elo.compute(elo.read_votes(five), bootstrap=0, anchor={"fp16": 1000})
    rows = table.ratings.set_index("method")
    pairs = table.win_rates().set_index(["method_a", "method_b"])
    width = rows.loc["qsched", "ci_high"] - rows.loc["qsched", "ci_low"]
    error = pairs.loc[("fp16", "qsched"), "error"]
    assert width / error == pytest.approx(2 * 2.045, abs=0.01)  # Student's t, 30 prompts
