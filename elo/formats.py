"""The rating table as people and programs read it: terminal, CSV, JSON, Markdown, LaTeX, HTML.

CSV and JSON keep full precision; the others round. Settings and notes travel in every one of them.
"""

import csv
import html
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elo.errors import SettingsError
from elo.pareto import size_label
from elo.tables import COLUMNS, RatingTable, clusters_told

if TYPE_CHECKING:
    from rich.table import Table

DASH = "—"


def write_table(table: RatingTable, path: str | Path) -> None:
    """Write the table in the format that the suffix names: .csv, .json, .md, .tex or .html.

    The file appears whole or not at all. Raises SettingsError for another suffix, OSError if it cannot
    be written.
    """
    replace_file(path, writer(path)(table).encode())


def writer(path: str | Path) -> Callable[[RatingTable], str]:
    """Return the function that makes the text for a file of this name; SettingsError if there is none."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise SettingsError(f"{path}: cannot write that format; expected {', '.join(WRITERS)}")
    return WRITERS[suffix]


def replace_file(path: str | Path, data: bytes) -> None:
    """Write a file beside its final place and rename it, so that nobody ever finds half of it."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def to_terminal(table: RatingTable, *, width: int | None = None, color: bool = False) -> str:
    """Render for a terminal: the table, with settings and notes under it.

    `width` in characters: where the table does not fit, wins, losses and ties give way; None takes what
    it needs. Colours only with `color`.
    """
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=10_000, force_terminal=color, color_system="auto" if color else None)
    shown = _terminal_rows(table, detail=True)
    needed = console.measure(shown).maximum
    if width and needed > width:
        shown = _terminal_rows(table, detail=False)
        needed = console.measure(shown).maximum
    console.width = max(width or 100, needed)
    console.print(shown)
    for sentence in settings_lines(table.settings):
        console.print(Text(sentence, style="dim"))
    for note in table.notes:
        console.print(Text.assemble(("• ", "yellow"), note))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _terminal_rows(table: RatingTable, *, detail: bool) -> "Table":
    """The table itself; without `detail` it leaves out the counts of wins, losses and ties."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    sized = bool(table.ratings["size_gb"].notna().any())
    counted = {"won": "wins", "lost": "losses", "tied": "ties"} if detail else {}
    ranges: Sequence[tuple[int, int] | None] = table.rank_ranges() or [None] * len(table.ratings)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
    shown.add_column("", justify="right")
    shown.add_column("method", no_wrap=True)
    shown.add_column("rating", justify="right", style="bold")
    shown.add_column("95 % interval", justify="center", no_wrap=True)
    shown.add_column("ranks", justify="center", no_wrap=True)
    for name in ("votes", *counted, "win %", "Elo", *(["size"] if sized else [])):
        shown.add_column(
            name, justify="right", no_wrap=True, style="dim" if name in {*counted, "Elo"} else ""
        )
    for row, open_ranks in zip(table.ratings.to_dict("records"), ranges, strict=True):
        cells = _rounded(row)
        interval = f"{cells['ci_low']:>4} – {cells['ci_high']:<4}" if cells["ci_low"] != DASH else DASH
        if row["ci_low"] == row["ci_high"]:
            interval = "fixed"  # the anchor
        low, high = open_ranks or (DASH, DASH)
        line = [
            cells["rank"],
            cells["method"],
            cells["rating"],
            interval,
            f"{low}" if low == high else f"{low}–{high}",
        ]
        line += [cells[name] for name in ("votes", *counted.values())]
        line += [f"{100 * row['win_rate']:.1f}", cells["elo"]]
        line += [_size(row["size_gb"])] if sized else []
        shown.add_row(*(Text(cell) for cell in line))
    return shown


def _size(gigabytes: float) -> str:
    return DASH if math.isnan(gigabytes) else size_label(float(f"{gigabytes * 1e9:.3g}"))


def to_csv(table: RatingTable) -> str:
    """CSV with the columns of the table; settings and notes as `#` lines above the header."""
    out = io.StringIO()
    for key, value in _records(table.settings).items():
        out.write(f"# {key}: {json.dumps(value, ensure_ascii=False)}\n")
    for note in table.notes:
        out.write(f"# note: {note}\n")
    # A "#" in a name must not read as a comment.
    hashes = table.ratings["method"].str.contains("#").any()
    table.ratings.to_csv(
        out, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if hashes else csv.QUOTE_MINIMAL
    )
    return out.getvalue()


def to_json(table: RatingTable) -> str:
    """JSON: {"settings", "ratings", "rank_ranges", "probability_best", "pairs", "checks", "notes"}.

    null where unknown.
    """
    ranges, best, pairs = table.rank_ranges(), table.probability_best(), table.win_rates()
    document = {
        "settings": _records(table.settings),
        "ratings": [_records(row) for row in table.ratings.to_dict("records")],
        "rank_ranges": dict(zip(table.ratings["method"], ranges, strict=True)) if ranges else None,
        "probability_best": dict(zip(table.ratings["method"], best, strict=True)) if best else None,
        "pairs": [_records(row) for row in pairs.to_dict("records")] if pairs is not None else None,
        "checks": table.checks,
        "notes": table.notes,
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(table: RatingTable) -> str:
    """Markdown pipe table, settings and notes below."""
    lines = ["| " + " | ".join(COLUMNS) + " |"]
    lines.append("|" + "|".join(" :--- " if name == "method" else " ---: " for name in COLUMNS) + "|")
    lines += ["| " + " | ".join(_pipe(cell) for cell in row) + " |" for row in _rows(table)]
    lines += ["", *(f"*{line}*  " for line in settings_lines(table.settings))]
    lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(table: RatingTable) -> str:
    """LaTeX tabular for the booktabs package; settings as comments and, with the notes, below the rules."""
    lines = [
        f"% {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _records(table.settings).items()
    ]
    lines += [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{" + "rl" + "r" * (len(COLUMNS) - 2) + "}",
        r"\toprule",
    ]
    lines += [" & ".join(_tex(name.replace("_", " ")) for name in COLUMNS) + r" \\", r"\midrule"]
    lines += [" & ".join(_tex(cell) for cell in row) + r" \\" for row in _rows(table)]
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip{\footnotesize"]
    lines += [_tex(line) + r"\par" for line in (*settings_lines(table.settings), *table.notes)]
    return "\n".join([*lines, "}"]) + "\n"


def to_html(table: RatingTable) -> str:
    """One self-contained HTML page, well-formed as XML too."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in _rows(table)
    )
    below = "".join(f"<p>{html.escape(line)}</p>\n" for line in settings_lines(table.settings))
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return _PAGE.format(head=head, body=body, below=below, notes=f"<ul>{notes}</ul>" if notes else "")


WRITERS: dict[str, Callable[[RatingTable], str]] = {
    ".csv": to_csv,
    ".json": to_json,
    ".md": to_markdown,
    ".tex": to_latex,
    ".html": to_html,
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<title>Ratings</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .7rem; text-align: right; }}
th:nth-child(2), td:nth-child(2) {{ text-align: left; }}
thead th {{ border-bottom: 1px solid #222; }}
tbody tr:nth-child(even) {{ background: #f5f5f5; }}
p, li {{ font-size: 13px; color: #555; max-width: 60rem; margin: .3rem 0; }}
</style>
</head>
<body>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
{below}{notes}
</body>
</html>
"""

_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    DASH: "---",
    "−": "$-$",
    "•": r"\textbullet{}",
}


def _pipe(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def _rows(table: RatingTable) -> list[list[str]]:
    return [[_rounded(row)[name] for name in COLUMNS] for row in table.ratings.to_dict("records")]


def _rounded(row: dict[Any, Any]) -> dict[str, str]:
    """The cells of one row as text: whole Elo points, win rate from 0 to 1, sizes with 3 digits."""
    digits = {
        "rating": "{:.0f}",
        "ci_low": "{:.0f}",
        "ci_high": "{:.0f}",
        "elo": "{:.0f}",
        "win_rate": "{:.3f}",
    }
    cells = {}
    for name in COLUMNS:
        value = _plain(row[name])
        if value is None:
            cells[name] = DASH
        elif name == "size_gb":
            cells[name] = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
        else:
            cells[name] = digits.get(name, "{}").format(value)
    return cells


def _plain(value: Any) -> Any:
    """A value that JSON has, None where unknown."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or not isinstance(value, int | float | str | list | dict):
        return None  # pandas.NA, the rank of a method without rating
    return None if isinstance(value, float) and math.isnan(value) else value


def _records(values: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) for key, value in values.items()}


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
    votes = f"{s['n']} votes"
    for name in ("judges", "prompts"):
        votes += f", {s[name]} {name}" if s[name] is not None else ""
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
