"""What a reader of a table must know of it, in plain sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from elo.estimate import Estimate
from elo.existence import NoMaximum
from elo.intervals import FEW
from elo.online import EloOrders
from elo.sandwich import critical_value
from elo.settings import Settings
from elo.tally import Tally

MANY = 10  # more open ranks than this are counted instead of listed
NAMED = 5  # of the methods that may be best


def no_maximum_notes(error: NoMaximum, settings: Settings) -> list[str]:
    """Why there are no ratings."""
    told = "Bradley–Terry" if settings.method == "bradley-terry" else settings.method
    return [f"No {told} rating: these votes have no finite maximum-likelihood answer.", *error.reasons]


def order_notes(spread: EloOrders) -> list[str]:
    """How far sequential Elo can be trusted."""
    return [
        "Sequential Elo depends on the order of the votes and has no interval; bradley-terry has.",
        (
            f"Over {spread.orders} random orders of the same votes, ratings move with a standard deviation "
            f"of up to {spread.sd.max():.0f} points."
        ),
    ]


def estimate_notes(found: Estimate, checks: Mapping[str, Any], votes: Tally, settings: Settings) -> list[str]:
    """What intervals, draws and checks have to say of themselves."""
    notes = cluster_notes(votes, [group for group in found.errors.clusters if group != "vote"])
    prior = settings.prior
    if prior:
        notes.append(
            f"A prior of {prior:g} vote{'s' * (prior != 1)} on every pair that met draws ratings together."
        )
    drawn = found.drawn
    if drawn and len(found.errors.clusters) > 1:
        notes.append(f"Bootstrap draws (Pareto front, chance to be best) resample {drawn.cluster}s only.")
    if drawn and drawn.no_maximum:
        notes.append(
            f"{drawn.no_maximum} of {drawn.rounds} bootstrap rounds had no finite maximum and are left out: "
            "what is read off the draws is too sure where that happens."
        )
    notes += _check_notes(found, checks, settings)
    for name, value in (settings.anchor or {}).items():
        notes.append(f"Intervals are of differences to {name}, which stands at {value:g} by choice.")
    return notes


def cluster_notes(votes: Tally, groups: Sequence[str]) -> list[str]:
    """What a reader of the intervals must know of their clusters."""
    notes = []
    if not groups:
        judges = votes.known("judge")
        few = f"{judges} judge{'s' * (judges != 1)}" if judges else "who voted is not known"
        notes.append(
            f"Votes by the same person are treated as independent ({few}): intervals may be too short."
        )
    elif tuple(groups) == ("judge",) and votes.known("prompt") > 1:
        notes.append("Intervals count judges, not prompts: they speak of these prompts.")
    elif tuple(groups) == ("prompt",):
        notes.append("Intervals count prompts, not judges: they speak of these judges.")
    for group in groups:
        number = len(votes.counts.by[group].labels)
        if number < FEW:
            notes.append(f"Only {number} {group}s: intervals from fewer than {FEW} tend to be too short.")
    return notes


def _check_notes(found: Estimate, checks: Mapping[str, Any], settings: Settings) -> list[str]:
    """What the checks found, where it matters to a reader."""
    notes = []
    transitivity, side = checks["transitivity"], checks["side_effect"]
    if transitivity and transitivity["p"] < 0.05:
        notes.append(
            "One number per method does not tell these votes well "
            f"(test of transitivity: p = {transitivity['p']:.2g})."
        )
    if found.fit.side is not None:
        error = math.sqrt(found.errors.covariance[-1, -1])
        half = settings.points * critical_value(found.errors.freedom) * error
        worth = f"{settings.points * found.fit.side:+.0f}".replace("-", "−")
        notes.append(
            f"The image on the left is worth {worth} ± {half:.0f} points (95 %); ratings are free of that."
        )
    elif side and side["p"] < 0.05:
        notes.append(f"The side an image stood on mattered (p = {side['p']:.2g}); --side takes it out.")
    ranks = checks["rank_by_tie_model"]
    if ranks:
        here = ranks[found.fit.model]
        differ = [model for model, rank in ranks.items() if rank is not None and rank != here]
        if differ:
            notes.append(f"Ranks depend on how ties are read: they differ under {' and '.join(differ)}.")
    return notes


def size_notes(names: Sequence[str], sizes: Mapping[str, float] | None) -> list[str]:
    """Whose size is missing, where sizes are given."""
    unknown = [name for name in names if name not in sizes] if sizes is not None else []
    return [f"No size is known for {', '.join(unknown)}."] if unknown else []


def best_notes(names: Sequence[str], chances: Sequence[float] | None) -> list[str]:
    """Which methods rate highest in how many bootstrap rounds, where there are any."""
    if chances is None:
        return []
    likely = sorted(zip(chances, names, strict=True), key=lambda pair: -pair[0])[:NAMED]
    told = ", ".join(f"{name} {100 * chance:.0f} %" for chance, name in likely if chance >= 0.01)
    return [f"Chance to be best, by the bootstrap: {told}."]


def rank_notes(names: Sequence[str], ranges: Sequence[tuple[int, int]] | None) -> list[str]:
    """Which ranks the tests leave open, where there are any."""
    if ranges is None:
        return []
    open_ranks = [
        f"{name} {low}–{high}" for name, (low, high) in zip(names, ranges, strict=True) if low < high
    ]
    if len(open_ranks) > MANY:
        return [f"These votes leave the rank of {len(open_ranks)} of {len(ranges)} methods open at 95 %."]
    return [f"Ranks these votes leave open at 95 %: {', '.join(open_ranks)}."] if open_ranks else []
