"""Figures: rating against size, with intervals and the Pareto front.

Matplotlib axes in and out, so that a figure can be composed; `save_plot` writes files that are the same
bytes for the same table.
"""

import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elo.errors import SettingsError
from elo.formats import replace_file
from elo.pareto import pareto_front, size_label
from elo.tables import RatingTable, clusters_told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

FORMATS = (".svg", ".pdf", ".png")

# Okabe and Ito, Color Universal Design (2008): told apart by colour-blind readers too.
BLUE, GREY, INK = "#0072B2", "#767676", "#222222"

# Text stays text (searchable, editable) and nothing in the file depends on the moment it was made.
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pairstudy",
    "pdf.fonttype": 42,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
}


def pareto_plot(table: RatingTable, sizes: Mapping[str, float], ax: "Axes | None" = None) -> "Axes":
    """Draw rating against stored size (log axis), 95 % intervals and the Pareto front.

    sizes  method → bytes; methods without a size are left out
    ax     where to draw; None makes a figure of its own

    Filled points are on the front. The number behind a name is the share of bootstrap rounds in which
    the method is on the front. Raises SettingsError where there is nothing to draw, saying why.
    """
    rows = table.ratings[table.ratings["method"].isin(list(sizes))]
    if rows.empty:
        raise SettingsError(f"sizes: none of {', '.join(sizes)} was voted on")
    if rows["rating"].isna().any():
        raise SettingsError("no ratings to plot: " + " ".join(table.notes))
    if ax is None:
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context(STYLE):
            figure = Figure(figsize=(7.2, 4.6))
            figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
            return _draw(figure.add_subplot(), table, sizes, rows)
    return _draw(ax, table, sizes, rows)


def save_plot(ax: "Axes", path: str | Path, settings: Mapping[str, Any] | None = None) -> None:
    """Write the figure of `ax` as .svg, .pdf or .png (200 dpi); the file appears whole or not at all.

    `settings`, such as those of the table, travel as JSON in the file's metadata.
    """
    from matplotlib import rc_context

    suffix = check_format(path)
    told = json.dumps(settings) if settings else None
    metadata: dict[str, dict[str, Any]] = {
        ".svg": {"Date": None, "Description": told},
        ".pdf": {"CreationDate": None, "Subject": told},
        ".png": {"Description": told} if told else {},
    }
    out = io.BytesIO()
    with rc_context(STYLE):
        ax.figure.canvas.figure.savefig(out, format=suffix[1:], dpi=200, metadata=metadata[suffix])
    replace_file(path, out.getvalue())


def check_format(path: str | Path) -> str:
    """Return the suffix of a figure's path; SettingsError if it is none that we write."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise SettingsError(f"{path}: cannot write that format; expected {', '.join(FORMATS)}")
    return suffix


def _draw(ax: "Axes", table: RatingTable, sizes: Mapping[str, float], rows: Any) -> "Axes":
    size = np.array([float(sizes[name]) for name in rows["method"]])
    rating, low, high = (rows[name].to_numpy(float) for name in ("rating", "ci_low", "ci_high"))
    front = pareto_front(rows["method"], size, rating, table.draws[:, rows.index])
    _limits(ax, size, np.concatenate([rating, low, high]))

    best = np.flatnonzero(front.on_front)[np.argsort(size[front.on_front], kind="stable")]
    edge, floor = ax.get_xlim()[1], ax.get_ylim()[0]
    steps_x, steps_y = [*size[best], edge], [*rating[best], rating[best[-1]]]
    ax.fill_between(steps_x, steps_y, floor, step="post", color=BLUE, alpha=0.05, lw=0)
    # Wide and pale: its risers run along interval bars, which must stay readable on top of it.
    ax.step(steps_x, steps_y, where="post", color=BLUE, alpha=0.3, lw=4, solid_joinstyle="miter", zorder=2)

    for on_front, color in ((True, BLUE), (False, GREY)):
        shown = front.on_front == on_front
        ax.vlines(size[shown], low[shown], high[shown], color=color, lw=1.4, alpha=0.75, zorder=3)
        ax.scatter(
            size[shown],
            rating[shown],
            s=42,
            color=color if on_front else "white",
            edgecolors=color,
            lw=1.4,
            zorder=4,
        )

    names = list(rows["method"])
    if front.probability is not None:
        names = [
            f"{name} ({share * 100:.0f} %)" for name, share in zip(names, front.probability, strict=True)
        ]
    _size_axis(ax)
    ax.set_xlabel("size of the stored backbone, log scale (1 GB = 10⁹ bytes)")
    fixed = table.settings["anchor"] or {"mean": table.settings["base"]}
    ((level, points),) = fixed.items()
    ax.set_ylabel(f"rating in Elo points ({level} = {points:g})", parse_math=False)
    ax.grid(axis="y", color="#e6e6e6", lw=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(_caption(table, front.probability is not None), fontsize=8, color="#555555", loc="left")
    _place_labels(ax, names, size, rating, low, high, front.on_front, np.column_stack([steps_x, steps_y]))
    return ax


def _caption(table: RatingTable, shares: bool) -> str:
    s = table.settings
    parts = [f"{s['n']} votes"]
    if s["interval"]:
        parts.append(f"bars: 95 % intervals over {clusters_told(s)}")
    parts.append("filled: on the Pareto front" + (" (in % of bootstrap rounds)" if shares else ""))
    return " · ".join(parts)


def _limits(ax: "Axes", size: np.ndarray, heights: np.ndarray) -> None:
    """Leave room around the points, most of it to the right, where names like to stand."""
    ax.set_xscale("log")
    left, right = math.log10(size.min()), math.log10(size.max())
    span = max(right - left, 0.15)
    ax.set_xlim(10 ** (left - 0.12 * span), 10 ** (right + 0.28 * span))
    low, high = np.nanmin(heights), np.nanmax(heights)
    room = max(high - low, 20) * 0.1
    ax.set_ylim(low - room, high + room)


def _size_axis(ax: "Axes") -> None:
    """Ticks at round sizes, dense enough to read and sparse enough not to collide."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    low, high = ax.get_xlim()
    ticks = np.array([])
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = np.array(
            [s * 10.0**e for e in range(int(math.log10(low)) - 1, int(math.log10(high)) + 1) for s in steps]
        )
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 4:
            break
    if len(ticks) < 3:  # less than a factor of two: evenly spaced values do better than powers
        ticks = np.asarray(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size_label(value)))


def _place_labels(
    ax: "Axes",
    names: list[str],
    size: np.ndarray,
    rating: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    on_front: np.ndarray,
    front: np.ndarray,
) -> None:
    """Put each name beside its point, where it covers least of points, bars, front, names and edges.

    Greedy: the most crowded points choose first, among places around the point at growing distance;
    a name that had to go far gets a thin line back to its point.
    """
    figure = ax.figure.canvas.figure
    figure.draw_without_rendering()  # lays out the axes, so that pixels are where they will be
    points = ax.transData.transform(np.column_stack([size, rating]))
    unit = figure.dpi / 72  # pixels in a point
    taken = [(_box(x, y, 5 * unit, 5 * unit), 3.0) for x, y in points]
    corners = ax.transData.transform(front)
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        taken.append(((x0, y0 - 2.5 * unit, x1, y0 + 2.5 * unit), 1.0))
        taken.append(((x1 - 2.5 * unit, y0, x1 + 2.5 * unit, y1), 1.0))
    for (x, _), bottom, top in zip(points, low, high, strict=True):
        if not math.isnan(bottom):
            ends = ax.transData.transform([(1, bottom), (1, top)])[:, 1]
            taken.append(((x - 3 * unit, ends[0], x + 3 * unit, ends[1]), 3.0))
    inside = ax.get_window_extent()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    crowding = np.sort(distance, axis=1)[:, 1] if len(points) > 1 else distance[:, 0]
    for i in np.argsort(crowding, kind="stable"):
        x, y = points[i]
        text: Text = ax.annotate(
            names[i],
            (size[i], rating[i]),
            xytext=(0, 0),
            textcoords="offset points",
            parse_math=False,
            fontsize=9,
            zorder=6,
        )
        text.set_in_layout(False)
        text.set_color(INK if on_front[i] else "#5a5a5a")
        extent = text.get_window_extent()
        width, height = extent.width, extent.height

        def cost(
            place: tuple[float, float, float], x: float = x, y: float = y, w: float = width, h: float = height
        ) -> float:
            dx, dy, penalty = place
            box = _beside(x, y, dx * unit, dy * unit, w, h)
            outside = w * h - _overlap(box, (inside.x0, inside.y0, inside.x1, inside.y1))
            return penalty + (sum(weight * _overlap(box, other) for other, weight in taken) + 3 * outside) / (
                unit * unit
            )

        dx, dy, _ = min(_places(), key=cost)
        box = _beside(x, y, dx * unit, dy * unit, width, height)
        text.set_position(((box[0] - x) / unit, (box[1] - y) / unit))
        text.set_verticalalignment("bottom")
        # Two names on one another are worst; a pixel of air lies around each.
        taken.append(((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), 12.0))
        if math.hypot(dx, dy) > 16:
            nearest = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
            ends = ax.transData.inverted().transform([(x, y), nearest])
            ax.plot(*ends.T, color="#999999", lw=0.7, zorder=2.5)


Box = tuple[float, float, float, float]


# Sides of a point in order of taste: right and left of it, above and below.
SIDES = (
    (1, 0.9),
    (1, -0.9),
    (-1, 0.9),
    (-1, -0.9),
    (1, 1.8),
    (1, -1.8),
    (-1, 1.8),
    (-1, -1.8),
    (0, 1),
    (0, -1),
)


def _places() -> Iterator[tuple[float, float, float]]:
    """Offsets (dx, dy) in points from the point to the near side of its label, with what each costs."""
    for reach, far in ((8, 0), (14, 8), (22, 30), (32, 60), (44, 100), (60, 150)):
        for taste, (dx, dy) in enumerate(SIDES):
            yield dx * reach, dy * reach, far + taste


def _beside(x: float, y: float, dx: float, dy: float, width: float, height: float) -> Box:
    left = x + dx if dx > 0 else x + dx - width if dx < 0 else x - width / 2
    bottom = y + dy - height / 2 if dx else (y + dy if dy > 0 else y + dy - height)
    return (left, bottom, left + width, bottom + height)


def _box(x: float, y: float, half_width: float, half_height: float) -> Box:
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def _overlap(a: Box, b: Box) -> float:
    """Area in square pixels that two boxes (x0, y0, x1, y1) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
