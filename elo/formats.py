"""The rating table as programs read it, and the files that hold it: CSV, JSON, Markdown, LaTeX, HTML.

CSV and JSON keep full precision; the others round. Settings and notes travel in every one of them.
"""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elo.cells import plain_row
from elo.errors import SettingsError
from elo.tables import RatingTable
from elo.typeset import to_html, to_latex, to_markdown


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


def to_csv(table: RatingTable) -> str:
    """CSV with the columns of the table; settings and notes as `#` lines above the header."""
    out = io.StringIO()
    for key, value in plain_row(table.settings).items():
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


WRITERS: dict[str, Callable[[RatingTable], str]] = {
    ".csv": to_csv,
    ".json": to_json,
    ".md": to_markdown,
    ".tex": to_latex,
    ".html": to_html,
}
