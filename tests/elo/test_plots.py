import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

import elo
from elo.pareto import size_label


@pytest.fixture
def table(five, sizes):
    return elo.compute(elo.read_votes(five), bootstrap=100, sizes=sizes)


def labels(ax):
    return [text for text in ax.texts if isinstance(text, Annotation) and text.get_gid() != "panel"]


def test_svg_pdf_png(table, sizes, tmp_path):
    for suffix, magic in ((".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        path = tmp_path / f"pareto{suffix}"
        elo.save_plot(elo.pareto_plot(table, sizes), path, table.settings)
        first = path.read_bytes()
        assert first.startswith(magic)
        elo.save_plot(elo.pareto_plot(table, sizes), path, table.settings)
        assert path.read_bytes() == first, "the same table must give the same bytes"
    with Image.open(tmp_path / "pareto.png") as image:
        assert "bradley-terry" in image.info["Description"]
    text = (tmp_path / "pareto.svg").read_text()
    for word in (
        *sizes,
        "rating in Elo points (mean = 1000)",
        "size of the stored backbone",
        "95 % intervals over 40 judges",
        "bradley-terry",
        "GB",
    ):
        assert word in text
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(elo.SettingsError, match=r"expected .svg, .pdf, .png"):
        elo.save_plot(elo.pareto_plot(table, sizes), tmp_path / "pareto.gif")


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_labels_do_not_overlap_each_other_or_leave_the_axes(simulated, n):
    names = [f"a-long-name/method-{i}" for i in range(max(n, 2))]
    votes = elo.read_votes(simulated({name: 1000 + 12 * i for i, name in enumerate(names)}, 300 * n + 300))
    sizes = {name: 2e6 * 1.6 ** (i // 2) * (1 + 0.01 * (i % 2)) for i, name in enumerate(names[:n])}
    ax = elo.pareto_plot(elo.compute(votes, bootstrap=50), sizes)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in labels(ax)]
    assert len(boxes) == n
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    frame = ax.get_window_extent()
    assert all(
        frame.x0 <= box.x0 and box.x1 <= frame.x1 + 1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        for box in boxes
    )


@pytest.mark.parametrize("span", [1.0, 1.001, 1.05, 1.6, 3, 12, 400, 10_000])
def test_size_ticks_are_few_apart_and_inside(table, sizes, span):
    spread = dict(zip(sizes, 2e6 * span ** np.linspace(0, 1, len(sizes)), strict=True))
    ax = elo.pareto_plot(table, spread)
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    shown = [label for label in ax.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert 3 <= len(shown) <= 9
    assert len({label.get_text() for label in shown}) == len(shown)
    boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.x0)
    assert all(one.x1 + 2 < other.x0 for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    "size,text",
    [
        (2e6, "2 MB"),
        (2.5e6, "2.5 MB"),
        (999e6, "999 MB"),
        (1e9, "1 GB"),
        (23.8e9, "23.8 GB"),
        (1.5e12, "1.5 TB"),
        (500, "500 B"),
    ],
)
def test_sizes_are_decimal(size, text):
    assert size_label(size) == text


def test_draws_into_given_axes_and_leaves_out_unsized_methods(table, sizes):
    given = Figure().add_subplot()
    del sizes["w8a8"]
    assert elo.pareto_plot(table, sizes, ax=given) is given
    shown = [text.get_text() for text in labels(given)]
    assert len(shown) == 4
    assert not any("w8a8" in text for text in shown)


def test_nothing_to_plot_is_said(table, golden):
    with pytest.raises(elo.SettingsError, match="none of x was voted on"):
        elo.pareto_plot(table, {"x": 3})
    tiny = elo.compute(elo.read_votes(golden("tiny")[1]))
    with pytest.raises(elo.SettingsError, match=r"no ratings to plot: .*burger never won"):
        elo.pareto_plot(tiny, {"pizza": 1, "burger": 2})


def test_lines_back_to_a_point_run_through_no_other_name(simulated):
    """Twelve methods in two crowds."""
    names = [f"method-{i}" for i in range(12)]
    votes = elo.read_votes(simulated({name: 1000 + 4 * i for i, name in enumerate(names)}, 6000))
    sizes = {name: (1e9 if i % 2 else 1.2e9) * (1 + 0.004 * i) for i, name in enumerate(names)}
    ax = elo.pareto_plot(elo.compute(votes, bootstrap=0), sizes)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in labels(ax)]
    leaders = [line for line in ax.lines if line.get_color() == "#999999"]
    assert leaders, "the case must be crowded enough"
    for line in leaders:
        (x0, y0), (x1, y1) = ax.transData.transform(line.get_xydata())
        along = [(x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in np.linspace(0, 0.9, 40)]
        assert not any(box.contains(x, y) for box in boxes for x, y in along)


def test_names_are_not_read_as_formulas(five, tmp_path):
    votes = elo.read_votes(five.replace({"w4a8": r"$\bad{ & <w4a8>$"}))
    ax = elo.pareto_plot(elo.compute(votes, bootstrap=0), {r"$\bad{ & <w4a8>$": 3, "fp16": 4})
    elo.save_plot(ax, tmp_path / "p.svg")
    assert "&lt;w4a8&gt;$" in (tmp_path / "p.svg").read_text()


def test_plots_without_intervals(five, sizes):
    table = elo.compute(elo.read_votes(five), bootstrap=0)
    assert sorted(text.get_text() for text in labels(elo.pareto_plot(table, sizes))) == sorted(sizes)
