"""A figure of what a search saw: how JAQ answers to each number, around the winner."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qsched.jaq import paired_gain
from qsched.parametrisations import Parametrisation
from qsched.search import SearchResult
from qsched.surface import fitted, gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
FORMATS = (".svg", ".pdf", ".png")
_STYLE: Any = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "pairstudy", "pdf.fonttype": 42}


def sensitivity(result: SearchResult, parametrisation: Parametrisation) -> "Figure":
    """Draw a panel for each number: the gain over the identity, all other numbers as the winner has them.

    The line is a quadratic surface fitted to all candidates, the dots are the candidates about it (the
    surface at their place on the line plus what they differ from it; larger dots saw more prompts). With too
    few candidates for a surface the dots are their gains alone. The winner has the 95 % interval of its own
    gain, over prompts. It was picked for that gain: it flatters.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    points = list(result.points)
    numbers = np.array([parametrisation.nearest(point.coefficients) for point in points])
    best = numbers[points.index(result.best)]
    gained, seen = gains(points, result.identity), np.array([len(point.scores) for point in points])
    low, high = numbers.min(0), numbers.max(0)
    surface = fitted(numbers, points, result.identity, (low + high) / 2, np.maximum(high - low, 1e-9) / 2)
    won = paired_gain(result.identity.scores, result.best.scores)
    with rc_context(_STYLE):
        figure = Figure(figsize=(2.3 * len(best) + 0.6, 2.6), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(best), sharey=True))
        for i, axis in enumerate(axes):
            heights = gained
            if surface is not None:
                line, on_line = np.tile(best, (101, 1)), np.tile(best, (len(points), 1))
                line[:, i], on_line[:, i] = np.linspace(low[i], high[i], 101), numbers[:, i]
                heights = surface(on_line) + gained - surface(numbers)
                axis.plot(line[:, i], surface(line), color=BLUE)
            for count in np.unique(seen):  # dots of one size are one shape in the file
                size, some = 14 * count / seen.max(), seen == count
                axis.scatter(numbers[some, i], heights[some], s=size, color=GREY, alpha=0.6, lw=0)
            axis.axhline(0, color=GREY, lw=0.8)
            axis.errorbar(best[i], won.gain, won.high - won.gain, fmt="D", color=ORANGE, ms=4, capsize=2)
            axis.set_xlabel(parametrisation.numbers[i])
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("gain in JAQ over the identity,\ncalibration prompts")
    return figure


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure to a file of one of FORMATS; the same figure makes the same bytes."""
    from matplotlib import rc_context

    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[Path(path).suffix]
    made = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(made, format=Path(path).suffix[1:], dpi=150, metadata=undated)
    Path(path).write_bytes(made.getvalue())
