"""The rating table for papers and pages: Markdown, LaTeX, HTML."""

import html
import json
import math

import numpy as np

from elo.cells import DASH, Column, columns, plain_row, settings_lines
from elo.tables import RatingTable

LEFT = "method"  # the one column of text


def to_markdown(table: RatingTable) -> str:
    """Markdown pipe table, settings and notes below."""
    shown = columns(table)
    lines = ["| " + " | ".join(_head(column) for column in shown) + " |"]
    lines.append("|" + "|".join(":---" if column.head == LEFT else "---:" for column in shown) + "|")
    lines += ["| " + " | ".join(map(_pipe, row)) + " |" for row in _rows(shown)]
    lines += ["", " ".join(f"*{_star(line)}*" for line in settings_lines(table.settings))]
    lines += ["", *(f"- {_star(note)}" for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(table: RatingTable) -> str:
    r"""LaTeX tabular for the booktabs package; settings as comments and, with the notes, below the rules.

    To be read by \input inside a table environment.
    """
    shown = columns(table)
    lines = [
        f"% {key}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in plain_row(table.settings).items()
    ]
    lines += [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{@{}" + "".join("l" if column.head == LEFT else "r" for column in shown) + "@{}}",
        r"\toprule",
        " & ".join(_tex(_head(column)) for column in shown) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(map(_tex, row)) + r" \\" for row in _rows(shown)]
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
    ]
    lines += [_tex(line) + r"\par" for line in (*settings_lines(table.settings), *table.notes)]
    return "\n".join([*lines, r"\end{minipage}"]) + "\n"


def to_html(table: RatingTable) -> str:
    """One self-contained HTML page, well-formed as XML too, with the intervals drawn on one axis."""
    shown = columns(table)
    drawn = _intervals(table)
    at = [column.head for column in shown].index("95 % interval") + 1
    heads = [f'<th class="{_kind(column)}">{html.escape(_head(column))}</th>' for column in shown]
    heads.insert(at, "<th></th>")
    body = []
    for row, picture in zip(_rows(shown), drawn, strict=True):
        cells = [
            f'<td class="{_kind(column)}">{html.escape(cell)}</td>'
            for column, cell in zip(shown, row, strict=True)
        ]
        cells.insert(at, f"<td>{picture}</td>")
        body.append("<tr>" + "".join(cells) + "</tr>")
    below = "".join(f"<p>{html.escape(line)}</p>\n" for line in settings_lines(table.settings))
    notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in table.notes)
    return _PAGE.format(
        head="".join(heads),
        body="\n".join(body),
        below=below,
        notes=f"<ul>\n{notes}</ul>\n" if notes else "",
    )


def _intervals(table: RatingTable) -> list[str]:
    """A small picture for each row: its interval and its rating, all on one axis."""
    low, rating, high = (table.ratings[name].to_numpy(float) for name in ("ci_low", "rating", "ci_high"))
    known = np.concatenate([low, rating, high])
    if np.isnan(known).all():
        return [""] * len(rating)
    left, right = np.nanmin(known), np.nanmax(known)

    def x(value: float) -> str:
        return f"{6 + 168 * (value - left) / max(right - left, 1e-9):.1f}"

    pictures = []
    for start, middle, end in zip(low, rating, high, strict=True):
        if math.isnan(middle):
            pictures.append("")
            continue
        line = "" if math.isnan(start) else f'<line x1="{x(start)}" x2="{x(end)}" y1="9" y2="9"/>'
        dot = f'<circle cx="{x(middle)}" cy="9" r="4"/>'
        pictures.append(f'<svg width="180" height="18" aria-hidden="true">{line}{dot}</svg>')
    return pictures


def _rows(shown: list[Column]) -> list[tuple[str, ...]]:
    return list(zip(*(column.cells for column in shown), strict=True))


def _head(column: Column) -> str:
    return column.head[:1].upper() + column.head[1:]


def _kind(column: Column) -> str:
    return "text" if column.head == LEFT else "detail" if column.detail else "number"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width"/>
<title>Ratings</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2.5rem auto; padding: 0 1.5rem; width: fit-content;
  max-width: 100%; box-sizing: border-box; color: #222; background: #fff; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; border-bottom: 1.5px solid #222;
  border-top: 1.5px solid #222; }}
th, td {{ padding: .35rem .65rem; text-align: right; white-space: nowrap; }}
th {{ font-weight: 600; border-bottom: 1px solid #222; }}
th.text, td.text {{ text-align: left; }}
td.text {{ font-weight: 600; }}
.detail {{ color: #767676; }}
tbody tr:hover {{ background: #f3f6f9; }}
div {{ overflow-x: auto; }}
svg {{ display: block; }}
line {{ stroke: #0072B2; stroke-width: 2; stroke-linecap: round; opacity: .5; }}
circle {{ fill: #0072B2; }}
p, li {{ font-size: 13px; color: #555; max-width: 46rem; margin: .35rem 0; }}
ul {{ padding-left: 1.2rem; }}
@media (max-width: 75rem) {{ .detail {{ display: none; }} }}
</style>
</head>
<body>
<div>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
{below}{notes}</body>
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
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    DASH: "---",
    "−": "$-$",
    "±": r"$\pm$",
    "•": r"\textbullet{}",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text).replace(r" \%", r"\,\%")


def _pipe(text: str) -> str:
    return _star(text).replace("|", "\\|")


def _star(text: str) -> str:
    """Text in which nothing is read as Markdown."""
    return "".join(f"\\{character}" if character in "\\*_`<[" else character for character in text)
