"""What people see on a terminal: a table, its settings under it, and what must be known of it."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from elo.cells import Column, columns, settings_lines
from elo.tables import RatingTable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH = 100  # of sentences, where nobody says how wide the terminal is
LEFT = {"method", "judge", "claim", "metric"}  # columns of text


def to_terminal(table: RatingTable, *, width: int | None = None, color: bool = False) -> str:
    """Render a rating table, with settings and notes under it.

    `width` in characters: where the table does not fit, wins, losses and ties give way; None takes what
    it needs. Colours only with `color`.
    """
    shown = columns(table)
    if width and _width(_of_columns(shown)) > width:
        shown = [column for column in shown if not column.detail]
    below = settings_lines(table.settings)
    return rendered(_of_columns(shown), below=below, notes=table.notes, width=width, color=color)


def _of_columns(shown: Sequence[Column]) -> "Table":
    styles = {column.head: "dim" for column in shown if column.detail or column.head == "Elo"}
    rows = zip(*(column.cells for column in shown), strict=True)
    heads = ["" if column.head == "rank" else column.head for column in shown]  # a narrow column
    return table_of(heads, rows, styles | {"rating": "bold"})


def table_of(
    heads: Sequence[str], rows: "Iterable[Sequence[str | Text]]", styles: Mapping[str, str] | None = None
) -> "Table":
    """Make a table of text; nothing in a cell is read as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
    for head in heads:
        style = (styles or {}).get(head, "")
        made.add_column(Text(head), justify="left" if head in LEFT else "right", no_wrap=True, style=style)
    for row in rows:
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def rendered(
    *tables: "Table",
    below: Iterable[str] = (),
    notes: Iterable[str] = (),
    width: int | None = None,
    color: bool = False,
) -> str:
    """Render tables, the sentences `below` in a pale ink, and the notes with a bullet each."""
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=color, color_system="auto" if color else None)
    console.width = max(width or WIDTH, *map(_width, tables))
    for made in tables:
        console.print(made)
    for sentence in below:
        console.print(Text(sentence, style="dim"))
    for note in notes:
        console.print(Text.assemble(("• ", "yellow"), note))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _width(made: "Table") -> int:
    from rich.console import Console

    return Console(width=10_000).measure(made).maximum
