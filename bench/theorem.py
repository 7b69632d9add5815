"""Theorem 1 in practice: what share of the error of quantization could two numbers a step remove?

    python bench/theorem.py [-n 256] [--methods w8a8,w4a8,w4a4] [-o docs/images/theorem.svg]

On the shapes world, held-out captions. "own" is the error a step makes from the full-precision sample,
"gathered" that of a free run up to and with the step; "left" is what the least-squares best (c_x, c_eps)
would leave.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from generator.methods import all_methods
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.sweep import render
from qsched.affine import affine_steps
from qsched.removable import StepError, removable_error
from qsched.trajectories import by_step, recorded, replayed

BATCH = 64


def measured(names: list[str], count: int) -> dict[str, dict[str, list[StepError]]]:
    """method → "own" and "gathered" → the errors of the steps."""
    base, methods = MODELS["shapes"], all_methods()
    prompts = shapes_prompts("heldout", count)

    def run(pipeline: object) -> None:
        for start in range(0, count, BATCH):
            render(pipeline, base, prompts[start : start + BATCH])

    full = base.load()
    with recorded(full.scheduler) as path:
        run(full)
    weights = [(step.a, step.b) for step in affine_steps(full.scheduler, **base.arguments)]
    found = {}
    for name in names:
        pipeline = base.load()
        methods[name].apply(pipeline, base)
        with replayed(pipeline.scheduler, path) as led:
            run(pipeline)
        with recorded(pipeline.scheduler) as free:
            run(pipeline)
        found[name] = {
            label: removable_error(by_step(path), by_step(visits), weights)
            for label, visits in (("own", led), ("gathered", free))
        }
    return found


def table(found: dict[str, dict[str, list[StepError]]]) -> Table:
    """Relative mean squared errors of the next sample, and the scalars that would lessen them most."""
    out = Table(
        "method", "step", "error", "left", "removable", "c_x", "c_eps", title="own and gathered error"
    )
    for name, kinds in found.items():
        for label, errors in kinds.items():
            for i, e in enumerate(errors, start=1):
                out.add_row(
                    f"{name}, {label}",
                    str(i),
                    f"{e.error:.2e}",
                    f"{e.left:.2e}",
                    f"{e.removable:.1%}",
                    f"{e.c_x:.4f}",
                    f"{e.c_eps:.4f}",
                )
    return out


def plot(found: dict[str, dict[str, list[StepError]]], out: str) -> None:
    """The removable share of the error, step by step."""
    mpl.rcParams.update({"font.size": 9, "svg.fonttype": "none", "pdf.fonttype": 42})
    size = (2 * len(found) + 0.8, 2.6)
    figure, (axes,) = plt.subplots(
        1, len(found), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    colours = {"own": "#0072B2", "gathered": "#D55E00"}
    for axis, (name, kinds) in zip(axes, found.items(), strict=True):
        ends = {label: 100 * errors[-1].removable for label, errors in kinds.items()}
        for label, errors in kinds.items():
            steps = list(range(1, len(errors) + 1))
            axis.plot(steps, [100 * e.removable for e in errors], "-o", color=colours[label], ms=4)
            above = ends[label] == max(ends.values())
            axis.annotate(
                label,
                (steps[-1], ends[label]),
                xytext=(5, 1 if above else -8),
                textcoords="offset points",
                color=colours[label],
            )
        axis.set(title=name, xlabel="step", xticks=steps, xlim=(0.8, steps[-1] + 1.5), ylim=(-1, 20))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("error that the best (c_x, c_eps)\ncould remove, %")
    figure.savefig(out)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--methods", default="w8a8,w4a8,w4a4")
    parser.add_argument("-o", "--output")
    arguments = parser.parse_args()
    names = arguments.methods.split(",")
    if unknown := set(names) - set(all_methods()):
        parser.error(f"--methods: no {', '.join(unknown)}; there are {', '.join(all_methods())}")
    found = measured(names, arguments.n)
    Console().print(table(found))
    if arguments.output:
        plot(found, arguments.output)


if __name__ == "__main__":
    main()
