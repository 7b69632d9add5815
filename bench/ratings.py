"""Time this package beside others on the same synthetic votes, in one run.

    .venv/bin/python bench/ratings.py [--sizes 10000,80000] [--repeats 5] [--peers /tmp/peers] [--only file]

10 methods, 15 % ties, seed 0. Peers (evalica, choix, arena-rank) are imported from the site-packages of
the virtual environment --peers if they are there, after our own; a peer that cannot be imported is named.
FastChat's bootstrap is restated here from its idea (count the distinct votes, draw multinomial counts,
fit each draw by L-BFGS); it is not FastChat's code.

Every contender answers the same question from the same votes. "from" says what it starts with: `lists`
(Python lists of names), `frame` (a DataFrame of names), `codes` (our coded columns) or `file`. Times are
medians; ratios are medians of the ratios within a repeat, in which contenders take turns.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

import elo
from elo.counts import count
from elo.intervals import bootstrap
from elo.online import sequential_elo
from elo.paired import fit_bradley_terry

METHODS = 10
ROUNDS = 1000

Contender = tuple[str, str, Callable[[], Any]]  # name, what it starts from, what it does


def votes_of(n: int) -> dict[str, np.ndarray]:
    """n votes as columns of names, drawn from planted ratings; 500 judges."""
    rng = np.random.default_rng(0)
    names = np.array([f"method-{i}" for i in range(METHODS)])
    rating = np.linspace(900, 1100, METHODS)
    a = rng.integers(0, METHODS, n)
    b = (a + rng.integers(1, METHODS, n)) % METHODS
    left = rng.random(n) < 1 / (1 + 10 ** ((rating[b] - rating[a]) / 400))
    winner = np.where(rng.random(n) < 0.15, "tie", np.where(left, "model_a", "model_b"))
    judge = np.array([f"judge-{i}" for i in range(500)])[rng.integers(0, 500, n)]
    return {"model_a": names[a], "model_b": names[b], "winner": winner, "judge": judge}


def restated_bootstrap(frame: pd.DataFrame, rounds: int) -> np.ndarray:
    """FastChat's idea: distinct (a, b, outcome) with counts, multinomial draws, L-BFGS for each."""
    from scipy.optimize import minimize
    from scipy.special import expit

    names = pd.concat([frame["model_a"], frame["model_b"]]).unique()
    index = {name: i for i, name in enumerate(names)}
    a, b = frame["model_a"].map(index).to_numpy(), frame["model_b"].map(index).to_numpy()
    score = frame["winner"].map({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}).to_numpy()
    cells, number = np.unique(np.column_stack([a, b, 2 * score]).astype(np.int64), axis=0, return_counts=True)
    i, j, s = cells[:, 0], cells[:, 1], cells[:, 2] / 2

    def loss(theta: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        p = expit(theta[i] - theta[j])
        value = -(weights * (s * np.log(p) + (1 - s) * np.log1p(-p))).sum()
        slope = weights * (p - s)
        gradient = np.bincount(i, slope, len(names)) - np.bincount(j, slope, len(names))
        return value / weights.sum(), gradient / weights.sum()

    draws = np.random.default_rng(0).multinomial(len(frame), number / number.sum(), size=rounds)
    fits = [
        minimize(loss, np.zeros(len(names)), args=(w,), jac=True, method="L-BFGS-B", options={"gtol": 1e-6})
        for w in draws
    ]
    return np.array([fitted.x for fitted in fits])


def peers(lists: dict[str, list[str]], frame: pd.DataFrame, small: bool) -> dict[str, list[Contender]]:
    """What the other packages offer for each question; those that are not there are told on stderr."""
    found: dict[str, list[Contender]] = {"Bradley-Terry": [], "sequential Elo": [], "bootstrap": []}
    try:
        import evalica

        sides = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
        winners = [sides[winner] for winner in lists["winner"]]
        pair = lists["model_a"], lists["model_b"], winners
        found["Bradley-Terry"].append(("evalica", "lists", lambda: evalica.bradley_terry(*pair)))
        found["sequential Elo"].append(("evalica", "lists", lambda: evalica.elo(*pair)))
    except ImportError:
        print("evalica is not there", file=sys.stderr)
    try:
        import choix

        index = {name: i for i, name in enumerate(sorted(set(lists["model_a"])))}
        won = [
            (index[a], index[b]) if winner == "model_a" else (index[b], index[a])
            for a, b, winner in zip(*(lists[k] for k in ("model_a", "model_b", "winner")), strict=True)
        ]  # it has no ties: they count as losses of the left here, which costs the same
        if small:
            found["Bradley-Terry"].append(("choix", "pairs", lambda: choix.ilsr_pairwise(len(index), won)))
    except ImportError:
        print("choix is not there", file=sys.stderr)
    try:
        from arena_rank.models.bradley_terry import BradleyTerry
        from arena_rank.utils.data_utils import PairDataset

        def arena() -> Any:
            dataset = PairDataset.from_pandas(frame)
            return BradleyTerry(n_competitors=len(dataset.competitors)).compute_ratings_and_cis(dataset)

        if small:
            found["Bradley-Terry"].append(("arena-rank, with intervals", "frame", arena))
    except ImportError as error:
        print(f"arena-rank is not there ({error})", file=sys.stderr)
    found["bootstrap"].append(
        ("FastChat's idea, restated, 1 process", "frame", lambda: restated_bootstrap(frame, ROUNDS))
    )
    return found


def ours(
    lists: dict[str, list[str]], frame: pd.DataFrame, folder: Path
) -> tuple[dict[str, list[Contender]], elo.Votes]:
    """The same questions to this package, from the same starts and from coded columns."""
    path = folder / "votes.parquet"
    frame.to_parquet(path)
    votes = elo.read_votes(frame)
    counts = count(votes)
    fitted = fit_bradley_terry(counts)
    names = {key: lists[key] for key in ("model_a", "model_b", "winner")}

    def one_more() -> None:
        more = counts.number.copy()
        more[0, 0, 1] += 1
        fit_bradley_terry(type(counts)(counts.names, more))

    cells = np.concatenate([counts.wins.ravel(), np.triu(counts.ties).ravel()])
    cells = cells[cells > 0]

    def draw_only() -> None:
        np.random.default_rng(0).multinomial(round(cells.sum()), cells / cells.sum(), size=ROUNDS)

    def rate(**options: Any) -> elo.RatingTable:
        return elo.compute(votes, **options)

    def columns_only() -> None:
        from pyarrow import parquet

        parquet.read_table(path, columns=["model_a", "model_b", "winner", "judge"])

    found: dict[str, list[Contender]] = {
        "Bradley-Terry": [
            ("elo", "codes", lambda: fit_bradley_terry(count(votes))),
            ("elo", "lists", lambda: fit_bradley_terry(count(elo.read_votes(names)))),
            ("elo", "frame", lambda: fit_bradley_terry(count(elo.read_votes(frame)))),
        ],
        "sequential Elo": [("elo", "codes", lambda: sequential_elo(votes))],
        "bootstrap": [
            ("elo, over votes, rounds alone", "counts", lambda: bootstrap(counts, fitted, rounds=ROUNDS)),
            ("numpy draws the counts, no fits", "counts", draw_only),
            ("elo, over votes, whole table", "codes", lambda: rate(bootstrap=ROUNDS, cluster="vote")),
            ("elo, over 500 judges, whole table", "codes", lambda: rate(bootstrap=ROUNDS, cluster="judge")),
        ],
        "one more vote": [("elo, fit from running counts", "counts", one_more)],
        "file to table with intervals": [
            ("elo", "file", lambda: elo.compute(elo.read_votes(path), bootstrap=0)),
            ("pyarrow reads the four columns", "file", columns_only),
        ],
    }
    return found, votes


def measure(contenders: list[Contender], repeats: int) -> list[list[float]]:
    """Seconds of each contender in each repeat; they take turns, after one round that does not count.

    In its turn a contender works for 50 ms at least and the mean of its runs counts, so that a short one is
    not timed while it fetches its code and data back into the caches that the one before has filled.
    """
    seconds: list[list[float]] = [[] for _ in contenders]
    runs = [1] * len(contenders)
    for turn in range(repeats + 1):
        for i, (_, _, work) in enumerate(contenders):
            start = time.perf_counter()
            for _ in range(runs[i]):
                work()
            mean = (time.perf_counter() - start) / runs[i]
            if turn:
                seconds[i].append(mean)
            else:
                runs[i] = math.ceil(0.05 / mean)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10000,80000,1000000,10000000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", type=Path, help="a virtual environment with the other packages")
    parser.add_argument("--only", default="", help="only the questions with this in their name, such as file")
    options = parser.parse_args()
    if options.peers:
        sys.path += [str(path) for path in options.peers.glob("lib/python*/site-packages")]
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, one thread, medians of {options.repeats} repeats")
    for n in map(int, options.sizes.split(",")):
        columns = votes_of(n)
        lists = {name: column.tolist() for name, column in columns.items()}
        frame = pd.DataFrame(columns)
        with tempfile.TemporaryDirectory() as folder:
            mine, _ = ours(lists, frame, Path(folder))
            others = peers(lists, frame, small=n <= 100_000)
            for question, contenders in mine.items():
                if options.only not in question:
                    continue
                report(n, question, contenders + others.get(question, []), options.repeats)


def report(n: int, question: str, contenders: list[Contender], repeats: int) -> None:
    """Print one question at one size: the first contender is 1 ×."""
    seconds = measure(contenders, repeats)
    print(f"\n{question}, {n:,} votes")
    for (name, start, _), times in zip(contenders, seconds, strict=True):
        ratio = statistics.median(t / first for t, first in zip(times, seconds[0], strict=True))
        print(f"  {name:38} from {start:7} {1000 * statistics.median(times):12,.2f} ms {ratio:10,.1f} ×")


if __name__ == "__main__":
    main()
