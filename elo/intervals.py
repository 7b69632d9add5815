"""What is resampled, and the cluster bootstrap: draw people (or prompts), not clicks.

Votes of one judge resemble one another, as do votes on one prompt. Drawing whole judges with
replacement keeps what belongs together together (Field and Welsh, J. R. Statist. Soc. B 69, 2007).
A round needs only counts: a matrix clusters × cells times multinomial weights gives the cells of all
rounds, so the cost does not grow with the votes.

Intervals of ratings are from the sandwich (`elo.sandwich`); draws serve what has no formula: ranks, the
probability to be best, the Pareto front.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from elo.counts import GROUPS, Counts, from_wins
from elo.errors import SettingsError
from elo.paired import Fit, fit_rounds, prior_cells
from elo.tally import Tally

CLUSTERS = ("auto", "vote", "judge", "prompt", "both")
ENOUGH = 20  # `auto` takes what has at least as many values
FEW = 50  # below this, intervals over clusters tend to be too short
# Rounds drawn at once, and how many weights or cells (80 MB) at most. Small arrays are made of memory that is
# at hand; asking the system for more would take as long as the drawing.
CHUNK, MOST = 100, 10_000_000


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Draws of the log-strengths.

    draws       (rounds with a maximum, m), mean 0 in each
    cluster     what was resampled: "vote", "judge" or "prompt"
    clusters    how many of them there are
    rounds      rounds drawn, of which `no_maximum` had no finite maximum and gave no draw
    """

    draws: np.ndarray
    cluster: str
    clusters: int
    rounds: int
    no_maximum: int
    seed: int


def choose_clusters(votes: Tally, cluster: str = "auto") -> tuple[str, ...]:
    """Which of judge and prompt to count as independent: (), ("judge",), ("prompt",) or both.

    "auto" takes every one of them that has at least 20 values; "vote" takes none. Raises SettingsError
    where the votes do not say what is asked for, or have fewer than two of it.
    """
    if cluster not in CLUSTERS:
        raise SettingsError(f"cluster {cluster!r}: expected one of {', '.join(CLUSTERS)}")
    if cluster == "vote":
        return ()
    if cluster == "auto":
        return tuple(group for group in GROUPS if votes.known(group) >= ENOUGH)
    groups = GROUPS if cluster == "both" else (cluster,)
    for group in groups:
        if group not in votes.counts.by:
            raise SettingsError(f"cluster {cluster!r}: {votes.source} does not say the {group} of its votes")
        if len(votes.counts.by[group].labels) < 2:
            raise SettingsError(
                f"cluster {cluster!r}: all votes in {votes.source} share one {group}; two are needed"
            )
    return groups


def bootstrap(
    counts: Counts, like: Fit, *, rounds: int = 1000, cluster: str = "vote", seed: int = 0
) -> Bootstrap:
    """Resample clusters with replacement and fit the model of `like` to each round.

    counts   with the cluster among `counts.by`, unless it is "vote"
    cluster  "vote", "judge" or "prompt"; an unknown judge is a judge of their own
    """
    theta = np.concatenate([drawn for _, drawn in draw_rounds(counts, like, rounds, cluster, seed)])
    draws = theta[~np.isnan(theta[:, 0])]
    clusters = round(counts.total) if cluster == "vote" else len(counts.by[cluster].labels)
    return Bootstrap(draws, cluster, clusters, rounds, rounds - len(draws), seed)


def draw_rounds(
    counts: Counts, like: Fit, rounds: int, cluster: str, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rounds of `bootstrap` in chunks.

    Of each chunk: how often each cluster was drawn (r, g), in the order of its labels (votes: each cell);
    and the log-strengths (r, m), NaN where there is no maximum.
    """
    rng = np.random.default_rng(seed)
    m = len(counts.names)
    prior = prior_cells(counts, like.prior).reshape(-1)
    if cluster == "vote":
        # A side that is not fitted need not be drawn: half the cells, half the time.
        drawn = counts if like.side is not None else from_wins(counts.names, counts.wins, counts.ties)
        flat, g = drawn.number.reshape(-1), 1
        used = np.flatnonzero(flat)
    else:
        labels = counts.by[cluster].labels
        g = len(labels)
        # By name, so that the same votes give the same draws in whatever order they come.
        place = np.empty(g, dtype=int)
        place[sorted(range(g), key=labels.__getitem__)] = np.arange(g)
        used = np.flatnonzero(counts.number)
        table = counts.by[cluster].table[:, used]
        if g * len(used) <= 1 << 24:
            table = table.toarray()  # a dense product is faster, and this much is no burden
    chunk = max(1, min(CHUNK, MOST // max(g, 3 * m * m), rounds))
    number = np.tile(prior, (chunk, 1))
    for first in range(0, rounds, chunk):
        size = min(chunk, rounds - first)
        if cluster == "vote":
            weights = cells = rng.multinomial(round(counts.total), flat[used] / flat.sum(), size=size)
        else:
            weights = rng.multinomial(g, np.full(g, 1 / g), size=size)[:, place]
            cells = weights.astype(float) @ table
        number[:size, used] = cells + prior[used]
        yield weights, fit_rounds(number[:size].reshape(size, 3, m, m), like)


def percentile_intervals(draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends (m,) of the central `level` of draws (r, m); NaN where there are no draws."""
    if not len(draws):
        nothing = np.full(draws.shape[1], np.nan)
        return nothing, nothing.copy()
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def probability_best(draws: np.ndarray) -> np.ndarray:
    """(m,) share of the draws (r, m) in which a method has the highest rating; ties share."""
    top = draws == draws.max(axis=1, keepdims=True)
    return np.asarray((top / top.sum(axis=1, keepdims=True)).mean(axis=0))
