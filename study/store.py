"""The database of a study: engine, transactions, migrations.

SQLite in the study folder by default, PostgreSQL by a URL. A transaction is either a `read` or a
`write`; writers that touch a voter take that voter's row first, so that a voter's own requests wait
for each other and nobody else's do (SQLite has one writer at a time anyway).
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from threading import Lock
from typing import IO, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 15
CONNECTIONS = 16  # kept open, as many as there are threads or more: further ones are closed after each use
IDLE_SECONDS = 5  # a connection that rested for so long is tried before it is used


class StoreError(RuntimeError):
    """A database that cannot be used; one line, without the password of its URL."""


@dataclass(frozen=True)
class Store:
    """One study's database and the folder of the images it serves."""

    engine: Engine
    served: Path
    turn: AbstractContextManager[Any]  # what is waited for before writing

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that changes nothing.

        It ends with COMMIT all the same: at a ROLLBACK psycopg forgets all statements that it prepared, and
        PostgreSQL would plan each anew.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back when anything is raised."""
        with (
            self.change() as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """The same for statements on tables alone, each of which a session would make dearer."""
        with (
            self.turn,
            self.engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if isinstance(self.turn, Turn):
            self.turn.close()


class Turn:
    """SQLite's one writer: threads and processes queue here and are woken in time; SQLite has them poll.

    Only among those who use it: SQLite itself sees to it that there is never more than one.
    """

    def __init__(self, path: Path) -> None:
        """`path` is of an empty file that the processes of a study lock."""
        self._path, self._threads = path, Lock()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> None:
        """Wait for the turn."""
        with ExitStack() as given_up:
            given_up.enter_context(self._threads)
            if self._file is None:
                self._file = self._path.open("ab")
            flock(self._file, LOCK_EX)
            given_up.pop_all()  # kept until __exit__

    def __exit__(self, *_: object) -> None:
        """Let the next one write."""
        assert self._file is not None  # noqa: S101 - opened on entering
        flock(self._file, LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


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
        engine = create_engine(address, pool_size=CONNECTIONS)
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
        _try_after_a_rest(engine)
        return Store(engine, folder / "served", nullcontext())
    _make_sqlite_safe(engine)
    return Store(engine, folder / "served", Turn(Path(f"{address.database}-turn")))


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


def _try_after_a_rest(engine: Engine) -> None:
    """Replace connections that broke while nobody used them; trying at each use would double the waiting."""

    @event.listens_for(engine, "checkin")
    def rest(_connection: Any, record: Any) -> None:
        record.info["since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def wake(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("since", time.monotonic()) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool takes another one


def migrate(store: Store, revision: str = "head") -> None:
    """Bring the tables to a revision, in one transaction.

    Raises
    ------
    StoreError
        If the database cannot be reached, or holds tables of a revision that is not known here.
    """
    config = _alembic()
    try:
        with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
            config.attributes["connection"] = connection
            current = _revision(store, connection)
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
    head = _known().get_current_head()
    try:
        with store.engine.connect() as connection:
            found = _revision(store, connection)
    except DBAPIError as error:
        raise StoreError(_unreachable(store, error)) from None
    if found != head:
        raise StoreError(
            f"database {_name(store)}: its tables are at revision {found or 'none'}, expected {head}; "
            "`study init` makes them, `study upgrade` brings older ones up to date"
        )


def _revision(store: Store, connection: Connection) -> str | None:
    """The revision of the tables that are there; None where there are none."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {script.revision for script in _known().walk_revisions()}:
        raise StoreError(
            f"database {_name(store)}: its tables are at revision {found}, unknown to this pairstudy; "
            "one that is newer, or from before the first release, made them and exports their votes; "
            "`study init` makes a new study in another folder"
        )
    return found


def _known() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic())


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _unreachable(store: Store, error: DBAPIError) -> str:
    return f"database {_name(store)}: {str(error.orig).strip().splitlines()[0]}"


def _name(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=True)
