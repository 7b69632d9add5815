import numpy as np
import pytest
from matplotlib.collections import PathCollection

from qsched.parametrisations import paper
from qsched.plots import save, sensitivity
from tests.qsched.test_racing import TARGET, Bowl, raced


def dots_of(panel):
    kinds = [found for found in panel.collections if isinstance(found, PathCollection)]
    return np.concatenate([np.asarray(found.get_offsets()) for found in kinds])


def test_every_number_has_a_panel_whose_line_is_highest_where_the_best_one_is():
    found = raced(Bowl())
    panels = sensitivity(found, paper(4)).axes
    assert [panel.get_xlabel() for panel in panels] == list(paper(4).numbers)
    for panel, number in zip(panels, paper(4).nearest(TARGET), strict=True):
        x, gain = panel.lines[0].get_data()
        assert x[np.argmax(gain)] == pytest.approx(number, abs=0.01)
        dots = dots_of(panel)
        assert len(dots) == len(found.points)
        assert dots[:, 1] == pytest.approx(np.interp(dots[:, 0], x, gain), abs=1e-4)  # no noise in this bowl


def test_few_candidates_are_dots_alone():
    found = raced(Bowl(), candidates=2, races=1)
    panel = sensitivity(found, paper(4)).axes[0]
    expected = [p.mean - np.mean(found.identity.scores[: len(p.scores)]) for p in found.points]
    assert sorted(dots_of(panel)[:, 1]) == pytest.approx(sorted(expected))


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_same_search_is_the_same_file(tmp_path, suffix):
    for name in ("a", "b"):
        save(sensitivity(raced(Bowl()), paper(4)), tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert suffix != "svg" or b">c_x, first<" in first  # text stays text
