"""Do automatic metrics agree with the voters? Image by image, and method by method.

Image by image: the share of decided votes in which a metric gives the better value to the image that was
chosen (two-alternative accuracy, as of Zhang et al., CVPR 2018, arXiv:1801.03924); equal values count half,
so that a coin has ½. Its variance is that of a mean over clusters: by judge, by prompt, or by both as for
ratings (`elo.sandwich`).

Method by method: Kendall's τ_b and Spearman's ρ between the ratings and the means of the metric, over the
methods that it has values for and the prompts that were voted on. Their intervals are percentiles of a
bootstrap that draws prompts, the votes and the values on a prompt together: they tell of other prompts and
the same people.

A metric may lack values: one that measures the distance to full precision has none for that. Each is looked
at on the votes that it can judge, and two are compared on those that both can.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from elo.cells import DASH, plain_row
from elo.counts import LEFT, TIE, codes_of, own_cluster_if_unknown
from elo.errors import SettingsError
from elo.existence import NoMaximum
from elo.formats import csv_of, dumps
from elo.intervals import choose_clusters
from elo.metrics import Metrics, better, values_of_votes
from elo.notes import cluster_notes
from elo.paired import Fit, fit
from elo.pairs import tested, wilson
from elo.ranks import CORRELATIONS, WHY_NOT, rank_correlations, ranked
from elo.rated import listed
from elo.sandwich import critical_value
from elo.subsets import only
from elo.tables import clusters_told
from elo.tally import tally
from elo.terminal import rendered, table_of
from elo.votes import Votes

SHOWN = 3  # names in a message


@dataclass(frozen=True, eq=False)
class MetricAgreement:
    """k metrics against the voters, the one that agrees most often first.

    lower        (k,) whether lower is better
    votes        (k,) decided votes for whose two images the metric has values
    methods      (k,) how many methods it ranks, which are those it has values for
    estimates    "accuracy", "kendall", "spearman" → (3, k): the value and the ends of its 95 % interval; NaN
                 where it cannot be told
    behind       (k,) how much less often it agrees than the first one, on the votes that both can judge
    p            (k,) that there is no such difference, corrected for all pairs (Holm)
    settings     what was compared, ready for JSON. `ratings` is the share of decided votes that went to the
                 method that rates higher: what a metric reaches that knows the methods and not the images.
                 `voters` is the share of two votes on the same two images that agree. None: cannot be told
    notes        what a reader must know, in sentences
    """

    names: tuple[str, ...]
    lower: np.ndarray
    votes: np.ndarray
    methods: np.ndarray
    estimates: dict[str, np.ndarray]
    behind: np.ndarray
    p: np.ndarray
    settings: dict[str, Any]
    notes: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """One row a metric; None where unknown."""
        rows = []
        for i, name in enumerate(self.names):
            row: dict[str, Any] = {"metric": name, "better": "lower" if self.lower[i] else "higher"}
            row |= {"votes": self.votes[i], "methods": self.methods[i]}
            for told, values in self.estimates.items():
                row |= dict(zip((told, f"{told}_low", f"{told}_high"), values[:, i], strict=True))
            rows.append(plain_row(row | {"behind_the_first": self.behind[i], "p_holm": self.p[i]}))
        return rows

    def record(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "settings": self.settings,
            "metrics": self.rows(),
            "verdict": self.verdict(),
            "notes": self.notes,
        }

    def verdict(self) -> list[str]:
        """What it means, in sentences."""
        first, sure = self.names[0], self.p < 0.05
        _, low, high = self.estimates["accuracy"]
        said = {
            f"Beyond chance, {first} agrees with the voters more often than": sure & (self.behind > 0),
            f"On the votes that both can judge, {first} is beyond chance behind": sure & (self.behind < 0),
            f"These votes do not tell {first} apart from": ~sure & (np.arange(len(sure)) > 0),
            "As far as these votes tell, no better than a coin:": (low <= 0.5) & (high >= 0.5),
            "Beyond chance against the voters (is lower better? --lower):": high < 0.5,
        }
        return [
            f"{told} {', '.join(self.names[i] for i in np.flatnonzero(who))}."
            for told, who in said.items()
            if who.any()
        ]


def compare_metrics(
    votes: Votes, metrics: Metrics, *, cluster: str = "auto", bootstrap: int = 1000, seed: int = 0
) -> MetricAgreement:
    """Compare metrics with the votes for whose two images any of them has values.

    cluster    whom the intervals count, as of `elo.compute`
    bootstrap  rounds for the intervals of the rank correlations, 2 or more

    Raises SettingsError where votes and metrics have nothing in common, or the votes do not say the prompt.
    """
    used = _with_values(votes, metrics)
    if (used.winner == TIE).all():
        raise SettingsError(f"{votes.source}: only ties among the votes that {metrics.source} has values for")
    decided = only(used, used.winner != TIE, "tie")
    counted = tally(decided)
    groups = choose_clusters(counted, cluster)
    clusters = {group: len(counted.counts.by[group].labels) for group in groups} or {"vote": len(decided)}
    freedom = min(clusters.values()) - 1.0 if groups else float("inf")
    agrees = _agrees(decided, metrics)
    number = (~np.isnan(agrees)).sum(axis=1)
    share, variance = _mean_by_cluster(agrees, decided, groups)
    order = np.argsort(-share, kind="stable")[: np.count_nonzero(number)]
    behind, p = _behind_the_first(agrees[order], decided, groups, freedom)
    notes = cluster_notes(counted, groups)
    estimates = {"accuracy": _interval(share, variance, freedom, min(clusters.values()))}
    value, counts = better(metrics, used)[:, :, :-1], tally(used).counts
    rounds = bootstrap if len(used.labels["prompt"]) > 1 else 0
    ratings, lost = None, 0
    try:
        fitted = fit(counts)
    except NoMaximum as error:
        estimates |= dict.fromkeys(CORRELATIONS, np.full((3, len(value)), np.nan))
        notes += ["No rank correlation: these votes have no finite ratings.", *error.reasons]
    else:
        ratings = _ratings_agree(decided, fitted)
        correlations, lost = rank_correlations(value, counts, fitted, rounds, seed)
        estimates |= correlations
        few = [metrics.names[k] for k in np.flatnonzero(np.isnan(correlations["kendall"][0]))]
        if few:
            notes.append(f"No rank correlation of {', '.join(few)}: {WHY_NOT}.")
    nothing = [metrics.names[i] for i in np.flatnonzero(number == 0)]
    if nothing:
        notes.append(f"No decided vote has values of {', '.join(nothing)} for both images.")
    return MetricAgreement(
        names=tuple(metrics.names[i] for i in order),
        lower=metrics.lower[order],
        votes=number[order],
        methods=ranked(value).sum(axis=1)[order],
        estimates={name: values[:, order] for name, values in estimates.items()},
        behind=behind,
        p=p,
        settings={
            "votes": len(decided),
            "ties": len(used) - len(decided),
            "methods": len(used.names),
            "prompts": len(used.labels["prompt"]),
            "voters": _voters_agree(decided),
            "ratings": ratings,
            "clusters": clusters,
            "resampled": "prompt" if ratings is not None and rounds else None,
            "rounds": rounds if ratings is not None else 0,
            "rounds_without_maximum": lost,
            "seed": seed,
            "question": votes.question,
            "left_out": dict(used.left_out),
            "source": votes.source,
            "metrics": metrics.source,
        },
        notes=notes,
    )


def _with_values(votes: Votes, metrics: Metrics) -> Votes:
    """The votes for whose two images a metric has values."""
    if votes.prompt is None:
        raise SettingsError(f"{votes.source}: the votes do not say the prompt, so no image has values")
    left, right = values_of_votes(metrics, votes)
    known = ~np.isnan(left + right).all(axis=0)
    if not known.any():
        names = (metrics.methods, votes.names, metrics.prompts, votes.labels["prompt"])
        here, voted, prompts, asked = (listed(some[:SHOWN]) for some in names)
        raise SettingsError(
            f"{metrics.source}: no values for both images of any vote in {votes.source}; methods here are "
            f"{here}, there {voted}; prompts here {prompts}, there {asked}"
        )
    return only(votes, known, "without values")


def _agrees(votes: Votes, metrics: Metrics) -> np.ndarray:
    """(k, n): 1 if the metric prefers what was chosen, 0 if the other, ½ if neither; NaN without values."""
    left, right = values_of_votes(metrics, votes)
    chosen = np.where(votes.winner == LEFT, 1, -1)
    return np.where(np.isnan(left + right), np.nan, (1 + chosen * _sign(left, right)) / 2)


def _sign(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 where the left one is larger, −1 where the right one is, 0 where they are equal."""
    return (left > right).astype(int) - (left < right)


def _mean_by_cluster(
    values: np.ndarray, votes: Votes, groups: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(k, n), NaN where unknown → means (k,) of what is known and their variances, as of `elo.sandwich`."""
    known = ~np.isnan(values)
    number = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(axis=1) / number
        apart = np.where(known, values - mean[:, None], 0) / number[:, None]
    by_vote = (apart**2).sum(axis=1)
    parts = []
    for group in groups:
        codes = own_cluster_if_unknown(codes_of(votes, group), len(votes.labels[group]))
        g = int(codes.max()) + 1
        summed = np.stack([np.bincount(codes, row, minlength=g) for row in apart])
        parts.append((summed**2).sum(axis=1) * (g / (g - 1)))
    if not parts:
        return mean, by_vote
    return mean, np.maximum(sum(parts, -by_vote * (len(parts) - 1)), 0)


def _behind_the_first(
    agrees: np.ndarray, votes: Votes, groups: Sequence[str], freedom: float
) -> tuple[np.ndarray, np.ndarray]:
    """(k,) how much less often than the first each agrees on the votes of both, and Holm's p (see `p`)."""
    k = len(agrees)
    difference, error = np.zeros((k, k)), np.full((k, k), np.inf)
    for i, j in itertools.combinations(range(k), 2):
        found, variance = _mean_by_cluster((agrees[i] - agrees[j])[None], votes, groups)
        if not np.isnan(found[0]):
            difference[i, j], error[i, j] = found[0], np.sqrt(variance[0])
    _, p = tested(difference, error, freedom)
    return difference[0], p[0]


def _interval(share: np.ndarray, variance: np.ndarray, freedom: float, fewest: int) -> np.ndarray:
    """(3, k): shares and ends of 95 % intervals; Wilson's of the fewest clusters where all agree."""
    half = critical_value(freedom) * np.sqrt(variance)
    low, high = np.maximum(share - half, 0), np.minimum(share + half, 1)
    same = variance <= 0
    low[same], high[same] = wilson(share[same], np.full(same.sum(), fewest))
    return np.stack([share, low, high])


def _ratings_agree(votes: Votes, fitted: Fit) -> float:
    """Share of decided votes for the method that rates higher; equal ones count half."""
    rating = dict(zip(fitted.names, fitted.log_strength.round(9), strict=True))  # equal but for rounding
    theta = np.array([rating[name] for name in votes.names])
    chosen = np.where(votes.winner == LEFT, 1, -1)
    return float((1 + chosen * _sign(theta[votes.a], theta[votes.b])).mean() / 2)


def _voters_agree(votes: Votes) -> float | None:
    """Share of two decided votes on the same two images that agree; None where no images have two."""
    first, second = np.minimum(votes.a, votes.b), np.maximum(votes.a, votes.b)
    images = (codes_of(votes, "prompt").astype(np.int64) * len(votes.names) + first) * len(
        votes.names
    ) + second
    _, which = np.unique(images, return_inverse=True)
    number = np.bincount(which)
    won = np.bincount(which, (votes.winner == LEFT) == (votes.a == first))
    pairs = (number * (number - 1)).sum()
    return float((won * (won - 1) + (number - won) * (number - won - 1)).sum() / pairs) if pairs else None


def to_csv(found: MetricAgreement) -> str:
    """CSV with one row a metric; settings, verdict and notes as `#` lines above the header."""
    return csv_of(pd.DataFrame(found.rows()), found.settings, [*found.verdict(), *found.notes])


def to_json(found: MetricAgreement) -> str:
    """JSON of `MetricAgreement.record`."""
    return dumps(found.record())


WRITERS = {".csv": to_csv, ".json": to_json}


def to_terminal(found: MetricAgreement) -> str:
    """The metrics as a table, with what it means under it."""
    rows = [
        (
            name,
            "lower" if found.lower[i] else "higher",
            str(found.votes[i]),
            *_with_interval(100 * found.estimates["accuracy"][:, i], "{:.1f}"),
            str(found.methods[i]),
            *_with_interval(found.estimates["kendall"][:, i], "{:.2f}"),
            *_with_interval(found.estimates["spearman"][:, i], "{:.2f}"),
        )
        for i, name in enumerate(found.names)
    ]
    heads = ("metric", "better", "votes", "agrees %", "interval", "methods", "τ", "interval", "ρ", "interval")
    return rendered(
        table_of(heads, rows), below=_told(found.settings), notes=[*found.verdict(), *found.notes]
    )


def _with_interval(values: np.ndarray, form: str) -> tuple[str, str]:
    value, low, high = (DASH if np.isnan(v) else form.format(v).replace("-", "−") for v in values)
    return value, DASH if np.isnan(values[1]) else f"{low} to {high}"


def _told(s: Mapping[str, Any]) -> list[str]:
    """What was compared, in sentences."""
    left_out = ", ".join(f"{reason}: {n}" for reason, n in s["left_out"].items()) or "nothing"
    rounds = f"; of rank correlations {s['rounds']} rounds over {s['resampled']}s, seed {s['seed']}"
    said = [
        (
            f"{s['votes']} decided votes and {s['ties']} ties on {s['methods']} methods and {s['prompts']} "
            f"prompts from {s['source']}; values from {s['metrics']}; left out: {left_out}."
        ),
        f"Intervals: 95 % over {clusters_told(s)}{rounds if s['rounds'] else ''}.",
    ]
    if s["rounds"]:
        said.append("τ is Kendall's and ρ is Spearman's rank correlation of ratings and means over prompts.")
    if s["ratings"] is not None:
        said.append(
            f"The ratings of these votes, which know the method and not the image, agree with "
            f"{100 * s['ratings']:.1f} % of them."
        )
    if s["voters"] is not None:
        said.append(f"Of two votes on the same two images, {100 * s['voters']:.1f} % agree.")
    return said
