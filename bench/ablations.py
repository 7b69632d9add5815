"""Searches for Q-Sched's coefficients on the shapes world, and what they are worth on captions unseen.

    python bench/ablations.py [-o runs/ablations.jsonl] [--rows 'w4a8/both;…'] [--whole-grid] [--afresh N]

The ablations of the paper's figure 5 (k, c_x alone, c_eps alone, both), the ways to say coefficients, wider
boxes, another sampler, the races of `qsched.racing` against the grids of the paper and of its code, several
draws of the calibration captions. Each row is a search; its gains are paired differences on 320 held-out
captions, by the CLIP that was optimised and by the one that was not, beside the same coefficients on the
full-precision model. A row is written as soon as it is known, and the same command goes on where it stopped.
Among many rows one gains by luck: with --afresh, what rows found is measured on N other held-out captions.

The released grid, 50 × 50 candidates on 25 captions, is 62,500 pictures. Without --whole-grid its winner is
sought on every seventh row and column, then on every other one around the best of these, then on all around
that; what is told as its cost is that of the whole.
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
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table

from generator.candidates import Candidates
from generator.methods import all_methods
from generator.models import MODELS, BaseModel
from generator.prompts import shapes_prompts
from qsched.affine import affine_steps
from qsched.coefficients import Coefficients
from qsched.jaq import jaq, paired_gain
from qsched.journal import Point
from qsched.parametrisations import Parametrisation, level_and_difference, paper, per_step, released
from qsched.plots import save, sensitivity
from qsched.racing import race
from qsched.search import SearchResult, search

HELDOUT = 320
EYES = ("clip", "judge")
Draw = Callable[..., torch.Tensor]
Score = Callable[..., NDArray[np.float64]]


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


def both() -> Parametrisation:
    """The paper's four numbers."""
    return paper(STEPS)


def part(*places: int) -> Parametrisation:
    """Some of the paper's four numbers, the others at 1."""
    names = tuple(paper(STEPS).numbers[place] for place in places)

    def read(numbers: list[float]) -> Coefficients:
        four = [1.0] * 4
        for place, number in zip(places, numbers, strict=True):
            four[place] = number
        return paper(STEPS)(four)

    return Parametrisation(" and ".join(names), names, (1.0,) * len(names), read)


def level() -> Parametrisation:
    """Level and difference for TCD's own weights."""
    base = SAMPLERS["tcd"]
    scheduler = base.load().scheduler
    scheduler.set_timesteps(base.steps)
    return level_and_difference([step.b for step in affine_steps(scheduler, **base.arguments)])


@dataclass(frozen=True)
class Found:
    """What a search found, the evaluations of the network it takes, and the points it went over."""

    best: Coefficients
    nfe: int
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Row:
    """A search of `numbers` by `run`, on the `draw`-th so many captions; `afresh`: told on so many others."""

    method: str
    name: str
    run: Callable[[Row, Draw, Score], Found]
    numbers: Callable[[], Parametrisation] = both
    spread: float = 0.1
    k: float = 2.0
    sampler: str = "tcd"
    captions: int = 64
    first: int = 8
    draw: int = 0
    afresh: int = 0

    @property
    def id(self) -> str:
        """Method, name, and which draw if it is not the first."""
        return f"{self.method}/{self.name}" + (f"/{self.draw}" if self.draw else "")


def raced(row: Row, draw: Draw, score: Score) -> Found:
    """Races, in which the first evaluation is the same for all candidates (`generator.candidates`)."""
    result = race(draw, score, row.numbers(), prompts=row.captions, first=row.first, spread=row.spread)
    nfe = (STEPS - 1) * result.settings["images"] + row.captions
    return Found(result.best.coefficients, nfe, result.points)


def halved(row: Row, draw: Draw, score: Score) -> Found:
    """As `raced`, then half of the way back to 1."""
    found = raced(row, draw, score)
    half = (tuple((1 + c) / 2 for c in cs) for cs in (found.best.c_x, found.best.c_eps))
    return dataclasses.replace(found, best=Coefficients(*half))


def nudged(c_x: float, row: Row, draw: Draw, score: Score) -> Found:
    """No search: a change too small to repair anything.

    All rows are compared with the same pictures without coefficients. What a nudge gains is their bad luck.
    """
    return Found(Coefficients((c_x,) * STEPS, (1.0,) * STEPS), 0)


def algorithm_1(row: Row, draw: Draw, score: Score) -> Found:
    """The paper's grid as `qsched.search` has it, 161 candidates."""
    result = search(draw, score, steps=STEPS)
    return Found(result.best.coefficients, STEPS * row.captions * len(result.points), result.points)


def released_grid(strides: tuple[int, ...], row: Row, draw: Draw, score: Score) -> Found:
    """scripts/qsched.sh: the starts of c_x and c_eps at 50 values each of 0.8 to 1.2, both ends 1.

    Every `strides[0]`-th row and column, then around the best so far every `strides[1]`-th, and so on.
    """
    values, points = np.linspace(0.8, 1.2, 50), {}

    def mean(place: tuple[int, int]) -> float:
        if place not in points:
            coefficients = released(STEPS)([values[at] for at in place])
            points[place] = Point(coefficients, tuple(score(draw(coefficients)).tolist()))
        return points[place].mean

    best, sides = (0, 0), (range(0, 50, strides[0]),) * 2
    for coarse, fine in zip(strides, (*strides[1:], 1), strict=True):
        best = max(itertools.product(*sides), key=mean)
        sides = tuple(range(max(at - coarse, 0), min(at + coarse + 1, 50), fine) for at in best)
    return Found(points[best].coefficients, STEPS * row.captions * 50 * 50, tuple(points.values()))


def rows(whole_grid: bool) -> list[Row]:
    """All rows, those first that matter most."""
    methods = ("w4a8", "w4a4")
    grid = functools.partial(released_grid, (1,) if whole_grid else (7, 2, 1))
    return [
        *(Row(method, "both", raced) for method in methods),
        *(Row(method, "released grid", grid, captions=25, draw=d) for method in methods for d in (0, 1, 2)),
        *(Row(method, "both", raced, draw=d) for method in methods for d in (1, 2, 3)),
        *(
            Row(method, "both, 128 captions", raced, captions=128, first=16, draw=d)
            for method in methods
            for d in (0, 1)
        ),
        *(Row(method, "c_eps alone", raced, lambda: part(2, 3)) for method in methods),
        *(
            Row(method, "c_x alone", raced, lambda: part(0, 1), draw=d)
            for method in methods
            for d in range(4)
        ),
        *(Row(method, "per step", raced, functools.partial(per_step, STEPS)) for method in methods),
        *(Row(method, "both, LCM", raced, sampler="lcm") for method in methods),
        *(Row(method, "level, difference", raced, level, 0.05) for method in methods),
        *(Row(method, f"both, k = {k:g}", raced, k=k) for method in methods for k in (0, 1, 4)),
        *(Row(method, "both, wide", raced, spread=0.2) for method in methods),
        *(Row(method, "released", raced, functools.partial(released, STEPS)) for method in methods),
        *(Row(method, "Algorithm 1", algorithm_1, captions=20, draw=d) for method in methods for d in (0, 1)),
        *(Row(method, "both, 20 captions", raced, captions=20, draw=d) for method in methods for d in (0, 1)),
        *(Row(method, "both, halved", halved) for method in methods),
        *(Row("w4a4", f"c_x = {c:g}", functools.partial(nudged, c)) for c in (0.999, 1.001)),
    ]


def again(row: Row, line: dict, count: int) -> Row:
    """The row that measures on `count` captions afresh what the search of `line` found."""
    found = Found(Coefficients(line["c_x"], line["c_eps"]), line["nfe"])
    return dataclasses.replace(row, name=f"{row.name}, {count} afresh", run=lambda *_: found, afresh=count)


class Judged:
    """A model's pictures of held-out captions, or of the next `afresh`; JAQ (k = 2) of them by both CLIPs."""

    def __init__(self, base: BaseModel, method: str, afresh: int) -> None:
        self.pipeline, self.base = base.load(), base
        all_methods()[method].apply(self.pipeline, base)
        prompts = shapes_prompts("heldout", HELDOUT + afresh)[-(afresh or HELDOUT) :]
        self.texts = [prompt.text for prompt in prompts]
        self.draw = Candidates(self.pipeline, base, prompts)

    @functools.cache  # noqa: B019, a handful of models
    def scores(self, coefficients: Coefficients) -> dict[str, list[float]]:
        pictures = self.draw(coefficients)
        return {
            name: jaq(*self.base.scorer(name).scores(pictures, self.texts)).values.tolist() for name in EYES
        }


@functools.cache
def judged(sampler: str, method: str, afresh: int) -> Judged:
    return Judged(SAMPLERS[sampler], method, afresh)


def searched(row: Row) -> dict[str, object]:
    """Search, then measure on the held-out captions; what a line of the file holds."""
    began, base = time.process_time(), SAMPLERS[row.sampler]
    model, scorer = judged(row.sampler, row.method, row.afresh), base.scorer("clip")
    prompts = shapes_prompts("calibration", (row.draw + 1) * row.captions)[-row.captions :]
    draw = Candidates(model.pipeline, base, prompts)

    def score(images: torch.Tensor, some: range = range(row.captions)) -> NDArray[np.float64]:
        return jaq(*scorer.scores(images, [prompts[i].text for i in some]), k=row.k).values

    found = row.run(row, draw, score)
    one, line = Coefficients.identity(STEPS), {}
    for label, method in (("quantized", row.method), ("control", "fp16")):
        before, after = (judged(row.sampler, method, row.afresh).scores(c) for c in (one, found.best))
        line |= {f"{label}, {name}": {"before": before[name], "after": after[name]} for name in before}
    return {
        "row": row.id,
        "c_x": found.best.c_x,
        "c_eps": found.best.c_eps,
        "nfe": found.nfe,
        "drawn": draw.evaluations,
        "points": [dataclasses.asdict(point) for point in found.points],
        "cpu_s": round(time.process_time() - began),
        **line,
    }


def told(before: ArrayLike, after: ArrayLike) -> str:
    """The paired gain with its 95 % interval."""
    gain = paired_gain(before, after)
    return f"{gain.gain:+.4f} ± {gain.high - gain.gain:.4f}"


def table(lines: list[dict]) -> Table:
    """The gains of every search."""
    out = Table(
        "search", "c_x", "c_eps", "NFE", "JAQ (clip)", "JAQ (judge)", "control (clip)", "control (judge)",
        title=f"gains in JAQ, k = 2, on {HELDOUT} held-out captions, or on so many others afresh",
    )  # fmt: skip
    for line in lines:
        numbers = (" ".join(f"{c:.3f}" for c in line[name]) for name in ("c_x", "c_eps"))
        gains = (told(**line[f"{who}, {eye}"]) for who in ("quantized", "control") for eye in EYES)
        out.add_row(line["row"], *numbers, f"{line['nfe']:,}", *gains)
    return out


def by_search(lines: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """(method, name) → the draws of that search."""
    draws: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        method, name, *_ = line["row"].split("/")
        draws.setdefault((method, name), []).append(line)
    return draws


def mean_of(draws: list[dict], column: str, when: str) -> NDArray[np.float64]:
    """JAQ of every caption, the mean over draws."""
    return np.mean([line[column][when] for line in draws], 0)


def over_draws(lines: list[dict]) -> Table:
    """Searches of several draws, these averaged caption by caption, and what is beyond the control's gain."""
    kinds = ("JAQ", "beyond the control")
    out = Table(
        "search", "draws", *(f"{kind} ({eye})" for kind in kinds for eye in EYES), "draw by draw (judge)"
    )
    for (method, name), draws in by_search(lines).items():
        if len(draws) == 1:
            continue
        gains = {
            (who, eye): mean_of(draws, f"{who}, {eye}", "after") - mean_of(draws, f"{who}, {eye}", "before")
            for who in ("quantized", "control")
            for eye in EYES
        }
        own = (told(0 * gains["quantized", eye], gains["quantized", eye]) for eye in EYES)
        beyond = (told(gains["control", eye], gains["quantized", eye]) for eye in EYES)
        each = (np.subtract(d["quantized, judge"]["after"], d["quantized, judge"]["before"]) for d in draws)
        each_told = " ".join(f"{gain.mean():+.4f}" for gain in each)
        out.add_row(f"{method}/{name}", str(len(draws)), *own, *beyond, each_told)
    return out


def against_the_grid(lines: list[dict]) -> Table:
    """Every search, its draws averaged caption by caption, less the released grid of its method."""
    out = Table("search", "draws", *(f"JAQ ({eye}) less the released grid's" for eye in EYES))
    draws = by_search(lines)
    for (method, name), some in draws.items():
        grid = draws.get((method, "released grid"), [])
        if grid and grid is not some and not any(other in name for other in ("LCM", "afresh")):
            after = ([mean_of(all_, f"quantized, {eye}", "after") for all_ in (grid, some)] for eye in EYES)
            out.add_row(f"{method}/{name}", f"{len(some)}, {len(grid)}", *(told(*both) for both in after))
    return out


def plot(line: dict, numbers: Parametrisation, path: Path) -> None:
    """How JAQ answers to each number, by the points that a search went over."""
    points = {}
    for known in line["points"]:
        coefficients = Coefficients(**known["coefficients"])
        points[coefficients] = Point(coefficients, tuple(known["scores"]))
    best, one = Coefficients(line["c_x"], line["c_eps"]), Coefficients.identity(STEPS)
    save(sensitivity(SearchResult(points[best], points[one], tuple(points.values()), {}), numbers), path)


def main() -> None:
    """Search what is missing, print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablations.jsonl"))
    parser.add_argument("--rows", help="Ids, with semicolons between them; default: all.")
    parser.add_argument("--whole-grid", action="store_true")
    parser.add_argument(
        "--afresh", type=int, metavar="N", help="Measure what the rows found before on N more captions."
    )
    parser.add_argument(
        "--plot", type=Path, help="Draw the sensitivity of the first of the rows to this file."
    )
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.touch()
    lines = [json.loads(line) for line in arguments.output.read_text().splitlines()]
    known = {row.id: row for row in rows(arguments.whole_grid)}
    wanted = arguments.rows.split(";") if arguments.rows else list(known)
    if unknown := set(wanted) - set(known):
        parser.error(f"--rows: no {', '.join(unknown)}; there are {'; '.join(known)}")
    wanted_rows = [known[name] for name in wanted]
    if arguments.afresh:
        found = {line["row"]: line for line in lines}
        if unknown := set(wanted) - set(found):
            parser.error(f"--afresh: not searched yet: {'; '.join(sorted(unknown))}")
        wanted_rows = [again(row, found[row.id], arguments.afresh) for row in wanted_rows]
    for row in wanted_rows:
        if any(line["row"] == row.id for line in lines):
            continue
        lines.append(searched(row))
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        Console(stderr=True).print(f"{row.id}: {lines[-1]['cpu_s']} s of CPU")
    Console(width=190).print(table(lines), over_draws(lines), against_the_grid(lines))
    if arguments.plot:
        line = next(line for line in lines if line["row"] == wanted[0])
        plot(line, known[wanted[0]].numbers(), arguments.plot)


if __name__ == "__main__":
    main()
