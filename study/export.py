"""Votes go out: the view `votes_v1` as Parquet, JSON Lines, CSV or JSON, with a dataset card beside it.

Rows are streamed, whatever their number; the file appears whole or not at all. `study.layouts` says what
the columns are: ours, or those of another system.
"""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice, repeat
from pathlib import Path
from typing import IO, Any

from sqlalchemy import ColumnElement, Connection, case, select
from sqlalchemy.orm import Session

from study.card import card_path, make_card
from study.layouts import OTHERS, OURS, Layout, Row, Vote
from study.quality import voter_flags
from study.rated import Choice, count_groups, measure, reasons
from study.schema import votes_v1
from study.store import Store

BATCH = 5_000  # votes in memory at one time, and rows in a row group of Parquet
Columns = Mapping[str, tuple[str, str]]


class ExportError(ValueError):
    """A dump that cannot be written; one line."""


@dataclass(frozen=True)
class Dump:
    """What was written: rows in the file, votes in these rows, and why the others are not there."""

    rows: int
    votes: int
    left_out: Mapping[str, int]
    card: Path


def export_votes(
    store: Store,
    path: str | Path,
    kind: str | None = None,
    *,
    schema: str | None = None,
    question: str | None = None,
    superseded: bool = False,
    license: str | None = None,  # noqa: A002 - the word of every data set on earth
) -> Dump:
    """Write votes to a file, and a README.md that describes them beside it.

    kind        parquet, jsonl, csv or json, by default what the name ends in; a name in .gz is gzipped
    schema      one of `study.layouts.OTHERS`; by default our own columns, with all votes
    question    which question, where the columns of `schema` can hold only one
    superseded  with the votes that a later vote takes back (only in our own columns)
    license     under which others may use the dump; goes into the card

    Raises
    ------
    ExportError
        If the format or the schema is unknown, cannot hold the votes, or the file cannot be written.
    """
    path = Path(path)
    layout = _layout(schema, question, superseded)
    kind = _kind(path, kind, layout)
    with _snapshot(store) as connection:
        groups = count_groups(connection)
        if layout is not OURS:
            rated = {group.question for group in groups if group.question and group.unrated is None}
            question = _question(sorted(rated), question)
        choice = Choice(layout, question, superseded)
        extent = measure(connection, choice)
        card = card_path(path)
        rows = _Counted(layout.rows(_votes(connection, choice), extent.of_prompt))
        try:
            with _appearing(path) as dump, _appearing(card) as beside:
                with _open(dump, path.suffix == ".gz") as stream:
                    for piece in WRITERS[kind](iter(rows), layout.columns):
                        stream.write(piece)
                text = make_card(connection, choice, groups, extent, rows.number, path.name, license)
                beside.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {error.strerror}") from None
    return Dump(rows.number, sum(extent.judges), reasons(choice, groups), card)


def stream_votes(store: Store, kind: str) -> Iterator[bytes]:
    """All votes in our own columns as a file of such a format, piece by piece."""
    with _snapshot(store) as connection:
        yield from WRITERS[kind](OURS.rows(_votes(connection, Choice(OURS)), {}), OURS.columns)


def card_of(store: Store, file: str) -> str:
    """The card of a `file` of all votes in our own columns, as `stream_votes` makes it."""
    choice = Choice(OURS)
    with _snapshot(store) as connection:
        extent = measure(connection, choice)
        return make_card(
            connection, choice, count_groups(connection), extent, sum(extent.judges), file, license=None
        )


def _layout(schema: str | None, question: str | None, superseded: bool) -> Layout:
    if schema is None:
        if question is not None:
            raise ExportError("--question goes with --schema: our own columns hold all questions")
        return OURS
    if schema not in OTHERS:
        raise ExportError(f"schema {schema!r} is unknown, expected {', '.join(OTHERS)} (--schema)")
    if superseded:
        raise ExportError(f"--all does not go with --schema {schema}, which holds only what is rated")
    return OTHERS[schema]


def _kind(path: Path, kind: str | None, layout: Layout) -> str:
    kind = kind or Path(path.stem if path.suffix == ".gz" else path.name).suffix.lstrip(".")
    if kind not in WRITERS:
        raise ExportError(f"{path}: format {kind!r} is unknown, expected {', '.join(WRITERS)} (--format)")
    if kind not in layout.formats:
        raise ExportError(
            f"{path}: {kind} cannot hold the nested rows of {layout.name}, "
            f"expected {' or '.join(layout.formats)} (--format)"
        )
    return kind


def _question(there: list[str], question: str | None) -> str | None:
    if question is None and len(there) > 1:
        raise ExportError(f"several questions ({', '.join(there)}); choose one (--question)")
    if question is not None and question not in there:
        raise ExportError(f"no votes on the question {question!r}; there are {', '.join(there) or 'none'}")
    return question


@contextmanager
def _snapshot(store: Store) -> Iterator[Connection]:
    """A connection that sees one state of the votes, so that the card counts what the dump holds."""
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "postgresql":  # SQLite's readers see one state anyway
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def _votes(connection: Connection, choice: Choice) -> Iterator[Vote]:
    """The votes that go out, a batch at a time in memory."""
    order = _by_pair() if choice.layout.by_pair else []
    statement = (
        select(votes_v1).where(*choice.conditions()).order_by(*order, votes_v1.c.tstamp, votes_v1.c.vote_id)
    )
    # A server-side cursor where there is a server.
    votes = connection.execute(statement, execution_options={"yield_per": BATCH}).mappings()
    if choice.layout is not OURS:
        yield from votes
        return
    with Session(connection) as session:
        flags = {
            judge: ";".join(flag.name for flag in found) for judge, found in voter_flags(session).items()
        }
    for vote in votes:
        yield {**vote, "flags": flags.get(vote["judge"])}


def _by_pair() -> list[ColumnElement[Any]]:
    """An order in which votes on the same two images, and then those with the same sides, come together."""
    vote = votes_v1.c
    left_first = vote.model_a < vote.model_b
    sides = [(vote.model_a, vote.model_b), (vote.image_a, vote.image_b)]
    return [
        vote.prompt_id,
        *(case((left_first, one), else_=other) for one, other in sides),
        *(case((left_first, other), else_=one) for one, other in sides),
        vote.model_a,
    ]


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return _plain(value) if isinstance(value, datetime | list | dict) else value


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else json.dumps(value, ensure_ascii=False)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A file to write, which becomes `path` when all went well and disappears otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _open(path: Path, zipped: bool) -> IO[bytes]:
    return gzip.open(path, "wb") if zipped else path.open("wb")  # type: ignore[return-value]


class _Counted:
    """Rows, and how many of them went by."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.rows, self.number = rows, 0

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            self.number += 1
            yield row


def _csv(rows: Iterator[Row], columns: Columns) -> Iterator[bytes]:
    lines = (_csv_line(_csv_value(row[column]) for column in columns) for row in rows)
    yield from _pieces(line.encode() for line in chain([_csv_line(columns)], lines))


def _json_lines(rows: Iterator[Row], columns: Columns) -> Iterator[bytes]:
    yield from _pieces(text + b"\n" for text in _objects(rows, columns))


def _json(rows: Iterator[Row], columns: Columns) -> Iterator[bytes]:
    piece, before = b"", chain([b"[\n"], repeat(b",\n"))
    for piece in _pieces(start + text for text, start in zip(_objects(rows, columns), before)):  # noqa: B905
        yield piece
    yield b"\n]\n" if piece else b"[]\n"


def _objects(rows: Iterator[Row], columns: Columns) -> Iterator[bytes]:
    nested = [name for name, (kind, _) in columns.items() if kind == "json"]
    for row in rows:
        for name in nested:
            if isinstance(row[name], str):  # as the database stores it
                row[name] = json.loads(row[name])
        yield json.dumps(row, ensure_ascii=False, default=_plain).encode()


def _pieces(texts: Iterator[bytes]) -> Iterator[bytes]:
    while piece := b"".join(islice(texts, BATCH)):
        yield piece


def _parquet(rows: Iterator[Row], columns: Columns) -> Iterator[bytes]:
    import pyarrow as pa  # a heavy import that only this format needs
    import pyarrow.parquet as pq

    types = {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "truth": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "bytes": pa.binary(),
        "json": pa.string(),
        "turns": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    }
    schema = pa.schema([(name, types[kind]) for name, (kind, _) in columns.items()])
    written = _Written()
    with pq.ParquetWriter(written, schema) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            batch.clear()  # or it would wait in memory until the next one is complete
            yield written.taken()
    yield written.taken()


class _Written(io.RawIOBase):
    """A file that only goes forward: what was written to it can be taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._at += len(self._pieces[-1])
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


# Each makes a file of rows, in pieces of some of them: whoever reads the pieces sets the pace.
WRITERS: dict[str, Callable[[Iterator[Row], Columns], Iterator[bytes]]] = {
    "parquet": _parquet,
    "jsonl": _json_lines,
    "csv": _csv,
    "json": _json,
}
