"""The command `elo plot`: pareto, bars.

Matplotlib is imported when a command runs.
"""

from typing import Any

import click

from elo.options import (
    echo_json,
    figure_options,
    one_line_errors,
    rating_options,
    reading_options,
    take_reading,
)


@click.group()
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
    """Plot rating against cost, with the Pareto front.

    Bars are 95 % intervals. Base models that were never compared with one another stand on panels of their
    own.

    \b
    Example:
      elo plot pareto votes.parquet --sizes gallery.json -o pareto.svg
    """
    with one_line_errors():
        from elo import panels, plots
        from elo.pareto import read_costs
        from elo.tables import compute as rate
        from elo.votes import read_votes

        plots.check_format(out)
        known = read_costs(costs, cost)
        parts = panels.components(read_votes(votes, **take_reading(options)))
        tables = [rate(part, **options) for part in parts]
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
def bars(votes: str, against: str, out: str, as_json: bool, **reading: Any) -> None:
    """Plot how often each method won, tied and lost against one of them.

    With base models that were never compared, --against fp16 means each one's own …/fp16.

    \b
    Example:
      elo plot bars votes.parquet --against fp16 -o bars.svg
    """
    with one_line_errors():
        from elo import bars as preference
        from elo import panels, plots
        from elo.tally import count_votes

        plots.check_format(out)
        counted = panels.split_counts(count_votes(votes, **reading))
        found = [
            preference.preferences(part, preference.find_against(part.names, against)) for part in counted
        ]
        axes = preference.bars_panels(found)
        told = {"against": [part.against for part in found], "interval": "95 % Wilson", "source": votes}
        plots.save_plot(axes[0], out, told)
        _told_of_plot(out, [part.records() for part in found] if as_json else None)


def _told_of_plot(out: str, panels: list[Any] | None) -> None:
    if panels is not None:
        echo_json({"panels": panels})
    click.echo(f"wrote {out}", err=True)
