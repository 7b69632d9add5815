"""The command `elo`: compute, raters, robustness, anytime, plan, compare, and plot from `elo.plot_cli`.

Only wires: every command reads, calls one function and writes. Pandas, SciPy and Matplotlib are imported
when a command runs, so that `--help` answers at once.
"""

import shutil
import sys
from typing import Any

import click

from elo.options import (
    BadInput,
    echo_json,
    json_option,
    model_options,
    one_line_errors,
    rating_options,
    reading_options,
    take_reading,
)
from elo.plot_cli import plot


@click.group()
@click.version_option(package_name="pairstudy")
def cli() -> None:
    """Ratings from pairwise votes, with honest uncertainty.

    VOTES is a CSV, JSONL or Parquet file (each also .gz) with the columns model_a (the left image),
    model_b and winner, or the URL of a database (its view votes_v1).
    """


cli.add_command(plot)


@cli.command()
@click.argument("votes")
@rating_options
@click.option("--sizes", type=click.Path(), help="gallery.json, or a CSV with method,size_bytes.")
@click.option("--by", type=click.Choice(["category"]), help="One table for each category of prompts.")
@click.option(
    "--policies", type=click.Path(), metavar="FILE", help="Also rate under each of these rules (see above)."
)
@json_option
@click.option("--out", type=click.Path(), metavar="FILE", help="Also write .csv, .json, .md, .tex or .html.")
def compute(
    votes: str,
    sizes: str | None,
    by: str | None,
    policies: str | None,
    as_json: bool,
    out: str | None,
    **options: Any,
) -> None:
    """Rate the methods in VOTES.

    \b
    Examples:
      elo compute votes.parquet --anchor fp16=1000 --sizes gallery.json --out ratings.tex
      elo compute votes.parquet --policies policies.toml

    \b
    --policies reads a TOML file with a table for each way to leave out votes:
      [careful]
      min_rt_ms = 500            # votes that took at least so long (max_rt_ms: at most)
      late = false               # none that came after its lease had run out
      categories = ["people"]    # votes on such prompts only
      sources = ["prolific"]     # votes of people from there only
      min_golds_right = 0.8      # judges with such a share of control questions right
      min_repeats_same = 0.6     # judges who answered such a share of repeats as before
      min_side_p = 0.01          # judges whose left/right split is no stranger than that
      min_votes = 20             # judges with at least so many votes left

    It prints the ratings under each policy, and every claim that does not stand under all of them.
    """
    with one_line_errors():
        from elo import formats
        from elo.pareto import read_sizes
        from elo.tables import compute as rate
        from elo.tally import read_tally
        from elo.terminal import to_terminal

        if by and policies:
            raise BadInput("--by and --policies: one of them at a time")
        if out and (by or policies) and not out.endswith(".json"):
            raise BadInput(f"{out}: several tables ({'--by' if by else '--policies'}) go into one .json file")
        if out:
            formats.writer(out)  # a wrong suffix is known before the work
        options["sizes"] = read_sizes(sizes) if sizes else None
        if by or policies:
            document, text = _by(votes, by, options) if by else _policies(votes, str(policies), options)
            if out:
                formats.replace_file(out, formats.dumps(document).encode())
            if as_json:
                text = formats.dumps(document)
        else:
            table = rate(read_tally(votes, **take_reading(options)), **options)
            if out:
                formats.write_table(table, out)
            tty = sys.stdout.isatty()
            width = shutil.get_terminal_size().columns if tty else None
            text = formats.to_json(table) if as_json else to_terminal(table, width=width, color=tty)
    click.echo(text, nl=False)
    if out:
        click.echo(f"wrote {out}", err=True)


def _by(votes: str, by: str, options: dict[str, Any]) -> tuple[Any, str]:
    """One table for each category: for JSON, and as text."""
    from elo import formats
    from elo.tables import compute_by
    from elo.terminal import to_terminal
    from elo.votes import read_votes

    tables = compute_by(read_votes(votes, **take_reading(options)), by, **options)
    text = "\n".join(f"{by} {name}\n{to_terminal(table)}" for name, table in tables.items())
    return {"by": by, "tables": {name: formats.record(table) for name, table in tables.items()}}, text


def _policies(votes: str, policies: str, options: dict[str, Any]) -> tuple[Any, str]:
    """One table for each policy: for JSON, and as text."""
    from elo import policies as rules
    from elo.answers import read_answers
    from elo.multiverse import multiverse, to_terminal
    from elo.votes import read_votes

    chosen = rules.read_policies(policies)
    reading = take_reading(options)
    read = read_votes(votes, **reading, also=rules.columns_needed(chosen))
    answers = read_answers(votes, **reading) if rules.answers_needed(chosen) else None
    found = multiverse(read, chosen, answers, **options)
    return found.record(), to_terminal(found)


@cli.command()
@click.argument("votes")
@reading_options
@json_option
def raters(votes: str, as_json: bool, **reading: Any) -> None:
    """Describe the people behind VOTES.

    Speed, sides, repeats, control questions, agreement, and who stands out.

    \b
    Example:
      elo raters votes.parquet
    """
    with one_line_errors():
        from elo.answers import read_answers
        from elo.raters import raters as describe
        from elo.raters import to_terminal
        from elo.votes import read_votes

        found = describe(read_votes(votes, **reading), read_answers(votes, **reading))
        if as_json:
            echo_json(found.record())
        else:
            click.echo(to_terminal(found), nl=False)


@cli.command()
@click.argument("votes")
@click.argument("pair", nargs=-1, metavar="[METHOD METHOD]")
@click.option(
    "--method",
    type=click.Choice(["bradley-terry", "davidson", "rao-kupper"]),
    default="bradley-terry",
    show_default=True,
    help="Ties as half wins or as outcomes of their own.",
)
@model_options
@reading_options
@json_option
def robustness(votes: str, pair: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Tell what the ranking in VOTES hangs on.

    How few votes turn a claim, and which judge moves what. Claims are that each method rates above the
    next one, or that one of two METHODs rates above the other.

    \b
    Example:
      elo robustness votes.parquet
      elo robustness votes.parquet qsched-w4a8 w4a8
    """
    with one_line_errors():
        from elo.stability import stability, to_terminal
        from elo.tally import read_tally

        if len(pair) not in {0, 2}:
            raise BadInput(f"{' '.join(pair)}: expected two methods, or none")
        found = stability(read_tally(votes, **take_reading(options)), pair or None, **options)
        if as_json:
            echo_json(found.record())
        else:
            click.echo(to_terminal(found), nl=False)


@cli.command()
@click.argument("votes")
@click.argument("first")
@click.argument("second")
@click.option(
    "--alpha",
    type=float,
    default=0.05,
    show_default=True,
    help="Chance of ever claiming a difference where there is none.",
)
@reading_options
@json_option
def anytime(votes: str, first: str, second: str, alpha: float, as_json: bool, **reading: Any) -> None:
    """Tell whether a study of two methods may stop.

    Each judge is one bet on what they prefer. The evidence holds at every look, however many there are,
    as long as judges who are still at work are left out.

    \b
    Example:
      elo anytime votes.parquet qsched-w4a8 w4a8
    """
    with one_line_errors():
        from elo.anytime import compare_anytime
        from elo.votes import read_votes

        found = compare_anytime(read_votes(votes, **reading), first, second, alpha=alpha)
        if as_json:
            echo_json(found.record())
        else:
            click.echo("\n".join(found.sentences()))


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
@json_option
def plan(as_json: bool, **options: Any) -> None:
    """Tell how many votes a claim needs.

    Or the gap that some votes can show, or the power to find a gap with them.

    \b
    Example:
      elo plan --gap 30 --ties 0.15 --methods 6
    """
    with one_line_errors():
        from dataclasses import asdict

        from elo.planning import plan as solve

        found = solve(**options)
        if as_json:
            echo_json(asdict(found))
        else:
            click.echo(found.sentence())


@cli.command()
@click.argument("votes")
@click.argument("after", required=False)
@click.option("--metrics", type=click.Path(), metavar="FILE", help="Automatic metrics, instead of AFTER.")
@click.option(
    "--lower", default="", metavar="NAME,…", help="Metrics, besides LPIPS, FID, …: lower is better."
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    metavar="ROUNDS",
    help="Rounds of the bootstrap of differences, or of rank correlations.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Its seed.")
@reading_options
@json_option
@click.option("--out", type=click.Path(), metavar="FILE", help="Also write the metrics to .csv or .json.")
def compare(
    votes: str,
    after: str | None,
    metrics: str | None,
    lower: str,
    as_json: bool,
    out: str | None,
    **options: Any,
) -> None:
    """Compare VOTES with later votes, or with automatic metrics.

    With AFTER: what changed between two dumps, and whether it means anything, or is chance. With --metrics:
    how often each metric prefers the image that people chose, and how alike both rank the methods.

    \b
    Examples:
      elo compare monday.parquet friday.parquet
      elo compare votes.parquet --metrics metrics.parquet --out agreement.csv

    \b
    Metrics are CSV, JSONL or Parquet (each also .gz), one row a number or one row an image:
      method,prompt_id,metric,value
      method,prompt_id,clipscore,lpips
    """
    with one_line_errors():
        if bool(after) == bool(metrics):
            raise BadInput("compare: expected a second file of votes, or --metrics FILE")
        if (lower or out) and not metrics:
            raise BadInput(f"{'--lower' if lower else '--out'}: only with --metrics")
        reading = take_reading(options)
        found, text = (
            _metrics(votes, metrics, lower, out, reading, options)
            if metrics
            else _change(votes, str(after), reading, options)
        )
        if as_json:
            echo_json(found)
        else:
            click.echo(text, nl=False)
    if out:
        click.echo(f"wrote {out}", err=True)


def _change(before: str, after: str, reading: dict[str, Any], options: dict[str, Any]) -> tuple[Any, str]:
    """Two dumps of votes compared: for JSON, and as text."""
    from elo.compare import compare as compare_votes
    from elo.compare import to_terminal
    from elo.votes import read_votes

    one, two = (read_votes(votes, **reading) for votes in (before, after))
    found = compare_votes(one, two, **options)
    return found.record(), to_terminal(found)


def _metrics(
    votes: str, metrics: str, lower: str, out: str | None, reading: dict[str, Any], options: dict[str, Any]
) -> tuple[Any, str]:
    """Metrics compared with votes, and written: for JSON, and as text."""
    from elo import formats
    from elo.metric_agreement import WRITERS, compare_metrics, to_terminal
    from elo.metrics import read_metrics
    from elo.votes import read_votes

    write = formats.writer(out, WRITERS) if out else None  # a wrong suffix is known before the work
    known = read_metrics(metrics, lower=[name.strip() for name in lower.split(",") if name.strip()])
    found = compare_metrics(read_votes(votes, **reading), known, **options)
    if out and write:
        formats.replace_file(out, write(found).encode())
    return found.record(), to_terminal(found)
