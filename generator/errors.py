"""What the user can mend, and how the commands tell it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from study.gallery import GalleryError


class InputError(ValueError):
    """What was given cannot be used; the message is one line and names the place."""


class BadInput(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what the user can mend into one line and exit code 2; anything else is our mistake and shows."""
    from qsched.coefficients import CoefficientsError  # takes SciPy along
    from qsched.journal import JournalError

    try:
        yield
    except (InputError, GalleryError, CoefficientsError, JournalError) as error:
        raise BadInput(" ".join(str(error).split())) from error
    except OSError as error:  # a folder that cannot be written, a full disk
        raise BadInput(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed: pip install 'pairstudy[generate]'") from error
