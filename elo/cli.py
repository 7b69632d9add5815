"""The command `elo`: compute, plot pareto, plot bars, compare.

Only wires: every command reads, calls one function and writes. Pandas, SciPy and Matplotlib are imported
when a command runs, so that `--help` answers at once.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from elo.errors import InputError


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


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say how VOTES is read."""
    options = [
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
    ]
    for option in reversed(options):
        command = option(command)
    return command


def figure_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every figure."""
    out = click.Path()
    command = click.option("--json", "as_json", is_flag=True, help="Print the numbers too, as JSON.")(command)
    return click.option(
        "-o", "--out", type=out, required=True, metavar="FILE", help="Write .svg, .pdf or .png."
    )(command)


def rating_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say how votes become ratings, shared by every command that rates."""
    options = [
        click.option(
            "--method",
            type=click.Choice(["bradley-terry", "davidson", "rao-kupper", "elo"]),
            default="bradley-terry",
            show_default=True,
            help="Fitted, with ties as half wins or as outcomes of their own; or one pass in vote order.",
        ),
        click.option("--side", is_flag=True, help="Also fit what standing on the left is worth."),
        click.option(
            "--prior",
            type=float,
            default=0,
            show_default=True,
            metavar="VOTES",
            help="Votes added to every pair that met, half a win for each; 0.5 gives all a finite rating.",
        ),
        click.option("--k", type=float, default=32, show_default=True, help="Step of the sequential Elo."),
        click.option("--base", type=float, default=1000, show_default=True, help="Mean of the ratings."),
        click.option(
            "--scale", type=float, default=400, show_default=True, help="Points for odds of 10 : 1."
        ),
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
    ]
    for option in reversed(options):
        command = option(command)
    return reading_options(command)


@click.group()
def cli() -> None:
    """Ratings from pairwise votes, with honest uncertainty.

    VOTES is a CSV, JSONL or Parquet file (each also .gz) with the columns model_a (the left image),
    model_b and winner, or the URL of a database (its view votes_v1).
    """


@cli.command()
@click.argument("votes")
@rating_options
@click.option("--sizes", type=click.Path(), help="gallery.json, or a CSV with method,size_bytes.")
@click.option("--by", type=click.Choice(["category"]), help="One table for each category of prompts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--out", type=click.Path(), metavar="FILE", help="Also write .csv, .json, .md, .tex or .html.")
def compute(
    votes: str, sizes: str | None, by: str | None, as_json: bool, out: str | None, **options: Any
) -> None:
    """Rate the methods in VOTES.

    \b
    Example:
      elo compute votes.parquet --anchor fp16=1000 --sizes gallery.json --out ratings.tex
    """
    with one_line_errors():
        from elo import formats

        if out:
            formats.writer(out)  # a wrong suffix is known before the work
        if by:
            _compute_by(votes, sizes, by, as_json, out, options)
            return
        table = _rate(votes, sizes, options)
        if out:
            formats.write_table(table, out)
        if as_json:
            click.echo(formats.to_json(table), nl=False)
        else:
            tty = sys.stdout.isatty()
            width = shutil.get_terminal_size().columns if tty else None
            click.echo(formats.to_terminal(table, width=width, color=tty), nl=False)
        if out:
            click.echo(f"wrote {out}", err=True)


def _compute_by(
    votes: str, sizes: str | None, by: str, as_json: bool, out: str | None, options: dict[str, Any]
) -> None:
    import json

    from elo import formats
    from elo.pareto import read_sizes
    from elo.tables import compute_by

    if out and not out.endswith(".json"):
        raise BadInput(f"{out}: several tables (--by) go into one .json file")
    known = read_sizes(sizes) if sizes else None
    read = _read(votes, options)
    tables = compute_by(read, by, sizes=known, **options)
    document = {"by": by, "tables": {name: json.loads(formats.to_json(t)) for name, t in tables.items()}}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if out:
        formats.replace_file(out, text.encode())
    if as_json:
        click.echo(text, nl=False)
    else:
        for name, table in tables.items():
            click.echo(f"{by} {name}")
            click.echo(formats.to_terminal(table, width=None, color=sys.stdout.isatty()))
    if out:
        click.echo(f"wrote {out}", err=True)


@cli.command()
@click.argument("votes")
@click.option("--question", help="Which question to look at, where the votes have several.")
@click.option("--map", "column_map", type=Pairs("OURS=THEIRS,…", str, many=True), help="Columns by name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def raters(votes: str, question: str | None, column_map: dict[str, str] | None, as_json: bool) -> None:
    """Describe the people behind VOTES: speed, sides, repeats, and who stands out.

    \b
    Example:
      elo raters votes.parquet
    """
    with one_line_errors():
        from elo.raters import raters as describe
        from elo.raters import read_answers, to_json, to_terminal
        from elo.votes import read_votes

        read = read_votes(votes, column_map=column_map, question=question)
        found = describe(read, read_answers(votes, column_map))
        click.echo(to_json(found) if as_json else to_terminal(found), nl=False)


@cli.command()
@click.option("--gap", type=float, help="Elo points that two methods are apart.")
@click.option("--votes", type=int, help="Votes on each pair.")
@click.option("--power", type=float, help="Chance to find the gap.  [default: 0.8]")
@click.option(
    "--alpha", type=float, default=0.05, show_default=True, help="Two-sided chance of a false find."
)
@click.option("--ties", type=float, default=0, show_default=True, help="Share of votes that are ties.")
@click.option(
    "--design-effect",
    type=float,
    default=1,
    show_default=True,
    help="How many times judges who differ widen the variance (elo compute --json tells it).",
)
@click.option("--methods", type=int, default=2, show_default=True, help="Methods, all pairs alike.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
def plan(as_json: bool, **options: Any) -> None:
    """Tell the votes a gap needs, the gap some votes can show, or the power of both.

    \b
    Example:
      elo plan --gap 30 --ties 0.15 --methods 6
    """
    with one_line_errors():
        import json
        from dataclasses import asdict

        from elo.planning import plan as solve

        found = solve(**options)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        click.echo(
            f"{found.votes} votes on each pair ({found.total} in all, {found.methods} methods) find a gap of "
            f"{found.gap:.4g} Elo points with power {found.power:.3g} at alpha {found.alpha:g}, two-sided; "
            f"{found.ties:.0%} ties, design effect {found.design_effect:g}."
        )


@cli.group()
def plot() -> None:
    """Draw the ratings."""


@plot.command()
@click.argument("votes")
@click.option(
    "--sizes",
    "costs",
    type=click.Path(),
    required=True,
    help="gallery.json, or a CSV with method and the cost.",
)
@click.option(
    "--cost",
    default="size_bytes",
    show_default=True,
    metavar="COLUMN",
    help="Which cost of that file: size_bytes, latency_ms, …",
)
@figure_options
@rating_options
def pareto(votes: str, costs: str, cost: str, out: str, as_json: bool, **options: Any) -> None:
    """Plot rating against cost, with 95 % intervals and the Pareto front.

    Base models that were never compared with one another stand on panels of their own.

    \b
    Example:
      elo plot pareto votes.parquet --sizes gallery.json -o pareto.svg
    """
    with one_line_errors():
        from elo import panels, plots
        from elo.pareto import read_costs
        from elo.tables import compute

        plots.check_format(out)
        known = read_costs(costs, cost)
        parts = panels.components(_read(votes, options))
        tables = [compute(part, **options) for part in parts]
        axes = plots.pareto_panels(tables, known, cost=cost)
        plots.save_plot(axes[0], out, {"panels": [table.settings for table in tables]})
        _told_of_plot(out, [plots.pareto_record(table, known, cost) for table in tables] if as_json else None)
    for note in dict.fromkeys(note for table in tables for note in table.notes):
        click.echo(f"• {note}", err=True)


@plot.command()
@click.argument("votes")
@click.option(
    "--against", default="fp16", show_default=True, metavar="METHOD", help="The method the others met."
)
@figure_options
@reading_options
def bars(votes: str, against: str, out: str, as_json: bool, **options: Any) -> None:
    """Plot how often each method won, tied and lost against one of them.

    With base models that were never compared, --against fp16 means each one's own …/fp16.

    \b
    Example:
      elo plot bars votes.parquet --against fp16 -o bars.svg
    """
    with one_line_errors():
        from elo import bars as preference
        from elo import panels, plots
        from elo.votes import count_votes

        plots.check_format(out)
        counted = panels.split_counts(count_votes(votes, **options))
        found = [
            preference.preferences(part, preference.find_against(part.names, against)) for part in counted
        ]
        axes = preference.bars_panels(found)
        told = {"against": [part.against for part in found], "interval": "95 % Wilson", "source": votes}
        plots.save_plot(axes[0], out, told)
        _told_of_plot(out, [part.records() for part in found] if as_json else None)


def _told_of_plot(out: str, panels: list[Any] | None) -> None:
    if panels is not None:
        _echo_json({"panels": panels})
    click.echo(f"wrote {out}", err=True)


def _echo_json(document: Any) -> None:
    import json

    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


@cli.command()
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option(
    "--bootstrap",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    metavar="ROUNDS",
    help="Rounds of the bootstrap of the differences.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Its seed.")
@reading_options
def compare(before: str, after: str, as_json: bool, bootstrap: int, seed: int, **options: Any) -> None:
    """Say what changed between two dumps of votes, and whether it means anything.

    \b
    Example:
      elo compare monday.parquet friday.parquet
    """
    with one_line_errors():
        from elo import compare as comparison
        from elo.votes import read_votes

        one, two = (read_votes(votes, **options) for votes in (before, after))
        found = comparison.compare(one, two, bootstrap=bootstrap, seed=seed)
        if as_json:
            _echo_json(found.record())
        else:
            click.echo(comparison.to_terminal(found), nl=False)


def _read(votes: str, options: dict[str, Any]) -> Any:
    """Read VOTES with the reading options, which are taken out of `options`."""
    from elo.votes import read_votes

    return read_votes(votes, **{name: options.pop(name) for name in ("column_map", "question", "on_error")})


def _rate(votes: str, sizes: str | None, options: dict[str, Any]) -> Any:
    from elo.pareto import read_sizes
    from elo.tables import compute

    known = read_sizes(sizes) if sizes else None
    read = _read(votes, options)
    return compute(read, sizes=known, **options)
