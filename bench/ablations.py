"""The ablations of the paper's figure 5 on the shapes world: k, c_x alone, c_eps alone, both; races, grid.

    python bench/ablations.py [--methods w4a8,w4a4] [--captions 64] [--heldout 384]

Each row is a search on the calibration captions; its gains are paired differences on held-out captions, by
the CLIP that was optimised and by the one that was not, beside the same coefficients on the full-precision
model.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from diffusers import DiffusionPipeline
from rich.console import Console
from rich.table import Table

from generator.calibrate import pictures
from generator.methods import all_methods
from generator.models import MODELS
from generator.prompts import shapes_prompts
from qsched.affine import affine_steps
from qsched.coefficients import Coefficients
from qsched.jaq import jaq, paired_gain
from qsched.parametrisations import Parametrisation, level_and_difference, paper, per_step, released
from qsched.racing import race
from qsched.search import search

BASE = MODELS["shapes"]


def _part(name: str, places: tuple[int, int]) -> Parametrisation:
    """The paper's parametrisation with two of its four numbers, the others at 1."""
    whole = paper(BASE.steps)

    def read(numbers: list[float]) -> Coefficients:
        four = [1.0] * 4
        for place, number in zip(places, numbers, strict=True):
            four[place] = number
        return whole(four)

    return Parametrisation(name, 2, (1.0, 1.0), read)


def searches(weights: list[float]) -> list[tuple[str, float, Parametrisation | None]]:
    """Name, k and what is searched; None is Algorithm 1's grid."""
    both = paper(BASE.steps)
    return [
        ("grid", 2.0, None),
        ("both", 2.0, both),
        ("c_x alone", 2.0, _part("c_x", (0, 1))),
        ("c_eps alone", 2.0, _part("c_eps", (2, 3))),
        ("released", 2.0, released(BASE.steps)),
        ("level, difference", 2.0, level_and_difference(weights)),
        ("per step", 2.0, per_step(BASE.steps)),
        ("both, k = 0", 0.0, both),
        ("both, k = 1", 1.0, both),
        ("both, k = 4", 4.0, both),
    ]


def found_by(
    pipeline: DiffusionPipeline, k: float, numbers: Parametrisation | None, captions: int
) -> tuple[Coefficients, int]:
    """The best coefficients, and the network evaluations that finding them took."""
    prompts, scorer = shapes_prompts("calibration", captions), BASE.scorer("clip")

    def draw(coefficients: Coefficients, some: range = range(captions)) -> torch.Tensor:
        return pictures(pipeline, BASE, coefficients, [prompts[i] for i in some])

    def score(images: torch.Tensor, some: range = range(captions)) -> np.ndarray:
        return jaq(*scorer.scores(images, [prompts[i].text for i in some]), k=k).values

    if numbers is None:
        result = search(draw, score, steps=BASE.steps)
    else:
        spread = 0.1 if numbers.identity[0] == 1 else 0.05
        result = race(draw, score, numbers, prompts=captions, spread=spread)
    return result.best.coefficients, BASE.steps * sum(len(point.scores) for point in result.points)


def main() -> None:
    """Search, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default="w4a8,w4a4")
    parser.add_argument("--captions", type=int, default=64)
    parser.add_argument("--heldout", type=int, default=384)
    arguments = parser.parse_args()
    full = BASE.load()
    full.scheduler.set_timesteps(BASE.steps)
    weights = [step.b for step in affine_steps(full.scheduler, **BASE.arguments)]
    unseen = shapes_prompts("heldout", arguments.heldout)
    scorers = {name: BASE.scorer(name) for name in ("clip", "judge")}
    one = Coefficients.identity(BASE.steps)

    def gains(model: DiffusionPipeline, before: torch.Tensor, best: Coefficients) -> list[str]:
        after, texts = pictures(model, BASE, best, unseen), [prompt.text for prompt in unseen]
        out = []
        for scorer in scorers.values():
            paired = paired_gain(*(jaq(*scorer.scores(images, texts)).values for images in (before, after)))
            out.append(f"{paired.gain:+.4f} ± {paired.high - paired.gain:.4f}")
        return out

    for method in arguments.methods.split(","):
        pipeline = BASE.load()
        all_methods()[method].apply(pipeline, BASE)
        out = Table(
            "search", "c_x", "c_eps", "NFE", "JAQ (clip)", "JAQ (judge)", "control (clip)", "control (judge)",
            title=f"{method}: gains in JAQ, k = 2, on {len(unseen)} held-out captions",
        )  # fmt: skip
        before = [(model, pictures(model, BASE, one, unseen)) for model in (pipeline, full)]
        for name, k, numbers in searches(weights):
            best, nfe = found_by(pipeline, k, numbers, arguments.captions)
            out.add_row(
                name,
                " ".join(f"{c:.3f}" for c in best.c_x),
                " ".join(f"{c:.3f}" for c in best.c_eps),
                f"{nfe:,}",
                *(told for model, images in before for told in gains(model, images, best)),
            )
            Console(stderr=True).print(f"{method}: {name} done")
        Console(width=170).print(out)


if __name__ == "__main__":
    main()
