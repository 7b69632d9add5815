"""Votes in a database: the view `votes_v1` of a study, read by column, counted in place, or streamed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elo.errors import VotesError
from elo.sources import FETCH, Source, from_batches

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

VIEW = "votes_v1"


@dataclass(frozen=True)
class Database:
    """A database with the view.

    source   reads columns, as of a file
    grouped  lists of columns → a table each, one row for each combination of values, with its number of
             votes in the column `count` and how many of them have a time in `timed`; all of one moment
    stream   columns → rows in order of time, in batches
    derived  columns that the database makes of others: `superseded`, true where a later vote says so
    """

    source: Source
    grouped: "Callable[[Sequence[list[str]]], list[pa.Table]]"
    stream: Callable[[list[str]], Iterator[Sequence[Any]]]
    derived: tuple[str, ...]


def open_database(url: str) -> Database:
    """Open the view; raises VotesError with one line that holds no password."""
    import sqlalchemy as sa

    engine, name, found = _connect(url)
    view = sa.table(VIEW, *(sa.column(column) for column in found))
    known: dict[str, Any] = {column: view.c[column] for column in found}
    derived: tuple[str, ...] = ()
    if {"vote_id", "supersedes"} <= set(found):
        later = sa.table(VIEW, sa.column("supersedes")).alias("later")
        replaced = sa.select(later.c.supersedes).where(later.c.supersedes.is_not(None))
        known["superseded"], derived = view.c.vote_id.in_(replaced), ("superseded",)

    def columns(chosen: list[str]) -> list[Any]:
        return [known[column].label(column) for column in chosen]

    @contextmanager
    def reading() -> "Iterator[sa.Connection]":
        """Connect so that all statements see the votes of one moment, whoever votes meanwhile."""
        try:
            with engine.connect() as connection:
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN")
                elif engine.dialect.name == "postgresql":
                    connection.execution_options(isolation_level="REPEATABLE READ")
                yield connection.execution_options(stream_results=True)
        except sa.exc.SQLAlchemyError as error:
            raise VotesError(f"{name}: {str(error).splitlines()[0]}") from error

    def stream(chosen: list[str]) -> Iterator[Sequence[Any]]:
        order = [view.c[column] for column in ("tstamp", "vote_id") if column in found]
        with reading() as connection:
            yield from connection.execute(sa.select(*columns(chosen)).order_by(*order)).partitions(FETCH)

    def grouped(groupings: Sequence[list[str]]) -> "list[pa.Table]":
        time = view.c.tstamp if "tstamp" in found else sa.null()
        tables = []
        with reading() as connection:
            for chosen in groupings:
                rows = sa.select(*columns(chosen), time.label("time of the vote")).subquery()
                cells = [rows.c[column] for column in chosen]
                query = sa.select(*cells, sa.func.count(), sa.func.count(rows.c["time of the vote"]))
                result = connection.execute(query.group_by(*cells).order_by(*cells))
                tables.append(from_batches([*chosen, "count", "timed"], result.partitions(FETCH)))
        return tables

    def read(chosen: list[str]) -> "pa.Table":
        return from_batches(chosen, stream(chosen))

    source = Source(name, found, read, lambda row: f"{name}, row {row + 1} of {VIEW} by tstamp")
    return Database(source, grouped, stream, derived)


def _connect(url: str) -> "tuple[sa.Engine, str, tuple[str, ...]]":
    """The engine, the address without its password, and the columns of the view."""
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
        name = parsed.render_as_string(hide_password=True)
        # SQLite would make an empty database of a mistyped path, and leave it there.
        file = parsed.database or ""
        if parsed.get_backend_name() == "sqlite" and not (file.startswith("file:") or Path(file).is_file()):
            raise VotesError(f"{name}: no such database file")
        if parsed.drivername in ("postgres", "postgresql"):  # the driver that comes with pairstudy[postgres]
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, poolclass=sa.NullPool)
        return engine, name, tuple(column["name"] for column in sa.inspect(engine).get_columns(VIEW))
    except sa.exc.NoSuchTableError as error:
        raise VotesError(f"{name}: has no view {VIEW}; is it the database of a study?") from error
    except sa.exc.SQLAlchemyError as error:
        raise VotesError(f"{_without_password(url)}: {str(error).splitlines()[0]}") from error
    except ModuleNotFoundError as error:
        raise VotesError(f"{name}: needs the Python package {error.name}, which is not installed") from error


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
