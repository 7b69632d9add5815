"""The commands that make what methods need: calibrate, ptqd, allocate, train."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from generator.competitors import model_and_methods, model_options
from generator.errors import BadInput, one_line_errors

if TYPE_CHECKING:
    from generator.methods import Method
    from generator.models import BaseModel

Command = Callable[..., None]


def _options(command: Command) -> Command:
    """Model, prompts and output, in the same words for all."""
    for option in (
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), help="Default: where the methods look."
        ),
        click.option(
            "--prompts",
            "prompt_set",
            help="A set or a file, as in generator prompts; default: what the model calibrates with.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            help="Pictures drawn at once [default: of four million pixels, 64 at most].",
        ),
    ):
        command = option(command)
    return model_options(command)


def _base_and_methods(
    names: list[str], model: str, weights: Path | None, calibrated: Path | None, batch_size: int | None
) -> tuple[BaseModel, list[Method]]:
    base, methods = model_and_methods(model, names, weights, calibrated)
    return (replace(base, batch=batch_size) if batch_size else base), methods


def _must_draw(kind: str, method: str) -> None:
    """BadInput unless there is a method that draws with what is made for `method`."""
    from generator.methods import all_methods

    if f"{kind}-{method}" not in all_methods():
        raise BadInput(f"--method {method!r}: there is no method {kind}-{method} that would draw with it")


@contextmanager
def _errors(batch: int) -> Iterator[None]:
    """As `one_line_errors`; too little memory, too."""
    from generator.memory import memory_told  # takes torch along

    with one_line_errors(), memory_told(batch):
        yield


@click.command()
@_options
@click.option("--method", default="w4a8", show_default=True, help="Method whose pipeline is tuned.")
@click.option(
    "--search",
    "how",
    type=click.Choice(["grid", "race"]),
    default="race",
    show_default=True,
    help="Races that drop candidates early, or Algorithm 1's grid.",
)
@click.option(
    "--jaq",
    "variant",
    type=click.Choice(["clip", "preference"]),
    default="clip",
    show_default=True,
    help="CLIPScore + 2 · CLIP-IQA, or AQ-MAP + 2 · HPSv2.1.",
)
@click.option(
    "--scorers",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The scorers' weights, as for generator measure --weights; shapes has its own.",
)
@click.option(
    "--captions", type=click.IntRange(min=8), help="For the search; default: 128 for races, 20 for the grid."
)
@click.option("--heldout", type=click.IntRange(min=2), default=384, show_default=True, help="For the check.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw what the search saw: .svg, .pdf or .png.")
@click.option("--dry-run", is_flag=True, help="Only say what it would take; draws two batches to measure.")
def calibrate(
    model: str,
    weights: Path | None,
    calibrated: Path | None,
    batch_size: int | None,
    output: Path | None,
    method: str,
    plot: Path | None,
    dry_run: bool,
    **settings: Any,
) -> None:
    """Search Q-Sched coefficients for a quantized model.

    They are checked on prompts the search never saw: those of the search and of the check are two halves of
    one set. A second judge scores the check. Interrupted, the same command goes on where it stopped.

    \b
    Example:
      generator calibrate --model sdxl-turbo --method w4a8 --jaq preference --prompts sdci --scorers weights/
    """
    base, (chosen,) = _base_and_methods([method], model, weights, calibrated, batch_size)
    _must_draw("qsched", method)
    from qsched.plots import FORMATS

    if plot and plot.suffix not in FORMATS:
        raise BadInput(f"--plot {plot}: expected one of {', '.join(FORMATS)}")
    from generator.calibrate import calibrate as search
    from generator.calibrate import prepared
    from generator.methods.qsched import coefficients_file

    path = output or coefficients_file(base, method)
    with _errors(base.batch):
        try:
            search(prepared(base, chosen, **settings), path, dry_run=dry_run, plot=plot)
        except KeyboardInterrupt:
            click.echo(f"{path}: stopped; the same command goes on where it is", err=True)
            sys.exit(130)
    if dry_run:
        return
    click.echo(f"{path}: written. Look at it with\n  qsched show {path}")


@click.command()
@_options
@click.option(
    "--published", type=click.Path(path_type=Path), help="Take those of MixDQ's authors: a weight_*.yaml."
)
def allocate(
    model: str,
    weights: Path | None,
    calibrated: Path | None,
    batch_size: int | None,
    prompt_set: str | None,
    output: Path | None,
    published: Path | None,
) -> None:
    """Share out 4 bits a weight for mixdq-w4a8.

    First it is measured how much each layer suffers from few bits.

    Example: generator allocate --model shapes
    """
    base, _ = _base_and_methods([], model, weights, calibrated, batch_size)
    from generator.methods.mixdq import allocation_file, measure_and_allocate, take_over

    path = output or allocation_file(base)
    with _errors(base.batch):
        taken = take_over(base, published, path) if published else None
        file = taken or measure_and_allocate(base, path, prompt_set)
    click.echo(f"{path}: written, {file['mean_weight_bits']} bits a weight")


@click.command()
@_options
@click.option("--method", default="w4a8", show_default=True, help="Method whose error is measured.")
def ptqd(
    model: str,
    weights: Path | None,
    calibrated: Path | None,
    batch_size: int | None,
    prompt_set: str | None,
    output: Path | None,
    method: str,
) -> None:
    """Measure the error that ptqd-M and ptqd-released-M correct.

    That is what quantization does to the model output of every step.

    Example: generator ptqd --model shapes --method w4a8
    """
    base, (chosen,) = _base_and_methods([method], model, weights, calibrated, batch_size)
    _must_draw("ptqd", method)
    from generator.methods.ptqd import measure, statistics_file

    path = output or statistics_file(base, method)
    with _errors(base.batch):
        file = measure(base, chosen, path, prompt_set)
    slopes = ", ".join(f"{step.k:.4f}" for step in file.steps)
    click.echo(f"{path}: written. The error follows the output with slopes {slopes}")


@click.command()
@_options
@click.option(
    "--method", default="s2p-w4a8", show_default=True, help="Method that is trained before it draws."
)
def train(
    model: str,
    weights: Path | None,
    calibrated: Path | None,
    batch_size: int | None,
    prompt_set: str | None,
    output: Path | None,
    method: str,
) -> None:
    """Train the backbone of s2p-… or qdiffusion-… and keep it.

    Example: generator train --model shapes --method s2p-w4a8
    """
    base, _ = _base_and_methods([method], model, weights, calibrated, batch_size)
    from generator.methods import qdiffusion, serial_parallel

    makers = {**serial_parallel.MAKERS, **qdiffusion.MAKERS}
    if method not in makers:
        raise BadInput(f"--method {method!r}: is not trained; expected one of {', '.join(makers)}")
    path = output or serial_parallel.checkpoint_file(base, method)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _errors(base.batch):
        makers[method](base, path, prompt_set)
    click.echo(f"{path}: written, {path.stat().st_size / 1e6:.2f} MB")
