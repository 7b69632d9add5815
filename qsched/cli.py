"""The command `qsched`: look at coefficients, and put them into a saved pipeline."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:  # imported where they are used: --help stays fast
    from rich.table import Table

    from qsched.coefficients import CoefficientsFile, Scores
    from qsched.jaq import PairedGain

ENOUGH_PROMPTS = 64


@click.group()
@click.version_option(package_name="pairstudy")
def cli() -> None:
    """Scheduler coefficients for quantized few-step diffusion models."""


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole file and the findings as JSON.")
def show(file: Path, as_json: bool) -> None:
    """Print the coefficients in FILE, and what they are worth.

    Example: qsched show w4a8.qsched.json
    """
    content = _read(file)
    if as_json:
        findings = findings_of(content.scores)
        click.echo(json.dumps(content.model_dump(mode="json") | {"findings": findings}, indent=2))
        return
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(
        f"{content.base_model} {content.method}, {content.scheduler}, {content.steps} steps; JAQ "
        f"{content.jaq_variant}, k = {content.k:g}; {len(content.calibration_prompts)} calibration prompts"
        f"{_effort(content)}",
        highlight=False,
    )
    console.print(_steps_table(content))
    console.print(_scores_table(content.scores))
    for finding in findings_of(content.scores):
        console.print(f"· {finding}", highlight=False)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def apply(file: Path, pipeline: Path, out: Path) -> None:
    """Put the coefficients in FILE into a copy of PIPELINE.

    PIPELINE is a folder that diffusers saved; the scheduler of the copy has them.

    Import qsched.schedulers before diffusers loads the copy: it imports no module on a model's word.

    Example: qsched apply w4a8.qsched.json sdxl-turbo -o sdxl-turbo-qsched
    """
    content = _read(file)
    from qsched.coefficients import CoefficientsError
    from qsched.pipelines import apply_to_pipeline

    try:
        name = apply_to_pipeline(content, pipeline, out)
    except CoefficientsError as error:
        _stop(str(error))
    except ImportError as error:
        _stop(f"needs diffusers, the extra [generate]: {error}")
    click.echo(f"{out}: {name} with {content.steps} steps; to load it, import qsched.schedulers first")


def findings_of(scores: "Scores") -> list[str]:
    """Say in plain words what the scores do and do not support."""
    findings = []
    if scores.calibration.prompts < ENOUGH_PROMPTS:
        findings.append(
            f"{scores.calibration.prompts} calibration prompts are few: the winner may suit them alone."
        )
    if scores.held_out is None:
        flattering = "No held-out prompts: measured where the winner was picked, the gain flatters."
        return [*findings, flattering, _chance(scores.calibration, "On the calibration prompts")]
    findings.append(_chance(scores.held_out, "On held-out prompts"))
    if scores.control is None:
        findings.append("No full-precision control: the gain cannot be called repair of quantization.")
    else:
        findings.append(_repair(scores.held_out, scores.control, "On held-out prompts"))
    if scores.control_searched is not None:
        findings.append(
            "The same search, made for the full-precision model, gains it "
            f"{scores.control_searched.gain:+.4f} on held-out prompts."
        )
    if scores.held_out_judged is None:
        findings.append("No second judge: the gain may be to the taste of the model that was the objective.")
    else:
        findings.append(_chance(scores.held_out_judged, "By the second judge"))
        if scores.control_judged is not None:
            findings.append(_repair(scores.held_out_judged, scores.control_judged, "By the second judge"))
    return findings


def _effort(content: "CoefficientsFile") -> str:
    """What the search was and took, where the file tells."""
    how, nfe = content.search.get("how"), content.search.get("nfe")
    return f"; {how}, {nfe:,} NFE" if isinstance(how, str) and isinstance(nfe, int) else ""


def _chance(gain: "PairedGain", where: str) -> str:
    """Tell whether the gain over naive quantization is more than chance."""
    if gain.gain <= 0:
        return f"{where} there is no gain over naive quantization: {gain.gain:+.4f}."
    if gain.low <= 0:
        return f"{where} the interval of the gain over naive quantization holds 0: it may be chance."
    return f"{where} the gain over naive quantization is more than chance: {gain.gain:+.4f}."


def _repair(gain: "PairedGain", control: "PairedGain", where: str) -> str:
    """Tell whether the gain exceeds what the same coefficients do to the full-precision model."""
    excess = gain.gain - control.gain
    # Both gains as if independent; they share prompts, so the interval is rather too wide than too narrow.
    margin = math.hypot(gain.high - gain.gain, control.high - control.gain)
    if excess <= 0:
        return (
            f"{where} the gain does not exceed that of the full-precision control ({control.gain:+.4f}): "
            "it is not repair of quantization."
        )
    if excess <= margin:
        return (
            f"{where} the gain exceeds that of the full-precision control by {excess:.4f}, "
            f"but the interval of the difference holds 0 (± {margin:.4f})."
        )
    return f"{where} the gain exceeds that of the full-precision control by {excess:.4f} (± {margin:.4f})."


def _steps_table(content: "CoefficientsFile") -> "Table":
    from rich.table import Table

    table = Table("step", "c_x", "c_eps")
    for step, (c_x, c_eps) in enumerate(zip(content.c_x, content.c_eps, strict=True), start=1):
        table.add_row(str(step), f"{c_x:.4f}", f"{c_eps:.4f}")
    return table


def _scores_table(scores: "Scores") -> "Table":
    from rich.table import Table

    table = Table("JAQ", "before", "after", "gain", "95 % interval", "n")
    rows = [
        ("calibration", scores.calibration),
        ("held-out", scores.held_out),
        ("full precision", scores.control),
        ("… own search", scores.control_searched),
        ("second judge", scores.held_out_judged),
        ("… full precision", scores.control_judged),
        ("… own search", scores.control_searched_judged),
    ]
    for name, s in rows:
        if s is None:
            table.add_row(name, "not measured")
        else:
            interval = f"{s.low:+.4f} … {s.high:+.4f}"
            table.add_row(
                name, f"{s.before:.4f}", f"{s.after:.4f}", f"{s.gain:+.4f}", interval, str(s.prompts)
            )
    return table


def _read(path: Path) -> "CoefficientsFile":
    from qsched.coefficients import CoefficientsError, read_coefficients

    try:
        return read_coefficients(path)
    except CoefficientsError as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    click.echo(f"qsched: {message}", err=True)
    sys.exit(2)
