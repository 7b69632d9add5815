"""Figures: rating against cost, with intervals and the Pareto front; several base models as panels.

Matplotlib axes in and out, so that a figure can be composed; `save_plot` writes files that are the same
bytes for the same table.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elo.errors import SettingsError
from elo.formats import replace_file
from elo.labels import INK, place_labels
from elo.panels import base_model
from elo.pareto import SIZE, cost_label, pareto_front, size_label
from elo.tables import RatingTable, clusters_told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".pdf", ".png")

# Okabe and Ito, Color Universal Design (2008): told apart by colour-blind readers too.
BLUE, GREY = "#0072B2", "#767676"

# Text stays text (searchable, editable) and nothing in the file depends on the moment it was made.
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pairstudy",
    "pdf.fonttype": 42,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
}


def pareto_plot(
    table: RatingTable, costs: Mapping[str, float], ax: "Axes | None" = None, *, cost: str = SIZE
) -> "Axes":
    """Draw rating against cost (log axis), 95 % intervals and the Pareto front.

    costs  method → cost, above 0; methods without one are left out
    ax     where to draw; None makes a figure of its own
    cost   what it is, by the name of its column: size_bytes, latency_ms, …

    Filled points are on the front. The number behind a name is the share of bootstrap rounds in which
    the method is on the front. Raises SettingsError where there is nothing to draw, saying why.
    """
    rows = table.ratings[table.ratings["method"].isin(list(costs))]
    if rows.empty:
        raise SettingsError(f"{_said(cost)}: none of {', '.join(costs)} was voted on")
    if rows["rating"].isna().any():
        raise SettingsError("no ratings to plot: " + " ".join(table.notes))
    if ax is not None:
        return _draw(ax, table, costs, rows, cost)
    # Many methods need room for their names.
    wider = math.sqrt(max(1, len(rows) / 12))
    figure = new_figure(7.2 * wider, 4.6 * wider)
    with style():
        return _draw(figure.add_subplot(), table, costs, rows, cost)


def pareto_panels(
    tables: Sequence[RatingTable], costs: Mapping[str, float], *, cost: str = SIZE
) -> list["Axes"]:
    """Draw one panel a table, side by side: base models that were never compared share no scale."""
    if len(tables) == 1:
        return [pareto_plot(tables[0], costs, cost=cost)]
    figure = new_figure(5.6 * len(tables), 4.6)
    with style():
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        return [pareto_plot(table, costs, ax, cost=cost) for table, ax in zip(tables, panels, strict=True)]


def pareto_record(table: RatingTable, costs: Mapping[str, float], cost: str = SIZE) -> dict[str, Any]:
    """The numbers of a panel, ready for JSON: the front, who dominates whom, and how sure that is."""
    rows = table.ratings[table.ratings["method"].isin(list(costs))]
    price = np.array([float(costs[name]) for name in rows["method"]])
    front = pareto_front(rows["method"], price, rows["rating"].to_numpy(float), table.draws[:, rows.index])
    chance = None if front.probability is None else front.probability.tolist()
    shares = None if front.dominates is None else front.dominates.tolist()
    return {
        "cost": cost,
        "methods": [
            {
                "method": name,
                cost: price[i],
                "rating": front.rating[i],
                "on_front": bool(front.on_front[i]),
                "dominated_by": list(front.dominated_by[i]),
                "probability_on_front": chance and chance[i],
                "dominates": shares and dict(zip(front.names, shares[i], strict=True)),
            }
            for i, name in enumerate(front.names)
        ],
        "hypervolume": front.hypervolume,
        "hypervolume_interval": front.hypervolume_interval,
        "settings": table.settings,
    }


def new_figure(width: float, height: float) -> "Figure":
    """Make an empty figure of this size in inches, laid out so that nothing is cut off."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    return figure


def style() -> Any:
    """Context in which text stays text and files do not depend on the moment."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def _said(cost: str) -> str:
    return "sizes" if cost == SIZE else cost


def save_plot(ax: "Axes", path: str | Path, settings: Mapping[str, Any] | None = None) -> None:
    """Write the figure of `ax` as .svg, .pdf or .png (200 dpi); the file appears whole or not at all.

    `settings`, such as those of the table, travel as JSON in the file's metadata.
    """
    replace_file(path, plot_bytes(ax, check_format(path), settings))


def plot_bytes(ax: "Axes", suffix: str, settings: Mapping[str, Any] | None = None) -> bytes:
    """The figure of `ax` as the file that `save_plot` writes under such a suffix (".svg", …)."""
    told = json.dumps(settings) if settings else None
    metadata: dict[str, dict[str, Any]] = {
        ".svg": {"Date": None, "Description": told},
        ".pdf": {"CreationDate": None, "Subject": told},
        ".png": {"Description": told} if told else {},
    }
    out = io.BytesIO()
    with style():
        ax.figure.canvas.figure.savefig(out, format=suffix[1:], dpi=200, metadata=metadata[suffix])
    return out.getvalue()


def check_format(path: str | Path) -> str:
    """Return the suffix of a figure's path; SettingsError if it is none that we write."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise SettingsError(f"{path}: cannot write that format; expected {', '.join(FORMATS)}")
    return suffix


def _draw(ax: "Axes", table: RatingTable, costs: Mapping[str, float], rows: Any, cost: str) -> "Axes":
    size = np.array([float(costs[name]) for name in rows["method"]])
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

    base, names = base_model(list(rows["method"]))
    if front.probability is not None:
        names = [
            f"{name} ({share * 100:.0f} %)" if round(share * 100) else name
            for name, share in zip(names, front.probability, strict=True)
        ]
    _cost_axis(ax, cost)
    ax.set_xlabel(cost_label(cost) if cost == SIZE else f"{cost_label(cost)}, log scale", parse_math=False)
    fixed = table.settings["anchor"] or {"mean": table.settings["base"]}
    ((level, points),) = fixed.items()
    ax.set_ylabel(f"rating in Elo points ({level} = {points:g})", parse_math=False)
    ax.grid(axis="y", color="#e6e6e6", lw=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(_caption(table, front.probability is not None), fontsize=8, color="#555555", loc="left")
    write_panel_name(ax, base, lines=2)
    place_labels(ax, names, size, rating, low, high, front.on_front, np.column_stack([steps_x, steps_y]))
    return ax


def _caption(table: RatingTable, shares: bool) -> str:
    s = table.settings
    parts = [f"{s['n']} votes"]
    if s["interval"]:
        parts.append(f"bars: 95 % intervals over {clusters_told(s)}")
    on_front = "filled: on the Pareto front" + (" (%: of bootstrap rounds)" if shares else "")
    return " · ".join(parts) + "\n" + on_front


def write_panel_name(ax: "Axes", name: str, lines: int) -> None:
    """Write the name of a panel in bold above a title of that many lines."""
    if name:
        ax.annotate(
            name,
            (0, 1),
            (0, 10 + 10 * lines),
            xycoords="axes fraction",
            textcoords="offset points",
            parse_math=False,
            weight="bold",
            color=INK,
        ).set_gid("panel")


def _limits(ax: "Axes", size: np.ndarray, heights: np.ndarray) -> None:
    """Leave room around the points, most of it to the right, where names like to stand."""
    ax.set_xscale("log")
    left, right = math.log10(size.min()), math.log10(size.max())
    span = max(right - left, 0.15)
    ax.set_xlim(10 ** (left - 0.12 * span), 10 ** (right + 0.28 * span))
    low, high = np.nanmin(heights), np.nanmax(heights)
    room = max(high - low, 20) * 0.1
    ax.set_ylim(low - room, high + room)


def _cost_axis(ax: "Axes", cost: str) -> None:
    """Ticks at round costs, dense enough to read and sparse enough not to collide."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    low, high = ax.get_xlim()
    ticks = np.array([])
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
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
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: size_label(value) if cost == SIZE else f"{value:g}")
    )
