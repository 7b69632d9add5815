"""The rating table as programs read it, and the files that hold it: CSV, JSON, Markdown, LaTeX, HTML.

CSV and JSON keep full precision; the others round. Settings and notes travel in every one of them.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elo.cells import plain_row
from elo.errors import SettingsError
from elo.tables import RatingTable
from elo.typeset import to_html, to_latex, to_markdown

if TYPE_CHECKING:
    import pandas as pd

Writer = Callable[[Any], str]  # of a table of some kind: the text of the file


def write_table(table: RatingTable, path: str | Path) -> None:
    """Write the table in the format that the suffix names: .csv, .json, .md, .tex or .html.

    The file appears whole or not at all. Raises SettingsError for another suffix, OSError if it cannot
    be written.
    """
    replace_file(path, writer(path)(table).encode())


def writer(path: str | Path, writers: Mapping[str, Writer] | None = None) -> Writer:
    """Return what makes the text for a file of this name; SettingsError where nothing does."""
    suffix, writers = Path(path).suffix.lower(), writers or WRITERS
    if suffix not in writers:
        raise SettingsError(f"{path}: cannot write that format; expected {', '.join(writers)}")
    return writers[suffix]


def replace_file(path: str | Path, data: bytes) -> None:
    """Write a file beside its final place and rename it, so that nobody ever finds half of it."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def to_csv(table: RatingTable) -> str:
    """CSV with the columns of the table; settings and notes as `#` lines above the header."""
    return csv_of(table.ratings, table.settings, table.notes)


def csv_of(rows: "pd.DataFrame", settings: Mapping[str, Any], notes: Iterable[str]) -> str:
    """CSV of some rows; settings and notes as `#` lines above the header."""
    out = io.StringIO()
    for key, value in plain_row(settings).items():
        out.write(f"# {key}: {json.dumps(value, ensure_ascii=False)}\n")
    for note in notes:
        out.write(f"# note: {note}\n")
    # A "#" in a name must not read as a comment.
    quoting = csv.QUOTE_NONNUMERIC if "#" in rows.to_csv(index=False) else csv.QUOTE_MINIMAL
    rows.to_csv(out, index=False, lineterminator="\n", quoting=quoting)
    return out.getvalue()


def to_json(table: RatingTable) -> str:
    """JSON of `record`."""
    return dumps(record(table))


def record(table: RatingTable) -> dict[str, Any]:
    """{"settings", "ratings", "rank_ranges", "probability_best", "pairs", "checks", "notes"} ready for JSON.

    None where unknown.
    """
    ranges, best, pairs = table.rank_ranges(), table.probability_best(), table.win_rates()
    return {
        "settings": plain_row(table.settings),
        "ratings": [plain_row(row) for row in table.ratings.to_dict("records")],
        "rank_ranges": dict(zip(table.ratings["method"], ranges, strict=True)) if ranges else None,
        "probability_best": dict(zip(table.ratings["method"], best, strict=True)) if best else None,
        "pairs": [plain_row(row) for row in pairs.to_dict("records")] if pairs is not None else None,
        "checks": table.checks,
        "notes": table.notes,
    }


def dumps(document: Any) -> str:
    """A document as the text of a JSON file."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


WRITERS: dict[str, Writer] = {
    ".csv": to_csv,
    ".json": to_json,
    ".md": to_markdown,
    ".tex": to_latex,
    ".html": to_html,
}
