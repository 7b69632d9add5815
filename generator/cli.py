"""The `generator` command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from generator.calibrate_cli import allocate, calibrate, ptqd, train
from generator.competitors import Names, model_and_methods, model_options
from generator.costs_cli import latency, sizes
from generator.errors import BadInput, one_line_errors
from generator.measure_cli import measure
from generator.models_cli import models
from generator.prompts.chosen import choosing_options, chosen
from generator.prompts_cli import prompts
from generator.terminal import without_chatter


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pairstudy")
def cli() -> None:
    """Make galleries: the same prompts and seeds under every method."""
    without_chatter()


cli.add_command(prompts)
cli.add_command(measure)
cli.add_command(models)
cli.add_command(sizes)
cli.add_command(latency)
cli.add_command(calibrate)
cli.add_command(ptqd)
cli.add_command(allocate)
cli.add_command(train)


@cli.command()
@model_options
@click.option("--methods", "names", type=Names(), required=True, help="Methods, with commas between them.")
@click.option("--prompts", "spec", help="A set or a file, as in generator prompts; default: the model's own.")
@choosing_options
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--ray",
    "cluster",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Draw on all GPUs of a Ray cluster; without an address, of this machine.",
)
@click.option("--dry-run", is_flag=True, help="Only say what it would take; draws two batches to measure.")
@click.option("-o", "--output", required=True, help="Gallery folder, or the address of one: s3://…")
def run(
    model: str,
    weights: Path | None,
    calibrated: Path | None,
    names: list[str],
    spec: str | None,
    batch_size: int,
    cluster: str | None,
    dry_run: bool,
    output: str,
    **options: Any,
) -> None:
    """Draw a gallery. Interrupted, the same command goes on where it stopped.

    Example: generator run --model shapes --methods fp16,w4a8,qsched-w4a8 -n 48 -o runs/gallery
    """
    base, competitors = model_and_methods(model, names, weights, calibrated)
    spec = spec or base.prompts
    with one_line_errors():
        from generator.sweep import plan
        from generator.sweep import run as sweep
        from generator.sweep.store import drawn_in

        drawn = chosen(spec, **options)
        try:
            with drawn_in(output) as folder:
                if dry_run:
                    click.echo("\n".join(plan(base, competitors, drawn, folder, batch_size).lines()))
                    return
                made = sweep(
                    base, competitors, drawn, folder, prompt_set=spec, batch_size=batch_size, cluster=cluster
                )
        except KeyboardInterrupt:
            click.echo(f"{output}: stopped; the same command goes on where it is", err=True)
            sys.exit(130)
    for method, counts in made.flagged.items():
        found = ", ".join(f"{count} {flag}" for flag, count in counts.items())
        click.echo(f"{method}: {found} of {len(drawn)} images; they stay in the gallery, flagged")
    size = f"{len(competitors)} methods × {len(drawn)} prompts"
    click.echo(f"{output}: {made.new} new images, {size}. Show it with")
    ingest = f"study ingest {shlex.quote(str(folder))} --study STUDY"
    click.echo(f"  study init STUDY && {ingest} && study serve --study STUDY")


@cli.command()
@click.option(
    "--images", "folders", required=True, multiple=True, metavar="METHOD=FOLDER", help="May be repeated."
)
@click.option(
    "--prompts", "spec", help="A set or a file, as in generator prompts; Q-Sched's folders have theirs."
)
@choosing_options
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Gallery folder.")
def collect(folders: tuple[str, ...], spec: str | None, output: Path, **options: Any) -> None:
    """Make a gallery of pictures that are there already.

    They are named by prompt, as deepcompressor, Q-Sched or another program does.

    \b
    Example:
      generator collect --images fp16=out/samples/MJHQ/MJHQ-5000 --images w4a4=… --prompts mjhq -n 5000 -o g
    """
    from generator.collect import collect as put_together
    from generator.collect import prompts_of_qsched

    by_method: dict[str, Path] = {}
    for given in folders:
        method, equals, folder = given.partition("=")
        if not (method and equals and folder) or method in by_method:
            raise BadInput(f"--images {given}: expected METHOD=FOLDER, each method once")
        by_method[method] = Path(folder)
    with one_line_errors():
        first = next(iter(by_method.values()))
        drawn = chosen(spec, **options) if spec else prompts_of_qsched(first)
        number = put_together(by_method, drawn, output, prompt_set=spec or str(first))
    click.echo(f"{output}: {number} images, {len(by_method)} methods × {len(drawn)} prompts")
