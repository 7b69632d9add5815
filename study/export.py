"""Votes go out: the view `votes_v1` as Parquet, JSON Lines or CSV, one row a vote, `model_a` the LEFT image.

Rows are streamed, in the order they were given; the file appears whole or not at all.
"""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select

from study.schema import VOTE_COLUMNS, votes_v1
from study.store import Store

Row = dict[str, Any]
BATCH = 5_000
FLAGS = ("late", "excluded")  # SQLite has no booleans of its own


class ExportError(ValueError):
    """A dump that cannot be written; one line."""


def export_votes(store: Store, path: str | Path, kind: str | None = None) -> int:
    """Write all votes to a file and return their number.

    `kind` is parquet, jsonl or csv, by default what the name ends in; a name in .gz is gzipped.

    Raises
    ------
    ExportError
        If the format is unknown or the file cannot be written.
    """
    path = Path(path)
    kind = kind or Path(path.stem if path.suffix == ".gz" else path.name).suffix.lstrip(".")
    if kind not in WRITERS:
        raise ExportError(f"{path}: format {kind!r} is unknown, expected {', '.join(WRITERS)} (--format)")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _open(temporary, path.suffix == ".gz") as stream:
            count = WRITERS[kind](stream, vote_rows(store))
        temporary.replace(path)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return count


def vote_rows(store: Store) -> Iterator[Row]:
    """All votes in the order they were given, a batch at a time in memory."""
    statement = select(votes_v1).order_by(votes_v1.c.tstamp, votes_v1.c.vote_id)
    with store.engine.connect().execution_options(yield_per=BATCH) as connection:
        for row in connection.execute(statement).mappings():
            yield {**row, **{flag: bool(row[flag]) for flag in FLAGS}}


def csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    """The votes as lines of CSV, the header first."""
    yield _csv_line(VOTE_COLUMNS)
    for row in rows:
        yield _csv_line(_csv_value(row[column]) for column in VOTE_COLUMNS)


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _csv_value(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _open(path: Path, zipped: bool) -> IO[bytes]:
    return gzip.open(path, "wb") if zipped else path.open("wb")  # type: ignore[return-value]


def _write_csv(stream: IO[bytes], rows: Iterator[Row]) -> int:
    count = -1  # the header is no vote
    for line in csv_lines(rows):
        stream.write(line.encode())
        count += 1
    return count


def _write_jsonl(stream: IO[bytes], rows: Iterator[Row]) -> int:
    count = 0
    for row in rows:
        if row["display"] is not None:
            row["display"] = json.loads(row["display"])
        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def _write_parquet(stream: IO[bytes], rows: Iterator[Row]) -> int:
    import pyarrow as pa  # a heavy import that only this format needs
    import pyarrow.parquet as pq

    types = {"tstamp": pa.float64(), "rt_ms": pa.int64(), **dict.fromkeys(FLAGS, pa.bool_())}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in VOTE_COLUMNS])
    count = 0
    with pq.ParquetWriter(stream, schema) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            count += len(batch)
    return count


WRITERS: dict[str, Callable[[IO[bytes], Iterator[Row]], int]] = {
    "parquet": _write_parquet,
    "jsonl": _write_jsonl,
    "csv": _write_csv,
}
