"""Searches for Q-Sched's coefficients on the shapes world, and what they are worth on captions unseen.

    python bench/ablations.py [-o runs/ablations.jsonl] [--rows 'w4a8/both;…'] [--whole-grid]

The ablations of the paper's figure 5 (k, c_x alone, c_eps alone, both), the ways to say coefficients, wider
boxes, another sampler, the races of `qsched.racing` against the grids of the paper and of its code, several
draws of the calibration captions. Each row is a search; its gains are paired differences on 320 held-out
captions, by the CLIP that was optimised and by the one that was not, beside the same coefficients on the
full-precision model. A row is written as soon as it is known, and the same command goes on where it stopped.

The released grid, 50 × 50 candidates on 25 captions, is 62,500 pictures. Without --whole-grid its winner is
sought on every seventh row and column, then on every other one around the best of these, then on all around
that; what is told as its cost is that of the whole. The row "optuna" takes the package of that name.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, LCMScheduler
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from generator.candidates import Candidates
from generator.methods import all_methods
from generator.models import MODELS, BaseModel
from generator.prompts import shapes_prompts
from qsched.affine import affine_steps
from qsched.coefficients import Coefficients
from qsched.jaq import jaq, paired_gain
from qsched.parametrisations import Parametrisation, level_and_difference, paper, per_step, released
from qsched.racing import race
from qsched.search import search

HELDOUT = 320
Draw = Callable[..., torch.Tensor]
Score = Callable[..., NDArray[np.float64]]
Found = tuple[Coefficients, int]


def lcm() -> DiffusionPipeline:
    """The same student under LCM's sampler, which adds fresh noise after every step."""
    pipeline = MODELS["shapes"].load()
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    return pipeline


SAMPLERS: dict[str, BaseModel] = {
    "tcd": MODELS["shapes"],
    "lcm": dataclasses.replace(MODELS["shapes"], id="shapes-lcm", load=lcm, arguments={}),
}
STEPS = MODELS["shapes"].steps


@dataclass(frozen=True)
class Row:
    """A search: `run(draw, score, captions, base)` gives the best coefficients and the NFEs it is worth."""

    method: str
    name: str
    run: Callable[[Draw, Score, int, BaseModel], Found]
    k: float = 2.0
    sampler: str = "tcd"
    captions: int = 64
    draw: int = 0
    """Which captions: the `draw`-th set of so many."""

    @property
    def id(self) -> str:
        return f"{self.method}/{self.name}" + (f"/{self.draw}" if self.draw else "")


def raced(
    numbers: Callable[[BaseModel], Parametrisation],
    spread: float,
    draw: Draw,
    score: Score,
    captions: int,
    base: BaseModel,
) -> Found:
    result = race(draw, score, numbers(base), prompts=captions, spread=spread)
    return result.best.coefficients, shared_nfe(result.settings["images"], captions)


def shared_nfe(images: int, captions: int) -> int:
    """The first evaluation is the same for all candidates (`generator.candidates`)."""
    return (STEPS - 1) * images + captions


def algorithm_1(draw: Draw, score: Score, captions: int, base: BaseModel) -> Found:
    """The paper's grid as `qsched.search` has it, 161 candidates."""
    result = search(draw, score, steps=STEPS)
    return result.best.coefficients, STEPS * captions * len(result.points)


def released_grid(
    strides: tuple[int, ...], draw: Draw, score: Score, captions: int, base: BaseModel
) -> Found:
    """scripts/qsched.sh: the starts of c_x and c_eps at 50 values each of 0.8 to 1.2, both ends 1.

    Every `strides[0]`-th row and column, then around the best so far every `strides[1]`-th, and so on.
    """
    values, numbers = np.linspace(0.8, 1.2, 50), released(STEPS)

    @functools.cache
    def mean(i: int, j: int) -> float:
        return float(score(draw(numbers([values[i], values[j]]))).mean())

    sides = (range(0, 50, strides[0]),) * 2
    for coarse, fine in zip(strides, (*strides[1:], None), strict=True):
        i, j = best = max(itertools.product(*sides), key=lambda point: mean(*point))
        if fine:
            sides = tuple(range(max(at - coarse, 0), min(at + coarse + 1, 50), fine) for at in best)
    Console(stderr=True).print(f"released grid: {mean.cache_info().currsize} of 2,500 points drawn")
    return numbers([values[i], values[j]]), STEPS * captions * 50 * 50


def optuna_tpe(draw: Draw, score: Score, captions: int, base: BaseModel) -> Found:
    """Optuna's TPE with its pruner for paired scores, on as many pictures as the races of "both" take."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    numbers, drawn = paper(STEPS), 0
    sampler, pruner = optuna.samplers.TPESampler(seed=0), optuna.pruners.WilcoxonPruner(p_threshold=0.2)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.enqueue_trial({str(i): one for i, one in enumerate(numbers.identity)})

    def objective(trial: optuna.Trial) -> float:
        nonlocal drawn
        coefficients, scores = numbers([trial.suggest_float(str(i), 0.9, 1.1) for i in range(4)]), []
        for start in range(0, captions, 8):
            some = range(start, min(start + 8, captions))
            drawn += len(some)
            scores += score(draw(coefficients, some), some).tolist()
            for i, value in zip(some, scores[-len(some) :], strict=True):
                trial.report(value, i)
            if trial.should_prune():
                return float(np.mean(scores))
        return float(np.mean(scores))

    budget = 1144
    while drawn < budget:
        study.optimize(objective, n_trials=1)
    whole = [trial for trial in study.trials if len(trial.intermediate_values) == captions]
    best = max(whole, key=lambda trial: trial.value)
    return numbers([best.params[str(i)] for i in range(4)]), shared_nfe(drawn, captions)


def halved(draw: Draw, score: Score, captions: int, base: BaseModel) -> Found:
    """As "both", then half of the way back to 1."""
    best, nfe = raced(_paper, 0.1, draw, score, captions, base)
    return Coefficients(*(tuple((1 + c) / 2 for c in cs) for cs in (best.c_x, best.c_eps))), nfe


def _paper(base: BaseModel) -> Parametrisation:
    return paper(base.steps)


def _released(base: BaseModel) -> Parametrisation:
    return released(base.steps)


def _per_step(base: BaseModel) -> Parametrisation:
    return per_step(base.steps)


def _level(base: BaseModel) -> Parametrisation:
    scheduler = base.load().scheduler
    scheduler.set_timesteps(base.steps)
    return level_and_difference([step.b for step in affine_steps(scheduler, **base.arguments)])


def _part(places: tuple[int, int]) -> Callable[[BaseModel], Parametrisation]:
    """The paper's parametrisation with two of its four numbers, the others at 1."""
    names = tuple(paper(STEPS).numbers[place] for place in places)

    def read(numbers: list[float]) -> Coefficients:
        four = [1.0] * 4
        for place, number in zip(places, numbers, strict=True):
            four[place] = number
        return paper(STEPS)(four)

    return lambda base: Parametrisation(" and ".join(names), names, (1.0, 1.0), read)


def rows(whole_grid: bool) -> list[Row]:
    """All rows, those first that matter most."""

    def by(numbers: Callable[[BaseModel], Parametrisation], spread: float = 0.1) -> Callable[..., Found]:
        return functools.partial(raced, numbers, spread)

    both, grid = by(_paper), functools.partial(released_grid, (1,) if whole_grid else (7, 2, 1))
    parts = [
        ("c_x alone", by(_part((0, 1)))),
        ("c_eps alone", by(_part((2, 3)))),
        ("per step", by(_per_step)),
        ("level, difference", by(_level, 0.05)),
        ("released", by(_released)),
        ("both, wide", by(_paper, 0.2)),
        ("both, halved", halved),
    ]
    first = [Row(method, "both", both) for method in ("w4a8", "w4a4")]
    grids = [
        Row("w4a8", "released grid", grid, captions=25),
        *(Row("w4a8", "both", both, draw=draw) for draw in (1, 2, 3)),
        *(Row("w4a8", "Algorithm 1", algorithm_1, captions=20, draw=draw) for draw in (0, 1)),
        *(Row("w4a8", "both, 20 captions", both, captions=20, draw=draw) for draw in (0, 1)),
        Row("w4a8", "optuna", optuna_tpe),
    ]
    others = [
        *(Row(method, f"both, k = {k:g}", both, k=k) for method in ("w4a8", "w4a4") for k in (0, 1, 4)),
        *(Row(method, "both, LCM", both, sampler="lcm") for method in ("w4a8", "w4a4")),
    ]
    return [
        *first,
        *grids,
        *(Row(method, name, run) for name, run in parts[:5] for method in ("w4a8", "w4a4")),
        *others,
        *(Row(method, name, run) for name, run in parts[5:] for method in ("w4a8", "w4a4")),
        Row("w4a4", "released grid", grid, captions=25),
        Row("w4a4", "Algorithm 1", algorithm_1, captions=20),
        *(Row("w4a4", "both", both, draw=draw) for draw in (1, 2, 3)),
    ]


class Judged:
    """A model's pictures of the held-out captions, and JAQ (k = 2) of them by both CLIPs."""

    def __init__(self, base: BaseModel, method: str) -> None:
        self.pipeline, self.base = base.load(), base
        all_methods()[method].apply(self.pipeline, base)
        prompts = shapes_prompts("heldout", HELDOUT)
        self.texts = [prompt.text for prompt in prompts]
        self.draw = Candidates(self.pipeline, base, prompts)

    @functools.cache  # noqa: B019, a handful of models
    def scores(self, coefficients: Coefficients) -> dict[str, list[float]]:
        pictures = self.draw(coefficients)
        return {
            name: jaq(*self.base.scorer(name).scores(pictures, self.texts)).values.tolist()
            for name in ("clip", "judge")
        }


@functools.cache
def judged(sampler: str, method: str) -> Judged:
    return Judged(SAMPLERS[sampler], method)


def searched(row: Row) -> dict[str, object]:
    """Search, then measure on the held-out captions; what a line of the file holds."""
    began, base = time.process_time(), SAMPLERS[row.sampler]
    model, scorer = judged(row.sampler, row.method), base.scorer("clip")
    prompts = shapes_prompts("calibration", (row.draw + 1) * row.captions)[-row.captions :]
    draw = Candidates(model.pipeline, base, prompts)

    def score(images: torch.Tensor, some: range = range(row.captions)) -> NDArray[np.float64]:
        return jaq(*scorer.scores(images, [prompts[i].text for i in some]), k=row.k).values

    best, nfe = row.run(draw, score, row.captions, base)
    one, line = Coefficients.identity(STEPS), {}
    for label, method in (("quantized", row.method), ("control", "fp16")):
        before, after = (judged(row.sampler, method).scores(c) for c in (one, best))
        line |= {f"{label}, {name}": {"before": before[name], "after": after[name]} for name in before}
    return {
        "row": row.id,
        "c_x": best.c_x,
        "c_eps": best.c_eps,
        "nfe": nfe,
        "drawn": draw.evaluations,
        "cpu_s": round(time.process_time() - began),
        **line,
    }


def table(lines: list[dict]) -> Table:
    """Gains with 95 % intervals."""
    out = Table(
        "search", "c_x", "c_eps", "NFE", "JAQ (clip)", "JAQ (judge)", "control (clip)", "control (judge)",
        title=f"gains in JAQ, k = 2, on {HELDOUT} held-out captions",
    )  # fmt: skip
    for line in lines:
        told = []
        for label, name in itertools.product(("quantized", "control"), ("clip", "judge")):
            gain = paired_gain(*(line[f"{label}, {name}"][when] for when in ("before", "after")))
            told.append(f"{gain.gain:+.4f} ± {gain.high - gain.gain:.4f}")
        numbers = (" ".join(f"{c:.3f}" for c in line[name]) for name in ("c_x", "c_eps"))
        out.add_row(line["row"], *numbers, f"{line['nfe']:,}", *told)
    return out


def main() -> None:
    """Search what is missing, print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablations.jsonl"))
    parser.add_argument("--rows", help="Ids, with semicolons between them; default: all.")
    parser.add_argument("--whole-grid", action="store_true")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.touch()
    lines = [json.loads(line) for line in arguments.output.read_text().splitlines()]
    known = {row.id: row for row in rows(arguments.whole_grid)}
    wanted = arguments.rows.split(";") if arguments.rows else list(known)
    if unknown := set(wanted) - set(known):
        parser.error(f"--rows: no {', '.join(unknown)}; there are {'; '.join(known)}")
    for name in wanted:
        if any(line["row"] == name for line in lines):
            continue
        row = known[name]
        lines.append(searched(row))
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        Console(stderr=True).print(f"{row.id}: {lines[-1]['cpu_s']} s of CPU")
    Console(width=190).print(table(lines))


if __name__ == "__main__":
    main()
