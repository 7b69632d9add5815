"""The command `generator measure`."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from generator.competitors import Names
from generator.errors import BadInput, one_line_errors
from generator.terminal import print_table

if TYPE_CHECKING:
    import pandas as pd

WRITERS = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".json": lambda table, path: table.to_json(path, orient="records", indent=1),
    ".md": lambda table, path: path.write_text(markdown(table), encoding="utf-8"),
}


@click.command()
@click.argument("gallery", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Parquet file [default: GALLERY/metrics.parquet]."
)
@click.option("--reference", help="Method that the others are compared with [default: fp16, if it is there].")
@click.option(
    "--metrics", type=Names(), help="Measures, with commas between them [default: all that can be]."
)
@click.option("--weights", type=click.Path(path_type=Path), help="Folder of the networks' weights.")
@click.option(
    "--against",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Folder to take FID to; may be repeated.",
)
@click.option("--by", type=click.Choice(["all", "category"]), default="all", show_default=True)
@click.option("--table", "table_file", type=click.Path(path_type=Path), help="Also to .csv, .json or .md.")
@click.option("--device", "device_name", help="cuda, cuda:1, cpu … [default: the first GPU if there is one].")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
def measure(
    gallery: Path,
    output: Path | None,
    reference: str | None,
    metrics: list[str] | None,
    weights: Path | None,
    against: tuple[str, ...],
    by: str,
    table_file: Path | None,
    device_name: str | None,
    batch_size: int,
) -> None:
    """Measure the pictures of GALLERY. Interrupted, the same command goes on where it stopped.

    Numbers for each picture go to a Parquet file that elo compare --metrics reads; means by method, with
    paired differences to the reference, are printed. Metrics whose weights are missing are named with how to
    get them.

    \b
    Example:
      generator measure runs/gallery --reference fp16 --table metrics.md
    """
    with one_line_errors():
        folders = _folders(against)
        if table_file and table_file.suffix not in WRITERS:
            raise BadInput(f"--table {table_file}: expected one of {', '.join(WRITERS)}")
        from study.gallery import read_gallery

        content = read_gallery(gallery)
        from generator.measure.device import device_named
        from generator.measure.distances import distances, load_networks
        from generator.measure.measures import load_measures
        from generator.measure.run import Reference
        from generator.measure.run import measure as run
        from generator.measure.table import ALL, summary
        from generator.memory import memory_told

        if reference is None and any(method.id == "fp16" for method in content.methods):
            reference = "fp16"
        compared = Reference.of(content, reference) if reference else None
        embedded = all(method.base_model == "shapes" for method in content.methods)
        device = device_named(device_name)
        loaded, missing = load_measures(metrics, weights, embedded, device)
        path = output or gallery / "metrics.parquet"
        with memory_told(batch_size):
            table = run(content, loaded, compared, path, batch_size=batch_size, device=device)
        summed = summary(
            table,
            [method.id for method in content.methods],
            {prompt.prompt_id: prompt.category for prompt in content.prompts},
            reference,
        )
        if metrics is None or folders:
            networks, absent = load_networks(weights, embedded, device)
            missing += absent
            cache = path.with_suffix(".features")
            with memory_told(batch_size):
                sets = distances(content, networks, compared, folders, cache, batch_size)
            summed = _with_sets(summed, sets)
        if table_file:
            WRITERS[table_file.suffix](summed, table_file)
    shown = summed if by == "category" else summed[summed["category"] == ALL]
    _print(shown)
    for line in missing:
        click.echo(f"not measured: {line}", err=True)
    click.echo(f"{path}: {len(table)} numbers of {len(content.images)} pictures")


def _folders(against: tuple[str, ...]) -> dict[str, Path]:
    folders = {}
    for each in against:
        name, _, folder = each.partition("=")
        if not name or not Path(folder).is_dir():
            raise BadInput(f"--against {each}: expected NAME=FOLDER, and a folder that is there")
        folders[name] = Path(folder)
    return folders


def _with_sets(summed: pd.DataFrame, sets: list[dict[str, str | float | int]]) -> pd.DataFrame:
    import pandas as pd

    rows = [{"category": "all", "mean": row["value"], **row} for row in sets]
    whole = [*summed.to_dict("records"), *rows]
    return pd.DataFrame(whole, columns=summed.columns)


def cells(table: pd.DataFrame) -> list[list[str]]:
    """The table as text, a row a method and metric; as many digits as the interval is worth."""
    found = []
    for row in table.itertuples():
        change = _with_interval(row.difference, row.difference_low, row.difference_high, "+")
        mean = _with_interval(row.mean, row.low, row.high)
        found.append([row.category, row.metric, row.method, str(row.n), mean, change])
    return found


def _with_interval(mean: float, low: float, high: float, sign: str = "") -> str:
    if math.isnan(mean):
        return ""
    if math.isnan(low) or low == high:
        return f"{mean:{sign}.4g}"
    digits = min(max(1 - math.floor(math.log10((high - low) / 2)), 0), 6)
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


HEADINGS = ("category", "metric", "method", "n", "mean", "to the reference")


def markdown(table: pd.DataFrame) -> str:
    """The table in Markdown."""
    rows = [HEADINGS, ["---"] * len(HEADINGS), *cells(table)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _print(table: pd.DataFrame) -> None:
    """The table with a line after each metric; without the category where there is only one."""
    first = 0 if table["category"].nunique() > 1 else 1
    by_metric = itertools.groupby(cells(table), key=lambda row: row[:2])
    print_table(HEADINGS[first:], ([row[first:] for row in rows] for _, rows in by_metric), text=HEADINGS[:3])
