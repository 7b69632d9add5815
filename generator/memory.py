"""Too little memory, of a GPU or of the machine: how it is told apart from other errors, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from generator.errors import InputError


def too_little(error: BaseException) -> bool:
    """Whether an error tells of too little memory; torch's allocator for CPUs has no class for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
    )


@contextmanager
def memory_told(batch_size: int) -> Iterator[None]:
    """InputError with what to do if there is too little memory for `batch_size` pictures at once."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not too_little(error):
            raise
        raise InputError(
            f"out of memory with {batch_size} pictures at once; give the same command again with a smaller "
            "--batch-size"
        ) from error
