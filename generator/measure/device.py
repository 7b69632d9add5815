"""Where the networks that measure compute, and what is told when its memory does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from generator.errors import InputError

CPU = torch.device("cpu")


def device_named(name: str | None) -> torch.device:
    """The device of that name; without one the first GPU if there is one, else the CPU.

    Raises:
        InputError: it is not here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


@contextmanager
def memory_told(batch_size: int) -> Iterator[None]:
    """InputError with what to do if the memory of the device is too small for `batch_size` pictures."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"out of memory with {batch_size} pictures at once; what is measured is kept: give the same "
            "command again with a smaller --batch-size"
        ) from error
