"""The rating table as text, column by column: what terminal, Markdown, LaTeX and HTML share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elo.pareto import size_label
from elo.tables import RatingTable, clusters_told

DASH = "—"


@dataclass(frozen=True)
class Column:
    """A column as people read it; `detail` gives way where there is little room."""

    head: str
    cells: tuple[str, ...]
    detail: bool = False


def columns(table: RatingTable) -> list[Column]:
    """Rating in whole Elo points with its interval and the ranks left open, votes, win rate, Elo and size."""
    rows: list[dict[str, Any]] = table.ratings.to_dict("records")
    ranges = table.rank_ranges()

    def column(head: str, form: str, name: str, detail: bool = False) -> Column:
        return Column(head, tuple(_told(row[name], form) for row in rows), detail)

    shown = [
        column("rank", "{:z.0f}", "rank"),
        Column("method", tuple(row["method"] for row in rows)),
        column("rating", "{:z.0f}", "rating"),
        Column("95 % interval", tuple(map(_interval, rows))),
        Column("ranks", tuple(map(_range, ranges)) if ranges else (DASH,) * len(rows)),
        column("votes", "{:z.0f}", "votes"),
        column("won", "{:z.0f}", "wins", True),
        column("lost", "{:z.0f}", "losses", True),
        column("tied", "{:z.0f}", "ties", True),
        Column("win %", tuple(_told(100 * row["win_rate"], "{:.1f}") for row in rows)),
        column("Elo", "{:z.0f}", "elo"),
    ]
    sizes = [row["size_gb"] for row in rows]
    if not all(map(math.isnan, sizes)):
        shown.append(Column("size", tuple(map(_size, sizes))))
    return shown


def settings_lines(settings: dict[str, Any]) -> list[str]:
    """The settings as sentences short enough to stand under a table."""
    s = settings
    level = (
        f"{next(iter(s['anchor']))} = {next(iter(s['anchor'].values())):g}"
        if s["anchor"]
        else f"mean {s['base']:g}"
    )
    lines = [
        f"{s['method']}, {level}, scale {s['scale']:g}, a tie is {s['ties']}; Elo with K = {s['k']:g} "
        + ("in order of time." if s["order"] == "tstamp" else "in the order of the source.")
    ]
    counts = {"vote": s["n"], "judge": s["judges"], "prompt": s["prompts"]}
    votes = ", ".join(f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items() if n is not None)
    if s["question"]:
        votes += f", question {s['question']!r}"
    left_out = ", ".join(f"{reason}: {n}" for reason, n in s["left_out"].items()) or "nothing"
    lines.append(f"{votes} from {s['source']}; left out: {left_out}.")
    if s["interval"]:
        lines.append(
            f"Intervals: {s['interval']} over {clusters_told(s)}; ranks: pairwise tests, corrected by Holm."
        )
    if s["rounds"]:
        lines.append(
            f"Bootstrap: {s['rounds']} rounds over {s['resampled']}s "
            f"({s['rounds_without_maximum']} without a maximum), seed {s['seed']}."
        )
    return lines


def interval(low: float, high: float) -> str:
    """Two ends in whole points; "fixed" where they are one (the anchor), a dash where they are unknown."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    return "fixed" if low == high else f"{_told(low, '{:z.0f}')} to {_told(high, '{:z.0f}')}"


def plain(value: Any) -> Any:
    """A value that JSON has, None where unknown."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or not isinstance(value, int | float | str | list | dict):
        return None  # pandas.NA, the rank of a method without rating
    return None if isinstance(value, float) and math.isnan(value) else value


def plain_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of a table, or settings, ready for JSON."""
    return {str(key): plain(value) for key, value in row.items()}


def _told(value: Any, form: str) -> str:
    known = plain(value)
    return DASH if known is None else form.format(known).replace("-", "−")


def _interval(row: dict[str, Any]) -> str:
    return interval(row["ci_low"], row["ci_high"])


def _range(ranks: tuple[int, int]) -> str:
    low, high = ranks
    return f"{low}" if low == high else f"{low}–{high}"


def _size(gigabytes: float) -> str:
    return DASH if math.isnan(gigabytes) else size_label(float(f"{gigabytes * 1e9:.3g}"))
