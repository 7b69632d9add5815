"""The model and the methods that a command line names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from generator.errors import BadInput, one_line_errors

if TYPE_CHECKING:  # torch is imported by the commands that need it, so that --help is quick
    from generator.methods import Method
    from generator.models import BaseModel


def model_and_methods(
    model: str, names: list[str], weights: Path | None = None
) -> tuple[BaseModel, list[Method]]:
    """Find them; BadInput for what does not exist."""
    with one_line_errors():
        from generator.methods import all_methods
        from generator.models import find_model

        base, known = find_model(model, weights), all_methods()
    for name in names:
        if name not in known:
            raise BadInput(f"method {name!r}: unknown; expected one of {', '.join(known)}")
    return base, [known[name] for name in names]
