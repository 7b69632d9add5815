"""Where the networks that measure compute."""

from __future__ import annotations

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
