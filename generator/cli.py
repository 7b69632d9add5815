"""The `generator` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from generator.competitors import model_and_methods
from generator.costs_cli import latency, sizes
from generator.errors import BadInput, one_line_errors
from generator.measure_cli import measure
from generator.models_cli import models
from generator.prompts.chosen import choosing_options, chosen
from generator.prompts_cli import prompts
from generator.terminal import without_chatter


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Make galleries: the same prompts and seeds under every method."""
    without_chatter()


cli.add_command(prompts)
cli.add_command(measure)
cli.add_command(models)
cli.add_command(sizes)
cli.add_command(latency)


@cli.command()
@click.option("--model", default="shapes", show_default=True, help="An id, or a .toml file.")
@click.option("--methods", required=True, help="Methods, with commas between them.")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Folder with the model's weights, instead of the hub."
)
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
    methods: str,
    weights: Path | None,
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
    base, competitors = model_and_methods(model, list(dict.fromkeys(methods.split(","))), weights)
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
    click.echo(f"  study init STUDY && study ingest {folder} --study STUDY && study serve --study STUDY")


@cli.command()
@click.option("--model", default="shapes", show_default=True, help="Base model.")
@click.option("--method", default="w4a8", show_default=True, help="Method whose pipeline is tuned.")
@click.option(
    "--search",
    "how",
    type=click.Choice(["grid", "race"]),
    default="grid",
    show_default=True,
    help="Algorithm 1's grid, or races that drop candidates early (give it 64 captions or more).",
)
@click.option("--captions", type=click.IntRange(min=8), default=20, show_default=True, help="For the search.")
@click.option("--heldout", type=click.IntRange(min=2), default=384, show_default=True, help="For the check.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: where the methods look.")
def calibrate(model: str, method: str, how: str, captions: int, heldout: int, output: Path | None) -> None:
    """Search Q-Sched coefficients for a quantized model and check them on captions the search never saw.

    Example: generator calibrate --model shapes --method w4a8
    """
    base, (chosen,) = model_and_methods(model, [method])
    from generator.calibrate import calibrate as search
    from generator.methods.qsched import coefficients_file

    path = output or coefficients_file(base, method)
    with one_line_errors():
        search(base, chosen, path, how=how, captions=captions, heldout=heldout)
    click.echo(f"{path}: written. Look at it with\n  qsched show {path}")


@cli.command()
@click.option("--model", default="shapes", show_default=True, help="Base model.")
@click.option(
    "--published", type=click.Path(path_type=Path), help="Take those of MixDQ's authors: a weight_*.yaml."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: where mixdq-w4a8 looks.")
def allocate(model: str, published: Path | None, output: Path | None) -> None:
    """Measure how much each layer suffers from few bits, and share out 4 bits a weight for mixdq-w4a8.

    Example: generator allocate --model shapes
    """
    base, _ = model_and_methods(model, [])
    from generator.methods.mixdq import allocation_file, measure_and_allocate, take_over

    path = output or allocation_file(base)
    with one_line_errors():
        file = take_over(base, published, path) if published else measure_and_allocate(base, path)
    click.echo(f"{path}: written, {file['mean_weight_bits']} bits a weight")


@cli.command()
@click.option("--model", default="shapes", show_default=True, help="Base model.")
@click.option("--method", default="w4a8", show_default=True, help="Method whose error is measured.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: where the methods look.")
def ptqd(model: str, method: str, output: Path | None) -> None:
    """Measure what quantization does to the model output of every step, for ptqd-M and ptqd-released-M.

    Example: generator ptqd --model shapes --method w4a8
    """
    base, (chosen,) = model_and_methods(model, [method])
    from generator.methods.ptqd import measure, statistics_file

    path = output or statistics_file(base, method)
    with one_line_errors():
        file = measure(base, chosen, path)
    slopes = ", ".join(f"{step.k:.4f}" for step in file.steps)
    click.echo(f"{path}: written. The error follows the output with slopes {slopes}")


@cli.command()
@click.option("--model", default="shapes", show_default=True, help="Base model.")
@click.option(
    "--method", default="s2p-w4a8", show_default=True, help="Method that is trained before it draws."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: where the method looks.")
def train(model: str, method: str, output: Path | None) -> None:
    """Train the quantized backbone of a method (s2p-…, qdiffusion-…) and keep it.

    Example: generator train --model shapes --method s2p-w4a8
    """
    base, _ = model_and_methods(model, [method])
    from generator.methods import qdiffusion, serial_parallel

    makers = {**serial_parallel.MAKERS, **qdiffusion.MAKERS}
    if method not in makers:
        raise BadInput(f"--method {method!r}: is not trained; expected one of {', '.join(makers)}")
    path = output or serial_parallel.checkpoint_file(base, method)
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_line_errors():
        makers[method](base, path)
    click.echo(f"{path}: written, {path.stat().st_size / 1e6:.2f} MB")


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
    """Make a gallery of pictures that deepcompressor, Q-Sched or any other program named by prompt.

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
