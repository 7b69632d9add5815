"""Preference bars: how often each method won, tied and lost against one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from elo.counts import Counts
from elo.errors import SettingsError
from elo.labels import INK, PALE
from elo.pairs import wilson
from elo.panels import base_model
from elo.plots import BLUE, new_figure, style, write_panel_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's blue and orange with a grey between: told apart by colour-blind readers and in print.
TIED, ORANGE = "#d9d9d9", "#E69F00"
OUTCOMES = ("win", "tie", "loss")


@dataclass(frozen=True, eq=False)
class Preferences:
    """Votes of k methods against one.

    names      k methods, best first by wins + half of the ties
    against    the one they met
    votes      (k, 3) votes that they won, tied, lost
    share      (k, 3) the same as shares
    low, high  (k, 3) Wilson's 95 % intervals of the shares
    """

    names: tuple[str, ...]
    against: str
    votes: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def records(self) -> list[dict[str, Any]]:
        """Rows ready for JSON."""
        return [
            {"method": name, "against": self.against, "votes": int(self.votes[i].sum())}
            | {
                outcome: {
                    "votes": int(self.votes[i, o]),
                    "share": float(self.share[i, o]),
                    "low": float(self.low[i, o]),
                    "high": float(self.high[i, o]),
                }
                for o, outcome in enumerate(OUTCOMES)
            }
            for i, name in enumerate(self.names)
        ]


def preferences(counts: Counts, against: str) -> Preferences:
    """Count the votes of every method that met `against`; SettingsError if there is no such, or none did."""
    if against not in counts.names:
        raise SettingsError(f"against {against!r}: no votes on it; there are {', '.join(counts.names)}")
    j = counts.names.index(against)
    votes = np.stack([counts.wins[:, j], counts.ties[:, j], counts.wins[j]], axis=1)
    votes[j] = 0
    met = np.flatnonzero(votes.sum(axis=1) > 0)
    if not len(met):
        raise SettingsError(f"against {against!r}: it met no other method")
    total = votes[met].sum(axis=1, keepdims=True)
    share = votes[met] / total
    order = np.argsort(-(share[:, 0] + share[:, 1] / 2), kind="stable")
    low, high = wilson(share, total)
    names = tuple(counts.names[i] for i in met[order])
    return Preferences(names, against, votes[met][order], share[order], low[order], high[order])


def find_against(names: Sequence[str], against: str) -> str:
    """The method that is meant among these: the name itself, or the one that ends with it after a "/"."""
    found = [name for name in names if name.lower() == against.lower()]
    found = found or [name for name in names if name.lower().endswith("/" + against.lower())]
    if len(found) != 1:
        raise SettingsError(f"against {against!r}: expected one of {', '.join(names)}")
    return found[0]


def bars_panels(parts: Sequence[Preferences]) -> list["Axes"]:
    """Draw one panel for each, one above the other."""
    rows = [len(part.names) for part in parts]
    named = sum(base_model([*part.names, part.against])[0] != "" for part in parts)
    # inches: bars, heads and ticks of each panel, its name, the label of the axis
    figure = new_figure(7.2, 0.42 * sum(rows) + 0.62 * len(rows) + 0.25 * named + 0.3)
    with style():
        panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=rows)[:, 0]
        axes = [bars_plot(part, ax) for part, ax in zip(parts, panels, strict=True)]
    for ax in axes[:-1]:
        ax.set_xlabel("")
    return axes


def bars_plot(found: Preferences, ax: "Axes | None" = None) -> "Axes":
    """Draw a stacked bar for each method: won, tied, lost against the one, with Wilson's 95 % intervals.

    The interval of the wins stands on the left edge of the ties, that of the losses on their right edge.
    `ax` is where to draw; None makes a figure of its own.
    """
    if ax is None:
        return bars_panels([found])[0]
    base, shown = base_model([*found.names, found.against])
    names, against = shown[:-1], shown[-1]
    y = np.arange(len(names))
    won, tied, lost = found.share.T
    for left, width, color in ((0 * won, won, BLUE), (won, tied, TIED), (won + tied, lost, ORANGE)):
        ax.barh(y, width, 0.62, left=left, color=color, edgecolor="white", lw=0.8)
    # One above the other: where few votes are ties, the two intervals overlap.
    for edge, low, high, down in (
        (won, found.low[:, 0], found.high[:, 0], 0.13),
        (1 - lost, 1 - found.high[:, 2], 1 - found.low[:, 2], 0.23),
    ):
        ax.errorbar(
            edge,
            y + down,
            xerr=[edge - low, high - edge],
            fmt="none",
            ecolor=INK,
            elinewidth=1.1,
            capsize=2,
            zorder=4,
        )
    ax.axvline(0.5, color=INK, lw=0.8, ls=(0, (2, 3)), zorder=3)
    _write_shares(ax, found)
    ax.set_yticks(y, names, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    ax.set_xlabel("share of votes, with Wilson's 95 % intervals (votes taken as independent)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    _write_heads(ax, against)
    write_panel_name(ax, base, lines=1)
    return ax


def _write_shares(ax: "Axes", found: Preferences) -> None:
    """Percentages in the upper half of a bar, where there is room, and the number of votes at its end."""
    for i, (won, tied, lost) in enumerate(found.share):
        for share, x, ha, color, back in (
            (won, 0.012, "left", "white", BLUE),
            (tied, won + tied / 2, "center", INK, TIED),
            (lost, 0.988, "right", INK, ORANGE),
        ):
            if share > 0.055:
                # On a patch of its own colour, so that the 50 % line does not run through the digits.
                patch = {"facecolor": back, "edgecolor": "none", "pad": 0.6}
                text = f"{100 * share:.0f} %"
                ax.text(x, i - 0.11, text, va="center", ha=ha, color=color, fontsize=9, bbox=patch, zorder=5)
        ax.annotate(
            f"{found.votes[i].sum():.0f}",
            (1, i),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=PALE,
            annotation_clip=False,
        )


def _write_heads(ax: "Axes", against: str) -> None:
    for x, ha, text, color in (
        (0, "left", "preferred", BLUE),
        (0.5, "center", "neither", "#6b6b6b"),
        (1, "right", f"{against} preferred", "#9a6a00"),
    ):
        ax.annotate(
            text,
            (x, 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=ha,
            color=color,
            fontsize=9,
            weight="bold",
            parse_math=False,
        )
    ax.annotate(
        "votes",
        (1, 1),
        (6, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        color=PALE,
    )
