"""Does a general optimiser find better coefficients than the races, for as many pictures?

    pip install optuna cmaes && python bench/search.py [--repeats 30]

On made-up landscapes whose top is known. JAQ of a picture is a bowl in the paper's four numbers, common to
all prompts, plus what each prompt prefers for itself, plus what it scores in any case. The sizes are those of
the shapes world: the top gains about 0.01, and for coefficients 0.07 away from 1 the gain differs from prompt
to prompt by about 0.03. Told is the share of the top's gain that a search's winner really has (below 0 it is
worse than no coefficients), and the paired difference to the race with its 95 % interval. All draw as much
as a race of 64 prompts; Algorithm 1 and the released grid draw what they do.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import optuna
from rich.console import Console
from rich.table import Table
from scipy.stats import ttest_rel

from qsched.coefficients import Coefficients
from qsched.jaq import paired_gain
from qsched.parametrisations import paper
from qsched.racing import race
from qsched.search import search

STEPS, PROMPTS, CURVATURE, TASTE = 4, 64, 2.0, 0.2
NUMBERS = paper(STEPS)


class Landscape:
    """A bowl with a top within 0.06 of 1 in each number, and prompts that pull in their own ways."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.top = 1 + rng.uniform(-0.06, 0.06, 4)
        self.level, self.taste = rng.normal(0, 0.1, PROMPTS), rng.normal(0, TASTE, (PROMPTS, 4))
        self.drawn = 0

    def gain(self, coefficients: Coefficients) -> float:
        """Over the identity, for prompts in general."""
        numbers = np.array(NUMBERS.nearest(coefficients))
        return CURVATURE * float(((1 - self.top) ** 2).sum() - ((numbers - self.top) ** 2).sum())

    def scores(self, coefficients: Coefficients, prompts: range) -> np.ndarray:
        """Of one picture a prompt."""
        self.drawn += len(prompts)
        moved = np.array(NUMBERS.nearest(coefficients)) - 1
        some = slice(prompts.start, prompts.stop)
        return self.level[some] + self.taste[some] @ moved + self.gain(coefficients)


def raced(world: Landscape, prompts: int = PROMPTS) -> Coefficients:
    """`qsched.racing` as it comes."""
    return race(lambda c, _: c, world.scores, NUMBERS, prompts=prompts, spread=0.1).best.coefficients


def shrunk(world: Landscape) -> Coefficients:
    """A race on 20 prompts, its winner brought back towards 1 by James and Stein's factor 1 − 2 / t²."""
    found = race(lambda c, _: c, world.scores, NUMBERS, prompts=20, spread=0.1)
    t = ttest_rel(found.best.scores, found.identity.scores).statistic
    if not t > 2**0.5:  # nan where the identity won
        return found.identity.coefficients
    moved = np.array(NUMBERS.nearest(found.best.coefficients)) - 1
    return NUMBERS((1 + (1 - 2 / t**2) * moved).tolist())


def algorithm_1(world: Landscape) -> Coefficients:
    """161 candidates on 20 prompts."""
    return search(lambda c: c, lambda c: world.scores(c, range(20)), steps=STEPS).best.coefficients


def released(world: Landscape) -> Coefficients:
    """50 × 50 starts from 0.8 to 1.2 on 25 prompts, both ends 1."""
    values = np.linspace(0.8, 1.2, 50)
    grid = [Coefficients.from_ends(x, 1, e, 1, STEPS) for x, e in itertools.product(values, values)]
    return max(grid, key=lambda c: world.scores(c, range(25)).mean())


def by_optuna(world: Landscape, make: Callable[[], optuna.samplers.BaseSampler], budget: int) -> Coefficients:
    """An Optuna sampler within ± 0.1, its pruner for paired scores, as many pictures as `budget`."""
    study = optuna.create_study(
        direction="maximize", sampler=make(), pruner=optuna.pruners.WilcoxonPruner(p_threshold=0.2)
    )
    study.enqueue_trial({str(i): 1.0 for i in range(4)})

    def objective(trial: optuna.Trial) -> float:
        coefficients = NUMBERS([trial.suggest_float(str(i), 0.9, 1.1) for i in range(4)])
        seen: list[float] = []
        for start in range(0, PROMPTS, 8):
            seen += world.scores(coefficients, range(start, start + 8)).tolist()
            for i in range(start, start + 8):
                trial.report(seen[i], i)
            if trial.should_prune():
                break
        return float(np.mean(seen))

    while world.drawn < budget:
        study.optimize(objective, n_trials=1)
    whole = [trial for trial in study.trials if len(trial.intermediate_values) == PROMPTS]
    best = max(whole, key=lambda trial: trial.value)
    return NUMBERS([best.params[str(i)] for i in range(4)])


def main() -> None:
    """Search every landscape in every way, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[str, list[tuple[float, int]]] = {}
    for seed in range(repeats):

        def tried(name: str, run: Callable[[Landscape], Coefficients], seed: int = seed) -> int:
            world = Landscape(seed)
            best = run(world)
            top = CURVATURE * float(((1 - world.top) ** 2).sum())
            found.setdefault(name, []).append((world.gain(best) / top, world.drawn))
            return world.drawn

        budget = tried("race", raced)
        tried("race, 20 prompts", lambda world: raced(world, 20))
        tried("race, 20 prompts, shrunk", shrunk)
        tried("Algorithm 1", algorithm_1)
        tried("released grid", released)
        samplers = {
            "Optuna TPE": lambda seed=seed: optuna.samplers.TPESampler(seed=seed),
            "Optuna CMA-ES": lambda seed=seed: optuna.samplers.CmaEsSampler(seed=seed),
        }
        for name, make in samplers.items():
            tried(name, lambda world, make=make, budget=budget: by_optuna(world, make, budget))
    out = Table("search", "pictures", "share", "less the race's", title=f"{repeats} landscapes")
    for name, values in found.items():
        shares, drawn = np.transpose(values)
        gain = paired_gain([share for share, _ in found["race"]], shares)
        difference = "" if name == "race" else f"{gain.gain:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
        out.add_row(name, f"{drawn.mean():,.0f}", f"{shares.mean():.2f}", difference)
    Console(width=110).print(out)


if __name__ == "__main__":
    main()
