import itertools
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import binomtest

import elo
from elo.bars import bars_panels, bars_plot, find_against, preferences
from elo.counts import count
from elo.pairs import wilson
from elo.plots import save_plot
from elo.votes import read_votes


@pytest.fixture
def found(five):
    return preferences(count(read_votes(five)), "fp16")


def test_shares_are_an_obvious_count(five, found):
    assert set(found.names) == {"w8a8", "qsched", "w4a8", "w4a4"}
    assert found.names[-1] == "w4a4"
    for i, name in enumerate(found.names):
        as_left = five[(five["model_a"] == name) & (five["model_b"] == "fp16")]["winner"]
        as_right = five[(five["model_b"] == name) & (five["model_a"] == "fp16")]["winner"]
        won = (as_left == "model_a").sum() + (as_right == "model_b").sum()
        tied = (as_left == "tie").sum() + (as_right == "tie").sum()
        assert found.votes[i].tolist() == [won, tied, len(as_left) + len(as_right) - won - tied]
    record = found.records()[0]
    assert (record["method"], record["against"]) == (found.names[0], "fp16")
    assert record["win"]["low"] < record["win"]["share"] < record["win"]["high"]


@pytest.mark.parametrize("x,n", [(0, 10), (10, 10), (3, 10), (400, 1000)])
def test_wilson_is_scipys(x, n):
    expected = binomtest(x, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(np.array(x / n), np.array(n)), expected, atol=1e-9)


def test_names_of_the_one_they_met():
    assert find_against(["FP16", "w4"], "fp16") == "FP16"
    assert find_against(["sdxl/fp16", "sdxl/w4"], "fp16") == "sdxl/fp16"
    for names in (["w4", "w8"], ["a/fp16", "b/fp16"]):
        with pytest.raises(elo.SettingsError, match=f"expected one of {names[0]}"):
            find_against(names, "fp16")


def test_nothing_to_compare_is_said(found, golden):
    counts = count(read_votes(golden("simple")[1]))
    with pytest.raises(elo.SettingsError, match="against 'fp16': no votes on it; there are"):
        preferences(counts, "fp16")


def test_axes_in_and_out_and_nothing_overlaps(found, tmp_path):
    given = Figure().add_subplot()
    assert bars_plot(found, given) is given
    axes = bars_panels([found, found])
    assert len(axes) == 2
    axes[0].figure.draw_without_rendering()
    texts = [text for text in axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    written = " ".join(text.get_text() for text in texts)
    assert "fp16 preferred" in written
    assert f"{found.votes[0].sum():.0f}" in written
    for name in ("b.svg", "b.pdf", "b.png"):
        save_plot(axes[0], tmp_path / name)
        first = (tmp_path / name).read_bytes()
        save_plot(bars_panels([found, found])[0], tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
    assert "Wilson" in (tmp_path / "b.svg").read_text()
    assert math.isclose(found.share.sum(), len(found.names))
