"""What the commands share: how VOTES is read, how votes become ratings, and how bad input is told."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from elo.errors import InputError

Command = Callable[..., None]


class BadInput(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what the user can mend into one line and exit code 2; anything else is our mistake and shows."""
    try:
        yield
    except InputError as error:
        raise BadInput(" ".join(str(error).split())) from error
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error


class Pairs(click.ParamType):
    """NAME=VALUE → {NAME: read(VALUE)}; with `many`, several of them with commas between."""

    def __init__(self, name: str, read: Callable[[str], Any], *, many: bool = False) -> None:
        """`name` is the form that help and errors show."""
        self.name, self.read, self.many = name, read, many

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Parse the text of the option; a name may itself contain "="."""
        if isinstance(value, dict):
            return value
        pairs = {}
        for part in value.split(",") if self.many else [value]:
            name, equals, text = part.rpartition("=")
            try:
                pairs[name.strip()] = self.read(text.strip())
            except ValueError:
                equals = ""
            if not (name.strip() and equals):
                raise BadInput(f"{param.opts[0] if param else ''} {value}: expected {self.name}")
        return pairs


def _all(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help text."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")

reading_options = _all(
    click.option("--question", help="Which question to rate, where the votes have several."),
    click.option(
        "--map",
        "column_map",
        type=Pairs("OURS=THEIRS,…", str, many=True),
        help="Columns by name: model_a=left_image,judge=who.",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="At a row that cannot be read: stop, or leave it out and count it.",
    ),
)

figure_options = _all(
    click.option(
        "-o", "--out", type=click.Path(), required=True, metavar="FILE", help="Write .svg, .pdf or .png."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the numbers too, as JSON."),
)

model_options = _all(
    click.option("--side", is_flag=True, help="Also fit what standing on the left is worth."),
    click.option(
        "--prior",
        type=float,
        default=0,
        show_default=True,
        metavar="VOTES",
        help="Votes added to every pair that met, half a win for each; 0.5 gives all a finite rating.",
    ),
)

rating_options = _all(
    click.option(
        "--method",
        type=click.Choice(["bradley-terry", "davidson", "rao-kupper", "elo"]),
        default="bradley-terry",
        show_default=True,
        help="Fitted, with ties as half wins or as outcomes of their own; or one pass in vote order.",
    ),
    model_options,
    click.option("--k", type=float, default=32, show_default=True, help="Step of the sequential Elo."),
    click.option("--base", type=float, default=1000, show_default=True, help="Mean of the ratings."),
    click.option("--scale", type=float, default=400, show_default=True, help="Points for odds of 10 : 1."),
    click.option(
        "--anchor",
        type=Pairs("NAME=RATING", float),
        help="Fix one method instead of the mean, such as FP16=1000.",
    ),
    click.option(
        "--bootstrap",
        type=click.IntRange(min=0),
        default=1000,
        show_default=True,
        metavar="ROUNDS",
        help="Rounds of the bootstrap, for the chance to be best and the Pareto front; 0: none.",
    ),
    click.option(
        "--cluster",
        type=click.Choice(["auto", "vote", "judge", "prompt", "both"]),
        default="auto",
        show_default=True,
        help="Whom the intervals count; auto: every one of judge and prompt with 20 or more, else votes.",
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap."
    ),
    reading_options,
)


def take_reading(options: dict[str, Any]) -> dict[str, Any]:
    """Take the reading options out of all options of a command."""
    return {name: options.pop(name) for name in ("column_map", "question", "on_error")}


def echo_json(document: Any) -> None:
    """Print JSON on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
