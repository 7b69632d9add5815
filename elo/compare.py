"""Two dumps of votes: what changed between them, and whether it means anything.

Ratings are compared among the methods that both dumps have, on the scale where these have the same mean:
a method that only joined moves all others on any other scale. The uncertainty of a difference depends on
what the dumps share. Where both say who voted, the same judges are drawn for both in each round of the
bootstrap, so that votes which are in both cancel; otherwise, where the second dump has all the votes of
the first and more, its new votes are drawn apart from the old ones; otherwise the dumps are taken as
independent.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from elo.counts import Counts, count
from elo.errors import SettingsError
from elo.existence import NoMaximum
from elo.paired import Fit, fit, fit_rounds
from elo.pairs import holm
from elo.sandwich import critical_value, two_sided_p
from elo.terminal import rendered, table_of
from elo.votes import Votes

POINTS = 400 / math.log(10)  # Elo points of one unit of log-strength


@dataclass(frozen=True, eq=False)
class Comparison:
    """Dump a against dump b; the arrays have one entry for each of the k methods in both.

    added, removed  methods of b that a has not, and of a that b has not
    votes           number of votes of a and of b
    names           methods in both, best of b first
    rating          (2, k) Elo points in a and in b, mean 1000 in each
    rank            (2, k) among these methods
    difference      (k,) b − a, with its 95 % interval `low`, `high`
    p               (k,) two-sided, that the difference is chance, corrected for k looks (Holm)
    overall_p       that nothing changed at all, by the chi-square test of all differences together
    drawn           what was resampled, in words
    rounds          rounds of the bootstrap that had a maximum in both
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    votes: tuple[int, int]
    names: tuple[str, ...]
    rating: np.ndarray
    rank: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    overall_p: float
    drawn: str
    rounds: int
    seed: int
    sources: tuple[str, str]

    def verdict(self) -> list[str]:
        """What it means, in sentences."""
        said = []
        for word, names in (("new", self.added), ("gone", self.removed)):
            if names:
                said.append(f"Methods that are {word}: {', '.join(names)}.")
        moved = [name for name, p in zip(self.names, self.p, strict=True) if p < 0.05]
        if moved:
            said.append(f"Changed beyond chance (5 %, all methods together): {', '.join(moved)}.")
        elif self.overall_p < 0.05:
            said.append(
                f"The ratings as a whole changed beyond chance (p = {self.overall_p:.2g}), "
                "but no single method can be named."
            )
        else:
            said.append(f"No rating changed beyond chance (p = {self.overall_p:.2g} for all together).")
        swapped = [name for name, one, two in zip(self.names, *self.rank, strict=True) if one != two]
        if swapped and not moved:
            said.append(f"Other ranks, by chance as far as one can tell: {', '.join(swapped)}.")
        return said

    def record(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        columns = {
            "rating_before": self.rating[0],
            "rating_after": self.rating[1],
            "rank_before": self.rank[0],
            "rank_after": self.rank[1],
            "difference": self.difference,
            "ci_low": self.low,
            "ci_high": self.high,
            "p_holm": self.p,
        }
        return {
            "before": {"source": self.sources[0], "votes": self.votes[0]},
            "after": {"source": self.sources[1], "votes": self.votes[1]},
            "added": list(self.added),
            "removed": list(self.removed),
            "methods": [
                {"method": name} | {column: values[i].item() for column, values in columns.items()}
                for i, name in enumerate(self.names)
            ],
            "overall_p": self.overall_p,
            "resampled": self.drawn,
            "rounds": self.rounds,
            "seed": self.seed,
            "verdict": self.verdict(),
        }


def compare(before: Votes, after: Votes, *, bootstrap: int = 1000, seed: int = 0) -> Comparison:
    """Compare two dumps of votes.

    Raises SettingsError where they have fewer than two methods in common, or no finite ratings.
    """
    names = tuple(name for name in before.names if name in after.names)
    if len(names) < 2:
        raise SettingsError(f"{before.source} and {after.source} have fewer than two methods in common")
    judges = before.judge is not None and after.judge is not None
    by = ("judge",) if judges else ()
    one, two = count(before, by), count(after, by)
    fits = _fitted(one, before), _fitted(two, after)
    rng = np.random.default_rng(seed)
    cells, drawn = _by_judge(one, two, bootstrap, rng) if judges else _by_vote(one, two, bootstrap, rng)
    theta = [_common(fitted.log_strength[None], fitted.names, names)[0] for fitted in fits]
    rounds = [
        _common(fit_rounds(numbers, fitted), fitted.names, names)
        for numbers, fitted in zip(cells, fits, strict=True)
    ]
    draws = POINTS * (rounds[1] - rounds[0])
    draws = draws[~np.isnan(draws).any(axis=1)]
    difference = POINTS * (theta[1] - theta[0])
    if len(draws) < 2:
        raise SettingsError(
            f"{len(draws)} of {bootstrap} bootstrap rounds have ratings in both: too few votes"
        )
    error = draws.std(axis=0, ddof=1)
    order = np.argsort(-theta[1], kind="stable")
    half = critical_value(float("inf")) * error
    return Comparison(
        added=tuple(name for name in after.names if name not in before.names),
        removed=tuple(name for name in before.names if name not in after.names),
        votes=(len(before), len(after)),
        names=tuple(names[i] for i in order),
        rating=np.stack([1000 + POINTS * t[order] for t in theta]),
        rank=np.stack([_ranks(t)[order] for t in theta]),
        difference=difference[order],
        low=(difference - half)[order],
        high=(difference + half)[order],
        p=holm(_two_sided(difference, error))[order],
        overall_p=_chi_square(difference, draws),
        drawn=drawn,
        rounds=len(draws),
        seed=seed,
        sources=(before.source, after.source),
    )


def to_terminal(found: Comparison) -> str:
    """The comparison as a table, with what it means under it."""
    rows = [
        (
            name,
            f"{found.rating[0, i]:.0f}",
            f"{found.rating[1, i]:.0f}",
            f"{found.difference[i]:+.0f}",
            f"{found.low[i]:+.0f} … {found.high[i]:+.0f}",
            f"{found.p[i]:.2g}",
            f"{found.rank[0, i]}"
            if found.rank[0, i] == found.rank[1, i]
            else "{} → {}".format(*found.rank[:, i]),
        )
        for i, name in enumerate(found.names)
    ]
    heads = ("method", "before", "after", "difference", "95 % interval", "p (Holm)", "rank")
    sources = (
        f"{found.votes[0]} votes from {found.sources[0]}, {found.votes[1]} from {found.sources[1]}; "
        f"{found.rounds} rounds over {found.drawn}, seed {found.seed}."
    )
    return rendered(table_of(heads, rows), below=[sources], notes=found.verdict())


def _by_judge(
    one: Counts, two: Counts, rounds: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], str]:
    """Cells (r, 3, m, m) of both dumps; a judge who is in both has the same weight in both."""
    place: dict[str, int] = {}
    columns = []
    for dump, counts in enumerate((one, two)):
        labels = [
            label or f"\0{dump} {i}"  # a vote of nobody known is a judge of its own
            for i, label in enumerate(counts.by["judge"].labels)
        ]
        columns.append([place.setdefault(label, len(place)) for label in labels])
    weights = rng.multinomial(len(place), np.full(len(place), 1 / len(place)), size=rounds)
    cells = [
        counts.resample("judge", weights[:, column])
        for counts, column in zip((one, two), columns, strict=True)
    ]
    return cells, f"{len(place)} judges, the same in both"


def _by_vote(one: Counts, two: Counts, rounds: int, rng: np.random.Generator) -> tuple[list[np.ndarray], str]:
    old = _votes_drawn(one, rounds, rng)
    try:
        new = two - one
    except ValueError:
        return [old, _votes_drawn(two, rounds, rng)], "votes, both dumps taken as independent"
    at = [two.names.index(name) for name in one.names]
    both = _votes_drawn(new, rounds, rng)
    both[np.ix_(range(rounds), range(3), at, at)] += old
    return [old, both], "votes, the old ones the same in both"


def _votes_drawn(counts: Counts, rounds: int, rng: np.random.Generator) -> np.ndarray:
    total = round(counts.total)
    if not total:
        return np.zeros((rounds, *counts.number.shape))
    drawn = rng.multinomial(total, counts.number.ravel() / counts.total, size=rounds)
    return drawn.astype(float).reshape(rounds, *counts.number.shape)


def _fitted(counts: Counts, votes: Votes) -> Fit:
    try:
        return fit(counts)
    except NoMaximum as error:
        raise SettingsError(f"{votes.source}: no ratings to compare. {error}") from error


def _common(theta: np.ndarray, of: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """(r, m) → (r, k): the methods that both dumps have, with mean 0."""
    found = theta[:, [of.index(name) for name in names]]
    return found - found.mean(axis=1, keepdims=True)


def _ranks(theta: np.ndarray) -> np.ndarray:
    return 1 + (theta[None] > theta[:, None] + 1e-9).sum(axis=1)


def _two_sided(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    """p of each difference; 1 where the dumps agree, and 0 where they differ in every round alike."""
    same = np.abs(difference) < 1e-9
    z = difference / np.where(error > 0, error, 1)
    return np.where(same, 1.0, np.where(error > 0, two_sided_p(z, float("inf")), 0.0))


def _chi_square(difference: np.ndarray, draws: np.ndarray) -> float:
    """dᵀ V⁺ d against χ² with as many degrees of freedom as V has, at most k − 1."""
    from scipy.stats import chi2

    if np.abs(difference).max() < 1e-9:
        return 1.0
    values, vectors = np.linalg.eigh(np.cov(draws.T))
    real = values > values.max() * 1e-9
    along = vectors[:, real].T @ difference
    return float(chi2.sf((along**2 / values[real]).sum(), int(real.sum())))
