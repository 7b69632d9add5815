"""The model and the methods that a command line names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.errors import BadInput, one_line_errors

if TYPE_CHECKING:  # torch is imported by the commands that need it, so that --help is quick
    from generator.methods import Method
    from generator.models import BaseModel

Command = Callable[..., None]


class Names(click.ParamType):
    """A,B,… → [A, B, …], each once."""

    name = "A,B,…"

    def convert(
        self, value: str | list[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """Take the names apart; whether there are such, the command finds out."""
        if isinstance(value, list):
            return value
        return list(dict.fromkeys(name.strip() for name in value.split(",")))


def model_options(command: Command) -> Command:
    """The options of a model, the same for every command that loads one."""
    for option in (
        click.option(
            "--calibrated",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="What calibrate, ptqd, allocate and train made [default: the user's data folder].",
        ),
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="The model's weights, instead of the hub's.",
        ),
        click.option("--model", default="shapes", show_default=True, help="An id, or a .toml file."),
    ):
        command = option(command)
    return command


def model_and_methods(
    model: str, names: list[str], weights: Path | None = None, calibrated: Path | None = None
) -> tuple[BaseModel, list[Method]]:
    """Find them; BadInput for what does not exist."""
    with one_line_errors():
        from generator.methods import all_methods
        from generator.models import find_model

        base, known = find_model(model, weights, calibrated), all_methods()
    for name in names:
        if name not in known:
            raise BadInput(f"method {name!r}: unknown; expected one of {', '.join(known)}")
    return base, [known[name] for name in names]
