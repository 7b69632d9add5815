"""The commands `generator sizes` and `generator latency`: what a method costs."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from generator.competitors import Names, model_and_methods, model_options
from generator.errors import one_line_errors
from generator.terminal import print_table

methods_option = click.option(
    "--methods",
    "names",
    type=Names(),
    default="fp16,w8a8,w4a8,w4a4",
    show_default=True,
    help="Methods, with commas between them.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.command()
@model_options
@methods_option
@json_option
def sizes(model: str, weights: Path | None, calibrated: Path | None, names: list[str], as_json: bool) -> None:
    """Print what each method stores, in true bytes of the backbone.

    Example: generator sizes --model shapes --methods fp16,w4a8,svdquant-w4a4
    """
    base, chosen = model_and_methods(model, names, weights, calibrated)
    from generator.quantize.size import FLOAT_BYTES, KINDS, numbers_bytes, size_bytes, stored_bytes

    rows: list[dict[str, Any]] = []
    with one_line_errors():
        base.ready()
        full = size_bytes(getattr(base.load(), base.backbone))
        for method in chosen:
            pipeline = base.load()
            numbers = method.apply(pipeline, base)
            parts = {**stored_bytes(getattr(pipeline, base.backbone)), "scheduler": numbers_bytes(numbers)}
            total = sum(parts.values())
            rows.append(
                {
                    "method": method.id,
                    **parts,
                    "size_bytes": total,
                    "bits_per_weight": 8 * total * FLOAT_BYTES / full,
                    "times_smaller": full / total,
                }
            )
    parameters = full // FLOAT_BYTES
    if as_json:
        click.echo(json.dumps({"model": base.id, "parameters": parameters, "methods": rows}, indent=2))
        return
    columns = [*KINDS, "scheduler", "size_bytes"]
    table = [
        [
            row["method"],
            *(_megabytes(row[column]) for column in columns),
            f"{row['bits_per_weight']:.2f}",
            f"{row['times_smaller']:.2f}",
        ]
        for row in rows
    ]
    headings = ["method", *KINDS, "scheduler", "total", "bits a weight", "times smaller"]
    print_table(headings, [table], title=f"{base.id}: {parameters:,} parameters; MB = 10⁶ bytes")


def _megabytes(count: int) -> str:
    if not count:
        return ""
    return f"{count / 1e6:,.3f}" if count >= 1000 else f"{count} B"


@click.command()
@model_options
@methods_option
@click.option("--compile", "compiled", is_flag=True, help="Also each backbone through torch.compile.")
@json_option
def latency(
    model: str,
    weights: Path | None,
    calibrated: Path | None,
    names: list[str],
    compiled: bool,
    as_json: bool,
) -> None:
    """Time one picture of each method.

    3 warm-ups, 10 runs, batch 1, each method in a process of its own. Quantized arithmetic is simulated by
    most methods: what is told then is the cost of the simulation.

    Example: generator latency --model shapes --methods fp16,w8a8
    """
    model_and_methods(model, names, weights, calibrated)
    from generator.latency import in_a_process

    with one_line_errors():
        found = [
            in_a_process(model, name, weights, calibrated, each)
            for name in names
            for each in ((False, True) if compiled else (False,))
        ]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    headings = ["method", "ms, median", "least … most", "peak memory, MB"]
    table = [
        [
            f"{each.method}, compiled" if each.compiled else each.method,
            f"{statistics.median(each.milliseconds):.1f}",
            f"{min(each.milliseconds):.1f} … {max(each.milliseconds):.1f}",
            f"{each.peak_bytes / 1e6:,.0f}",
        ]
        for each in found
    ]
    first = found[0]
    memory = "allocated by torch" if first.clock == "CUDA events" else "resident, of the whole process"
    title = f"{model} on {first.device}, {first.dtype}; {first.clock}; memory {memory}"
    print_table(headings, [table], title=title)
