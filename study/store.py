"""The database of a study: engine, transactions, migrations.

SQLite in the study folder by default, PostgreSQL by a URL. A transaction is either a `read` or a
`write`; writers that touch a voter take that voter's row first, so that a voter's own requests wait
for each other and nobody else's do (SQLite has one writer at a time anyway).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 15


class StoreError(RuntimeError):
    """A database that cannot be used; one line, without the password of its URL."""


@dataclass(frozen=True)
class Store:
    """One study's database and the folder of the images it serves."""

    engine: Engine
    served: Path
    turn: AbstractContextManager[Any]  # what a thread waits for before it writes

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that changes nothing."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back when anything is raised."""
        with (
            self.turn,
            self.engine.connect().execution_options(writes=True) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_store(folder: str | Path, url: str | None = None) -> Store:
    """The store of a study folder; `url` (DATABASE_URL) takes the place of FOLDER/study.db.

    Raises
    ------
    StoreError
        If the URL cannot be understood.
    """
    folder = Path(folder).resolve()
    try:
        address = make_url(url) if url else make_url("sqlite://").set(database=str(folder / "study.db"))
        if address.drivername in ("postgres", "postgresql"):
            address = address.set(drivername="postgresql+psycopg")
        engine = create_engine(address, pool_pre_ping=address.get_backend_name() != "sqlite")
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(f"DATABASE_URL: {str(error).splitlines()[0]}") from None
    except ModuleNotFoundError as error:
        raise StoreError(
            f"DATABASE_URL: {error}; `pip install pairstudy[postgres]` brings the driver"
        ) from None
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise StoreError(
            f"DATABASE_URL: {engine.dialect.name} is not supported; expected sqlite or postgresql"
        )
    if engine.dialect.name == "postgresql":
        return Store(engine, folder / "served", nullcontext())
    _make_sqlite_safe(engine)
    # SQLite's one writer: threads of a process queue here, woken in time; SQLite itself would have them poll.
    return Store(engine, folder / "served", Lock())


def _make_sqlite_safe(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy, not the driver, begins transactions
        for pragma in (
            f"busy_timeout = {BUSY_SECONDS * 1000}",
            "journal_mode = WAL",
            "synchronous = FULL",  # a vote that was acknowledged survives a power cut
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer queues at the start: a reader that turns writer midway may be refused by SQLite.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(store: Store, revision: str = "head") -> None:
    """Bring the tables to a revision, in one transaction.

    Raises
    ------
    StoreError
        If the database cannot be reached.
    """
    config = _alembic()
    try:
        with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
            config.attributes["connection"] = connection
            current = MigrationContext.configure(connection).get_current_revision()
            (command.downgrade if _is_behind(revision, current) else command.upgrade)(config, revision)
    except DBAPIError as error:
        raise StoreError(_unreachable(store, error)) from None


def _is_behind(revision: str, current: str | None) -> bool:
    return revision == "base" or (revision.isdigit() and current is not None and revision < current)


def check_ready(store: Store) -> None:
    """Make sure that the database answers and has this version's tables.

    Raises
    ------
    StoreError
        With what to do about it.
    """
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    try:
        with store.engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise StoreError(_unreachable(store, error)) from None
    if found != head:
        raise StoreError(
            f"database {_name(store)}: its tables are at revision {found or 'none'}, expected {head}; "
            "`study init` makes them, `study upgrade` brings older ones up to date"
        )


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _unreachable(store: Store, error: DBAPIError) -> str:
    return f"database {_name(store)}: {str(error.orig).strip().splitlines()[0]}"


def _name(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=True)
