"""Where votes come from: CSV, JSONL, Parquet (each also .gz), a DataFrame, a database view.

A source is opened in two steps, so that only the columns that matter are ever loaded: first its
column names, then the chosen columns. Text columns (prompts, display settings) stay where they are.
"""

import csv
import gzip
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from elo.errors import VotesError

VIEW = "votes_v1"


@dataclass(frozen=True)
class Source:
    """A table that has been opened but not yet read.

    `name` is what messages call it, `columns` what it has, `read(columns)` loads some of them (rows in
    source order) and `place(row)` says where row 0, 1, … of that frame stands, in words a person can follow.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[list[str]], pd.DataFrame]
    place: Callable[[int], str]


def open_source(source: str | Path | pd.DataFrame) -> Source:
    """Open a path, a database URL or a DataFrame; raises VotesError with one line saying why not."""
    if isinstance(source, pd.DataFrame):
        return _open_frame(source)
    text = str(source)
    if "://" in text:
        return _open_database(text)
    path = Path(source)
    readers = {".csv": _open_csv, ".jsonl": _open_jsonl, ".parquet": _open_parquet}
    suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
    if suffix not in readers:
        raise VotesError(
            f"{path}: cannot tell its format by its name; expected .csv, .jsonl or .parquet (also with .gz), "
            "or a database URL such as sqlite:///votes.db"
        )
    try:
        return readers[suffix](path)
    except OSError as error:  # no such file, a folder, no permission, a torn .gz
        raise VotesError(f"{path}: {error.strerror or error}") from error
    except EOFError as error:
        raise VotesError(f"{path}: the compressed file ends too early") from error
    except UnicodeDecodeError as error:
        raise VotesError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _open_frame(frame: pd.DataFrame) -> Source:
    columns = tuple(str(column) for column in frame.columns)
    _refuse_twins("DataFrame", columns)

    def read(chosen: list[str]) -> pd.DataFrame:
        picked = frame.iloc[:, [columns.index(column) for column in chosen]]
        return picked.set_axis(chosen, axis=1).reset_index(drop=True)

    return Source("DataFrame", columns, read, lambda row: f"DataFrame, row {frame.index[row]!r}")


def _binary(path: Path) -> IO[bytes]:
    # gzip.open in mode "rb" gives a GzipFile, which is a binary stream in all but its declared type
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _text_lines(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[return-value]
    return path.open(encoding="utf-8-sig", newline="")


def _open_csv(path: Path) -> Source:
    records = _csv_records(path)
    header = next(records, None)
    records.close()
    if header is None:
        raise VotesError(f"{path}: empty; expected a header line with model_a, model_b, winner")
    columns = tuple(name.strip() for name in header[1])
    _refuse_twins(str(path), columns)

    def read(chosen: list[str]) -> pd.DataFrame:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        with _binary(path) as stream:
            try:
                table = arrow_csv.read_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(column_names=list(columns), skip_rows=header[2]),
                    parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                    convert_options=arrow_csv.ConvertOptions(
                        include_columns=chosen, column_types=dict.fromkeys(chosen, pa.string())
                    ),
                )
            except pa.ArrowInvalid as error:
                raise VotesError(_broken_csv(path, len(columns)) or f"{path}: {error}") from error
        return table.to_pandas()

    return Source(str(path), columns, read, lambda row: f"{path}, line {_line_of(path, row)}")


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


def _open_jsonl(path: Path) -> Source:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with _text_lines(path) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise VotesError(
                    f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})"
                ) from error
            if not isinstance(row, dict):
                raise VotesError(
                    f"{path}, line {number}: expected one JSON object a line, found {line.strip()[:40]}"
                )
            rows.append(row)
            lines.append(number)
    columns = tuple(dict.fromkeys(key for row in rows for key in row))

    def read(chosen: list[str]) -> pd.DataFrame:
        return pd.DataFrame(
            {column: [_scalar(row.get(column)) for row in rows] for column in chosen}, dtype=object
        )

    return Source(str(path), columns, read, lambda row: f"{path}, line {lines[row]}")


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _open_parquet(path: Path) -> Source:
    import pyarrow as pa
    from pyarrow import parquet

    with _binary(path) as stream:
        data = pa.BufferReader(stream.read())
    try:
        file = parquet.ParquetFile(data)
    except pa.ArrowInvalid as error:
        raise VotesError(f"{path}: not a Parquet file ({error})") from error
    columns = tuple(file.schema_arrow.names)
    _refuse_twins(str(path), columns)
    return Source(
        str(path),
        columns,
        lambda chosen: file.read(columns=chosen).to_pandas(ignore_metadata=True),
        lambda row: f"{path}, row {row + 1}",
    )


def _open_database(url: str) -> Source:
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
        name = parsed.render_as_string(hide_password=True)
        # SQLite would make an empty database of a mistyped path, and leave it there.
        file = parsed.database or ""
        if parsed.get_backend_name() == "sqlite" and not (file.startswith("file:") or Path(file).is_file()):
            raise VotesError(f"{name}: no such database file")
        engine = sa.create_engine(parsed, poolclass=sa.NullPool)
        found = tuple(column["name"] for column in sa.inspect(engine).get_columns(VIEW))
    except sa.exc.NoSuchTableError as error:
        raise VotesError(f"{name}: has no view {VIEW}; is it the database of a study?") from error
    except sa.exc.SQLAlchemyError as error:
        raise VotesError(f"{_without_password(url)}: {str(error).splitlines()[0]}") from error
    except ModuleNotFoundError as error:
        raise VotesError(f"{name}: needs the Python package {error.name}, which is not installed") from error

    def read(chosen: list[str]) -> pd.DataFrame:
        view = sa.table(VIEW, *(sa.column(column) for column in found))
        order = [view.c[column] for column in ("tstamp", "vote_id") if column in found]
        query = sa.select(*(view.c[column] for column in chosen)).order_by(*order)
        try:
            with engine.connect() as connection:
                rows = connection.execute(query).fetchall()
        except sa.exc.SQLAlchemyError as error:
            raise VotesError(f"{name}: {str(error).splitlines()[0]}") from error
        return pd.DataFrame(rows, columns=chosen, dtype=object)

    return Source(name, found, read, lambda row: f"{name}, row {row + 1} of {VIEW} by tstamp")


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _refuse_twins(name: str, columns: tuple[str, ...]) -> None:
    twins = sorted({column for column in columns if columns.count(column) > 1})
    if twins:
        raise VotesError(f"{name}: column {twins[0]!r} appears twice in the header")
