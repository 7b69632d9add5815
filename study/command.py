"""What all commands of `study` share: the option --study, the study it names, errors of one line."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy.exc import OperationalError

from elo.options import BadInput
from study.config import ConfigError, Protocol, read_protocol
from study.exclusions import ExclusionError
from study.export import ExportError
from study.gallery import GalleryError
from study.invitations import InvitationError
from study.store import Store, StoreError, check_ready, open_store


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what the user can mend into one line and exit code 2; anything else is our mistake and shows."""
    from study.server import ServerError

    try:
        yield
    except (
        GalleryError,
        ConfigError,
        StoreError,
        ExportError,
        ExclusionError,
        InvitationError,
        ServerError,
    ) as error:
        raise BadInput(" ".join(str(error).split())) from error
    except OperationalError as error:
        raise BadInput(f"database: {str(error.orig).splitlines()[0]}") from error


def study_option(command: Callable[..., None]) -> Callable[..., None]:
    """The option --study, the same for every command."""
    return click.option(
        "--study",
        "folder",
        type=click.Path(path_type=Path),
        default=".",
        show_default="here",
        help="The study's folder.",
    )(command)


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Store, Protocol]]:
    """A study that exists: its store, with this version's tables, and its protocol."""
    with one_line_errors():
        protocol = read_protocol(folder)
        store = open_store(folder, os.environ.get("DATABASE_URL"))
        try:
            check_ready(store)
            yield store, protocol
        finally:
            store.close()
