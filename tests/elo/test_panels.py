import numpy as np
import pandas as pd
import pytest

import elo
from elo.counts import count
from elo.panels import base_model, components, split_counts
from elo.plots import pareto_panels, pareto_record
from elo.votes import read_votes


@pytest.fixture
def two(simulated):
    """Votes on two base models that were never compared with one another."""
    sdxl = simulated({"sdxl/fp16": 1030, "sdxl/w8a8": 1010, "sdxl/w4a8": 960}, 500)
    flux = simulated({"flux/bf16": 1010, "flux/w4a4": 990}, 300, seed=1)
    return pd.concat([sdxl, flux]).sample(frac=1, random_state=0)


def test_components_are_the_votes_of_each_alone(two):
    flux, sdxl = components(read_votes(two))
    for part, base in ((flux, "flux"), (sdxl, "sdxl")):
        alone = read_votes(two[two["model_a"].str.startswith(base)])
        assert part.names == alone.names
        for field in ("a", "b", "winner"):
            np.testing.assert_array_equal(getattr(part, field), getattr(alone, field))
        there, here = elo.compute(part, bootstrap=0), elo.compute(alone, bootstrap=0)
        pd.testing.assert_frame_equal(there.ratings, here.ratings)
        others = {"methods of another panel": len(two) - len(alone)}
        effect = pytest.approx(here.settings["design_effect"])
        assert there.settings == {**here.settings, "left_out": others, "design_effect": effect}
    for counts, part in zip(split_counts(count(read_votes(two))), (flux, sdxl), strict=True):
        assert counts.names == part.names
        np.testing.assert_array_equal(counts.number, count(part).number)


def test_one_group_is_returned_as_it_is(five):
    votes = read_votes(five)
    assert components(votes) == [votes]


def test_base_models():
    assert base_model(["a/x", "a/y"]) == ("a", ["x", "y"])
    assert base_model(["a/x", "b/y"]) == ("", ["a/x", "b/y"])
    assert base_model(["x", "y"]) == ("", ["x", "y"])


def test_panels_and_their_numbers(two):
    costs = {"sdxl/fp16": 5e9, "sdxl/w8a8": 2e9, "sdxl/w4a8": 1e9, "flux/bf16": 2e10, "flux/w4a4": 6e9}
    tables = [elo.compute(part, bootstrap=100) for part in components(read_votes(two))]
    axes = pareto_panels(tables, costs)
    assert [ax.figure for ax in axes] == [axes[0].figure] * 2
    written = [{text.get_text().split(" ")[0] for text in ax.texts} for ax in axes]
    assert written == [{"flux", "bf16", "w4a4"}, {"sdxl", "fp16", "w8a8", "w4a8"}]
    record = pareto_record(tables[1], costs)
    by_name = {row["method"]: row for row in record["methods"]}
    assert by_name["sdxl/w4a8"]["on_front"]
    assert by_name["sdxl/w4a8"]["probability_on_front"] == 1  # nothing is cheaper
    assert by_name["sdxl/fp16"]["dominates"]["sdxl/w4a8"] == 0
    low, high = record["hypervolume_interval"]
    assert 0 <= low < record["hypervolume"] < high
