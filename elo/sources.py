"""Where votes come from: CSV, JSON, JSONL, Parquet (each also .gz), a table in memory, a database view.

A source is opened in two steps, so that only the columns that matter are ever loaded: first its
column names, then the chosen columns, as Arrow columns whose repeated texts are stored once. Text
that is not asked for (prompts, display settings) stays where it is.
"""

import csv
import gzip
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from elo.errors import VotesError

if TYPE_CHECKING:
    import pyarrow as pa

TORN = "unreadable row"
FETCH = 50_000  # rows of a database that are in memory as Python objects at one time


@dataclass(frozen=True)
class Source:
    """A table that has been opened but not yet read.

    name     what messages call it
    columns  what it has
    read     loads some of the columns (rows in source order)
    place    says where row 0, 1, … of that table stands, in words a person can follow
    torn     rows that `read` could not make sense of and skipped, where that was allowed
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[list[str]], "pa.Table"]
    place: Callable[[int], str]
    torn: dict[str, int] = field(default_factory=dict)


def open_source(source: Any, *, skip: bool = False) -> Source:
    """Open a path, a database URL, or a table in memory; raises VotesError with one line saying why not.

    A table is a DataFrame, an Arrow table, or anything that pyarrow.table() takes, such as a dict of
    columns. With `skip`, rows that cannot be read are counted in `torn` instead of refused.
    """
    if not isinstance(source, str | Path):
        return _open_table(source)
    if is_url(source):
        from elo.database import open_database

        return open_database(str(source)).source
    path = Path(source)
    readers = {".csv": _open_csv, ".json": _open_json, ".jsonl": _open_jsonl, ".parquet": _open_parquet}
    suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
    if suffix not in readers:
        raise VotesError(
            f"{path}: cannot tell its format by its name; expected .csv, .json, .jsonl or .parquet "
            "(also with .gz), or a database URL such as sqlite:///votes.db"
        )
    try:
        return readers[suffix](path, skip)
    except OSError as error:  # no such file, a folder, no permission, a torn .gz
        raise VotesError(f"{path}: {error.strerror or error}") from error
    except EOFError as error:
        raise VotesError(f"{path}: the compressed file ends too early") from error
    except UnicodeDecodeError as error:
        raise VotesError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def is_url(source: Any) -> bool:
    """Tell whether a source is the URL of a database."""
    return isinstance(source, str | Path) and "://" in str(source)


def rows_source(name: str, rows: list[dict[str, Any]], places: list[str]) -> Source:
    """Return a source of rows that are in memory; a value that is a list or an object counts as its JSON."""
    columns = tuple(dict.fromkeys(key for row in rows for key in row))

    def read(chosen: list[str]) -> "pa.Table":
        return _table({column: arrow([_scalar(row.get(column)) for row in rows]) for column in chosen})

    return Source(name, columns, read, lambda row: places[row])


def arrow(values: Any) -> "pa.Array":
    """Values as one Arrow array; kinds that do not mix (3, "x") are told by their text."""
    import pandas as pd
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if pd.isna(value) else plain_text(value) for value in values])


def plain_text(value: Any) -> str:
    """The text that a value is told by: 3, 3.0, and "3" are one label."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _open_table(source: Any) -> Source:
    import pandas as pd
    import pyarrow as pa

    if isinstance(source, pd.DataFrame):
        frame = source
        columns = tuple(str(column) for column in frame.columns)
        _refuse_twins("DataFrame", columns)

        def read(chosen: list[str]) -> "pa.Table":
            return _table({column: arrow(frame.iloc[:, columns.index(column)]) for column in chosen})

        return Source("DataFrame", columns, read, lambda row: f"DataFrame, row {frame.index[row]!r}")
    try:
        table = pa.table(source)
    except (TypeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise VotesError(f"{type(source).__name__}: not a table of votes ({error})") from error
    _refuse_twins("table", tuple(table.column_names))
    return Source("table", tuple(table.column_names), table.select, lambda row: f"table, row {row + 1}")


def _table(columns: "dict[str, pa.Array | pa.ChunkedArray]") -> "pa.Table":
    import pyarrow as pa

    return pa.table(columns)


def _binary(path: Path) -> IO[bytes]:
    # gzip.open in mode "rb" gives a GzipFile, which is a binary stream in all but its declared type
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _text_lines(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[return-value]
    return path.open(encoding="utf-8-sig", newline="")


def _open_csv(path: Path, skip: bool) -> Source:
    records = _csv_records(path)
    header = next(records, None)
    records.close()
    if header is None:
        raise VotesError(f"{path}: empty; expected a header line with model_a, model_b, winner")
    columns = tuple(name.strip() for name in header[1])
    _refuse_twins(str(path), columns)
    torn: dict[str, int] = {}

    def drop(row: Any) -> str:
        torn[TORN] = torn.get(TORN, 0) + 1
        return "skip"

    def read(chosen: list[str]) -> "pa.Table":
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        torn.clear()
        text = pa.dictionary(pa.int32(), pa.string())
        with _binary(path) as stream:
            try:
                return arrow_csv.read_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(column_names=list(columns), skip_rows=header[2]),
                    parse_options=arrow_csv.ParseOptions(
                        newlines_in_values=True, invalid_row_handler=drop if skip else None
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        include_columns=chosen, column_types=dict.fromkeys(chosen, text)
                    ),
                )
            except pa.ArrowInvalid as error:
                raise VotesError(_broken_csv(path, len(columns)) or f"{path}: {error}") from error

    return Source(str(path), columns, read, lambda row: f"{path}, line {_line_of(path, row)}", torn=torn)


def _csv_records(path: Path) -> Generator[tuple[int, list[str], int]]:
    """Yield (first line, fields, last line) of each record; a quoted field may run over several lines."""
    with _text_lines(path) as lines:
        reader, last = csv.reader(lines), 0
        for fields in reader:
            if fields:
                yield last + 1, fields, reader.line_num
            last = reader.line_num


def _line_of(path: Path, row: int) -> int:
    """Line in the file of the row-th record after the header: walked only when there is an error to tell."""
    return next(line for number, (line, _, _) in enumerate(_csv_records(path)) if number == row + 1)


def _broken_csv(path: Path, width: int) -> str | None:
    for line, fields, _ in _csv_records(path):
        if len(fields) != width:
            return f"{path}, line {line}: {len(fields)} fields where the header has {width}"
    return None


def _open_json(path: Path, skip: bool) -> Source:
    from elo.layouts import unfold

    with _text_lines(path) as text:
        try:
            document = json.load(text)
        except json.JSONDecodeError as error:
            raise VotesError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    rows, places, torn = unfold(path, document, skip)
    source = rows_source(str(path), rows, places)
    source.torn.update(torn)
    return source


def _open_jsonl(path: Path, skip: bool) -> Source:
    """Pass through the lines twice, for the names and for the chosen values; other text is let go at once."""
    from elo.layouts import is_nested, unfold

    torn: dict[str, int] = {}
    names: dict[str, None] = {}
    lines: list[int] = []
    for number, row in _jsonl_rows(path, skip, torn):
        if not lines and is_nested(row):
            found = [row for _, row in _jsonl_rows(path, skip, torn)]
            rows, places, unread = unfold(path, found, skip)
            source = rows_source(str(path), rows, places)
            unread[TORN] = unread.get(TORN, 0) + torn.get(TORN, 0)
            source.torn.update({TORN: unread[TORN]} if unread[TORN] else {})
            return source
        lines.append(number)
        names.update(dict.fromkeys(row))

    def read(chosen: list[str]) -> "pa.Table":
        rows = _jsonl_rows(path, skip, torn)
        values = ([_scalar(row.get(column)) for column in chosen] for _, row in rows)
        return from_batches(chosen, iter(lambda: list(itertools.islice(values, FETCH)), []))

    return Source(str(path), tuple(names), read, lambda row: f"{path}, line {lines[row]}", torn=torn)


def _jsonl_rows(path: Path, skip: bool, torn: dict[str, int]) -> Generator[tuple[int, dict[str, Any]]]:
    torn.clear()
    with _text_lines(path) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            row, problem = None, "expected one JSON object a line"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                problem = f"not JSON ({error.msg} at column {error.colno})"
            if isinstance(row, dict):
                yield number, row
            elif skip:
                torn[TORN] = torn.get(TORN, 0) + 1
            else:
                raise VotesError(f"{path}, line {number}: {problem}")


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def from_batches(columns: list[str], batches: Iterable[Sequence[Sequence[Any]]]) -> "pa.Table":
    """Rows in batches → a table in which each text is stored once."""
    import pyarrow as pa

    parts: list[list[pa.Array]] = [[] for _ in columns]
    for batch in batches:
        for part, values in zip(parts, zip(*batch, strict=True), strict=False):
            part.append(arrow(list(values)))
    whole = {}
    for column, part in zip(columns, parts, strict=True):
        kinds = {array.type for array in part if not pa.types.is_null(array.type)}
        if len(kinds) > 1:  # whole numbers in one batch, text in another
            part = [arrow([None if v is None else plain_text(v) for v in a.to_pylist()]) for a in part]
            kinds = {pa.string()}
        kind = kinds.pop() if kinds else pa.null()
        chunks = [array.cast(kind) for array in part]
        if pa.types.is_string(kind):
            chunks = [array.dictionary_encode() for array in chunks]
            kind = pa.dictionary(pa.int32(), pa.string())
        whole[column] = pa.chunked_array(chunks, type=kind)
    return pa.table(whole)


def _open_parquet(path: Path, skip: bool) -> Source:
    import pyarrow as pa
    from pyarrow import parquet

    def open_file(texts: list[str] | None = None) -> "parquet.ParquetFile":
        if path.suffix != ".gz":
            return parquet.ParquetFile(path, read_dictionary=texts, memory_map=True)
        with _binary(path) as stream:
            return parquet.ParquetFile(pa.BufferReader(stream.read()), read_dictionary=texts)

    try:
        schema = open_file().schema_arrow
    except pa.ArrowInvalid as error:
        raise VotesError(f"{path}: not a Parquet file ({error})") from error
    columns = tuple(schema.names)
    _refuse_twins(str(path), columns)
    kinds = {pa.string(), pa.large_string()}
    texts = {name for name in columns if schema.field(name).type in kinds}

    def read(chosen: list[str]) -> "pa.Table":
        table = open_file([name for name in chosen if name in texts]).read(columns=chosen)
        return table.select(chosen).replace_schema_metadata(None)

    return Source(str(path), columns, read, lambda row: f"{path}, row {row + 1}")


def _refuse_twins(name: str, columns: tuple[str, ...]) -> None:
    twins = sorted({column for column in columns if columns.count(column) > 1})
    if twins:
        raise VotesError(f"{name}: column {twins[0]!r} appears twice in the header")
