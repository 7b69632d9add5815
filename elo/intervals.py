"""Confidence by the cluster bootstrap: resample people (or prompts), not clicks.

Votes of one judge resemble one another, as do votes on one prompt. Drawing whole judges with
replacement keeps what belongs together together (Field and Welsh, J. R. Statist. Soc. B 69, 2007).
A round needs only counts: a matrix clusters × cells times multinomial weights gives the cells of all
rounds, so the cost does not grow with the votes.
"""

from dataclasses import dataclass

import numpy as np

from elo.counts import RIGHT
from elo.errors import SettingsError
from elo.paired import fit_rounds
from elo.votes import Votes

# Resampling judges and prompts at once ("both") belongs here when its variance is known to be right.
CLUSTERS = ("auto", "vote", "judge", "prompt")
ENOUGH = 20  # fewer clusters than this and `auto` does not resample them
FEW = 50  # below this, percentile intervals over clusters tend to be too short


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Draws of the log-strengths.

    draws       (rounds with a maximum, m), mean 0 in each
    cluster     what was resampled: "vote", "judge" or "prompt"
    clusters    how many of them there are
    rounds      rounds drawn, of which `no_maximum` had no finite maximum and gave no draw
    notes       what a reader of the intervals must know
    """

    draws: np.ndarray
    cluster: str
    clusters: int
    rounds: int
    no_maximum: int
    seed: int
    notes: tuple[str, ...]


def bootstrap(
    votes: Votes, start: np.ndarray, *, rounds: int = 1000, cluster: str = "auto", seed: int = 0
) -> Bootstrap:
    """Resample clusters with replacement and fit Bradley–Terry to each round.

    start    (m,) log-strengths of the fit to all votes, where the solver begins
    cluster  "vote", "judge", "prompt", or "auto": judges if there are at least 20, else prompts if
             there are at least 20, else votes

    A vote whose judge (or prompt) is unknown is a cluster of its own. Raises SettingsError where the
    votes do not say what is to be resampled, or have fewer than two of it.
    """
    taken, notes = _choose(votes, cluster)
    rng = np.random.default_rng(seed)
    m = len(votes.names)
    cell = np.where(votes.winner == RIGHT, votes.b * m + votes.a, votes.a * m + votes.b)
    # A tie stands in its own half of the table, to be split into half wins after the draw.
    cell = np.where(votes.winner > RIGHT, m * m + cell, cell)
    used, column = np.unique(cell, return_inverse=True)
    if taken == "vote":
        clusters = len(votes)
        cells = rng.multinomial(clusters, np.bincount(column) / clusters, size=rounds)
    else:
        codes = _own_cluster_if_unknown(_clusters(votes, taken))
        clusters = int(codes.max()) + 1
        cells = _resample(rng, codes, column, clusters, len(used), rounds)
    table = np.zeros((rounds, 2 * m * m))
    table[:, used] = cells
    wins, ties = table.reshape(rounds, 2, m, m).transpose(1, 0, 2, 3)
    theta = fit_rounds(wins + (ties + ties.transpose(0, 2, 1)) / 2, start)
    draws = theta[~np.isnan(theta[:, 0])]
    if taken != "vote" and clusters < FEW:
        notes.append(f"Only {clusters} {taken}s: intervals from fewer than {FEW} tend to be too short.")
    if len(draws) < rounds:
        notes.append(
            f"{rounds - len(draws)} of {rounds} bootstrap rounds had no finite maximum and are left out: "
            "the intervals are too short where that happens."
        )
    return Bootstrap(draws, taken, clusters, rounds, rounds - len(draws), seed, tuple(notes))


def percentile_intervals(draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends (m,) of the central `level` of draws (r, m); NaN where there are no draws."""
    if not len(draws):
        nothing = np.full(draws.shape[1], np.nan)
        return nothing, nothing.copy()
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def rank_ranges(draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst rank (m,) that the central `level` of draws (r, m) leaves open; rank 1 is highest."""
    ranks = 1 + (draws[:, None, :] > draws[:, :, None]).sum(axis=2)
    tail = (1 - level) / 2
    low = np.quantile(ranks, tail, axis=0, method="inverted_cdf")
    high = np.quantile(ranks, 1 - tail, axis=0, method="inverted_cdf")
    return low.astype(int), high.astype(int)


def _choose(votes: Votes, cluster: str) -> tuple[str, list[str]]:
    if cluster not in CLUSTERS:
        raise SettingsError(f"cluster {cluster!r}: expected one of {', '.join(CLUSTERS)}")
    judges, prompts = _number(votes.judge), _number(votes.prompt)
    if cluster == "auto":
        cluster = "judge" if judges >= ENOUGH else "prompt" if prompts >= ENOUGH else "vote"
    elif cluster != "vote":
        codes = _clusters(votes, cluster, missing_is_error=True)
        if int(_own_cluster_if_unknown(codes).max()) < 1:
            raise SettingsError(
                f"cluster {cluster!r}: all votes in {votes.source} share one {cluster}; two are needed"
            )
    if cluster == "vote":
        few = f"{judges} judge{'s' * (judges != 1)}" if judges else "who voted is not known"
        return cluster, [
            f"Votes by the same person are treated as independent ({few}): intervals may be too short."
        ]
    if cluster == "judge" and prompts > 1:
        return cluster, ["Judges are resampled, prompts are not: the intervals speak of these prompts."]
    if cluster == "prompt":
        return cluster, ["Prompts are resampled, judges are not: the intervals speak of these judges."]
    return cluster, []


def _clusters(votes: Votes, cluster: str, missing_is_error: bool = False) -> np.ndarray:
    codes = votes.judge if cluster == "judge" else votes.prompt
    if codes is None:
        raise SettingsError(f"cluster {cluster!r}: {votes.source} does not say the {cluster} of its votes")
    return codes


def _number(codes: np.ndarray | None) -> int:
    return 0 if codes is None else int(codes.max()) + 1


def _own_cluster_if_unknown(codes: np.ndarray) -> np.ndarray:
    unknown = codes < 0
    return np.where(unknown, codes.max() + np.cumsum(unknown), codes)


def _resample(
    rng: np.random.Generator, codes: np.ndarray, column: np.ndarray, clusters: int, cells: int, rounds: int
) -> np.ndarray:
    """(rounds, cells): counts of `rounds` draws of `clusters` clusters with replacement."""
    from scipy import sparse

    table = sparse.csr_array((np.ones(len(codes)), (codes, column)), shape=(clusters, cells))
    drawn = np.empty((rounds, cells))
    chunk = max(1, 10_000_000 // clusters)  # weights of a chunk of rounds stay below 80 MB
    for first in range(0, rounds, chunk):
        size = min(chunk, rounds - first)
        weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
        drawn[first : first + size] = weights @ table
    return drawn
