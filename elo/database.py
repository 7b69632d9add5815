"""Votes in a database: the view `votes_v1` of a study, read by column or counted in place."""

from pathlib import Path
from typing import TYPE_CHECKING

from elo.errors import VotesError
from elo.sources import FETCH, Source, from_batches

if TYPE_CHECKING:
    import pyarrow as pa

VIEW = "votes_v1"


def open_database(url: str) -> Source:
    """Open the view; raises VotesError with one line that holds no password."""
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
    view = sa.table(VIEW, *(sa.column(column) for column in found))

    def fetch(query: sa.Select, columns: list[str]) -> "pa.Table":
        try:
            with engine.connect() as connection:
                result = connection.execution_options(stream_results=True).execute(query)
                return from_batches(columns, result.partitions(FETCH))
        except sa.exc.SQLAlchemyError as error:
            raise VotesError(f"{name}: {str(error).splitlines()[0]}") from error

    def read(chosen: list[str]) -> "pa.Table":
        order = [view.c[column] for column in ("tstamp", "vote_id") if column in found]
        return fetch(sa.select(*(view.c[column] for column in chosen)).order_by(*order), chosen)

    def grouped(chosen: list[str]) -> "pa.Table":
        cells = [view.c[column] for column in chosen]
        query = sa.select(*cells, sa.func.count().label("count")).group_by(*cells)
        if {"vote_id", "supersedes"} <= set(found):
            later = sa.table(VIEW, sa.column("supersedes")).alias("later")
            replaced = sa.select(later.c.supersedes).where(later.c.supersedes.is_not(None))
            query = query.where(view.c.vote_id.not_in(replaced))
        return fetch(query.order_by(*cells), [*chosen, "count"])

    return Source(
        name, found, read, lambda row: f"{name}, row {row + 1} of {VIEW} by tstamp", grouped=grouped
    )


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
