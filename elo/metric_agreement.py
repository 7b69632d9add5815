"""Do automatic metrics agree with the voters? Image by image, and method by method.

Image by image: the share of decided votes in which a metric gives the better value to the image that was
chosen (two-alternative accuracy, as of Zhang et al., CVPR 2018, arXiv:1801.03924); equal values count half,
so that a coin has ½. Its variance is that of a mean over clusters: by judge, by prompt, or by both as for
ratings (`elo.sandwich`).

Method by method: Kendall's τ_b and Spearman's ρ between the ratings and the means of the metric over the
prompts that were voted on. Their intervals are percentiles of a bootstrap that draws prompts, the votes and
the values on a prompt together: they tell of other prompts and the same people.
"""

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
from elo.intervals import choose_clusters, draw_rounds, percentile_intervals
from elo.metrics import Metrics
from elo.notes import cluster_notes
from elo.paired import fit
from elo.pairs import tested, wilson
from elo.ranks import kendall, spearman
from elo.rated import listed
from elo.sandwich import combined, critical_value
from elo.subsets import only
from elo.tables import clusters_told
from elo.tally import tally
from elo.terminal import rendered, table_of
from elo.votes import Votes

SHOWN = 3  # names in a message
FEWEST = 3  # methods of which a rank correlation says anything
CORRELATIONS = {"kendall": kendall, "spearman": spearman}


@dataclass(frozen=True, eq=False)
class MetricAgreement:
    """k metrics against the voters, the one that agrees most often first.

    lower        (k,) whether lower is better
    estimates    "accuracy", "kendall", "spearman" → (3, k): the value and the ends of its 95 % interval; NaN
                 where it cannot be told
    p            (k,) that the metric agrees as often as the first one, corrected for all pairs (Holm)
    settings     what was compared, ready for JSON. `ratings` is the share of the same votes that went to the
                 method that rates higher: what a metric reaches that knows the methods and not the images.
                 `voters` is the share of two votes on the same two images that agree. None: cannot be told
    notes        what a reader must know, in sentences
    """

    names: tuple[str, ...]
    lower: np.ndarray
    estimates: dict[str, np.ndarray]
    p: np.ndarray
    settings: dict[str, Any]
    notes: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """One row a metric; None where unknown."""
        rows = []
        for i, name in enumerate(self.names):
            row: dict[str, Any] = {"metric": name, "better": "lower" if self.lower[i] else "higher"}
            for told, values in self.estimates.items():
                row |= dict(zip((told, f"{told}_low", f"{told}_high"), values[:, i], strict=True))
            rows.append(plain_row(row | {"p_as_the_first": self.p[i]}))
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
        said = []
        first, others = self.names[0], list(zip(self.names[1:], self.p[1:] < 0.05, strict=True))
        behind, level = ([name for name, sure in others if sure == wanted] for wanted in (True, False))
        if behind:
            said.append(f"Beyond chance, {first} agrees with the voters more often than {', '.join(behind)}.")
        if level:
            said.append(f"These votes do not tell {first} apart from {', '.join(level)}.")
        _, low, high = self.estimates["accuracy"]
        coins = [self.names[i] for i in np.flatnonzero((low <= 0.5) & (high >= 0.5))]
        against = [self.names[i] for i in np.flatnonzero(high < 0.5)]
        if coins:
            said.append(f"As far as these votes tell, no better than a coin: {', '.join(coins)}.")
        if against:
            said.append(f"Beyond chance against the voters: {', '.join(against)}. Is lower better (--lower)?")
        return said


def compare_metrics(
    votes: Votes, metrics: Metrics, *, cluster: str = "auto", bootstrap: int = 1000, seed: int = 0
) -> MetricAgreement:
    """Compare metrics with the votes for whose images all of them have values.

    cluster    whom the intervals count, as of `elo.compute`
    bootstrap  rounds for the intervals of the rank correlations, 2 or more

    Raises SettingsError where votes and metrics have nothing in common, or the votes do not say the prompt.
    """
    used, notes = _with_values(votes, metrics)
    if (used.winner == TIE).all():
        raise SettingsError(f"{votes.source}: only ties among the votes that {metrics.source} has values for")
    decided = only(used, used.winner != TIE, "tie")
    groups = choose_clusters(tally(decided), cluster)
    notes += cluster_notes(tally(decided), groups)
    chosen = np.where(decided.winner == LEFT, 1, -1)
    agrees = (1 + chosen * _sign(*_values_of_votes(decided, metrics))) / 2
    accuracy, covariance, clusters = _mean_by_cluster(agrees, decided, groups)
    freedom = min(clusters.values()) - 1.0 if groups else float("inf")
    correlations, record, told = _method_by_method(used, metrics, bootstrap, seed)
    variance = np.diag(covariance)
    error = np.sqrt(np.maximum(variance[:, None] + variance - 2 * covariance, 0))
    _, p = tested(accuracy[:, None] - accuracy, error, freedom)
    order = np.argsort(-accuracy, kind="stable")
    estimates = {"accuracy": _interval(accuracy, variance, freedom, min(clusters.values()))} | correlations
    return MetricAgreement(
        names=tuple(metrics.names[i] for i in order),
        lower=metrics.lower[order],
        estimates={name: values[:, order] for name, values in estimates.items()},
        p=p[order[0], order],
        settings={
            "votes": len(decided),
            "ties": len(used) - len(decided),
            "methods": len(used.names),
            "prompts": len(used.labels["prompt"]),
            "voters": _voters_agree(decided),
            **record,
            "clusters": clusters,
            "seed": seed,
            "question": votes.question,
            "left_out": dict(used.left_out),
            "source": votes.source,
            "metrics": metrics.source,
        },
        notes=notes + told,
    )


def _with_values(votes: Votes, metrics: Metrics) -> tuple[Votes, list[str]]:
    """The votes for whose two images all metrics have values, and which metrics have fewest of them."""
    if votes.prompt is None:
        raise SettingsError(f"{votes.source}: the votes do not say the prompt, so no image has values")
    i, j, prompt = _images(votes, metrics)
    there = (i >= 0) & (j >= 0) & (prompt >= 0)
    value = ~np.isnan(metrics.value)
    known = there & value[:, i, prompt] & value[:, j, prompt]
    if not known.all(axis=0).any():
        names = (metrics.methods, votes.names, metrics.prompts, votes.labels["prompt"])
        here, there_, prompts, asked = (listed(some[:SHOWN]) for some in names)
        raise SettingsError(
            f"{metrics.source}: no vote of {votes.source} has values of all metrics for both images; methods "
            f"here are {here}, there {there_}; prompts here {prompts}, there {asked}"
        )
    number = known.sum(axis=1)
    notes = [
        f"{name} has values for {n} of {len(votes)} votes; all are compared on those that all can judge."
        for name, n in zip(metrics.names, number, strict=True)
        if n < number.max()
    ]
    return only(votes, known.all(axis=0), "without values of all metrics"), notes


def _images(votes: Votes, metrics: Metrics) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where in the array of values the left and the right method and the prompt of each vote stand, or −1."""
    method, prompt = (
        np.array([at.get(name, -1) for name in names] + [-1])
        for names, at in (
            (votes.names, {name: i for i, name in enumerate(metrics.methods)}),
            (votes.labels["prompt"], {name: i for i, name in enumerate(metrics.prompts)}),
        )
    )
    return method[votes.a], method[votes.b], prompt[votes.prompt]


def _better(metrics: Metrics) -> np.ndarray:
    """(k, methods, prompts): values of which higher is better; infinite ones are only very large."""
    value = np.where(metrics.lower[:, None, None], -metrics.value, metrics.value)
    return np.nan_to_num(value, nan=np.nan, posinf=1e300, neginf=-1e300)


def _values_of_votes(votes: Votes, metrics: Metrics) -> tuple[np.ndarray, np.ndarray]:
    """(k, n) values of the left and of the right image of each vote."""
    i, j, prompt = _images(votes, metrics)
    better = _better(metrics)
    return better[:, i, prompt], better[:, j, prompt]


def _sign(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 where the left one is larger, −1 where the right one is, 0 where they are equal."""
    return (left > right).astype(int) - (left < right)


def _mean_by_cluster(
    agrees: np.ndarray, votes: Votes, groups: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """(k, n) → means (k,), their covariance (k, k) by clusters, and how many of these there are."""
    mean, n = agrees.mean(axis=1), len(votes)
    apart = (agrees - mean[:, None]) / n
    parts, clusters = [], {}
    for group in groups:
        codes = own_cluster_if_unknown(codes_of(votes, group), len(votes.labels[group]))
        g = clusters[group] = int(codes.max()) + 1
        summed = np.stack([np.bincount(codes, row, minlength=g) for row in apart])
        parts.append(summed @ summed.T * (g / (g - 1)))
    return mean, combined(apart @ apart.T, parts), clusters or {"vote": n}


def _interval(share: np.ndarray, variance: np.ndarray, freedom: float, fewest: int) -> np.ndarray:
    """(3, k): shares and ends of 95 % intervals; Wilson's of the fewest clusters where all agree."""
    half = critical_value(freedom) * np.sqrt(np.maximum(variance, 0))
    low, high = np.maximum(share - half, 0), np.minimum(share + half, 1)
    same = variance <= 0
    low[same], high[same] = wilson(share[same], np.full(same.sum(), fewest))
    return np.stack([share, low, high])


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


def _method_by_method(
    votes: Votes, metrics: Metrics, rounds: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]]:
    """Rank correlations (3, k) as of `estimates`, what they were made with, and what to say of them."""
    found = {name: np.full((3, len(metrics.names)), np.nan) for name in CORRELATIONS}
    record: dict[str, Any] = {"ratings": None, "resampled": None, "rounds": 0, "rounds_without_maximum": 0}
    counted = tally(votes)
    try:
        fitted = fit(counted.counts)
    except NoMaximum as error:
        return found, record, ["No rank correlation: these votes have no finite ratings.", *error.reasons]
    theta = fitted.log_strength.round(9)  # equal methods differ by rounding
    decided = votes.winner != TIE
    chosen = np.where(votes.winner == LEFT, 1, -1)[decided]
    record["ratings"] = float((1 + chosen * _sign(theta[votes.a], theta[votes.b])[decided]).mean() / 2)
    if len(theta) < FEWEST:
        return found, record, [f"No rank correlation of fewer than {FEWEST} methods."]
    method = [metrics.methods.index(name) for name in votes.names]
    prompt = [metrics.prompts.index(name) for name in votes.labels["prompt"]]
    value = _better(metrics)[:, method][:, :, prompt]
    whole = ~np.isnan(value).any(axis=(0, 1))
    if not whole.any():
        return found, record, ["No rank correlation: no prompt has values of all metrics for all methods."]
    value = value[:, :, whole]
    if len(prompt) < 2:
        rounds = 0
    none = np.empty((0, len(metrics.names)))
    draws = {name: [none] for name in CORRELATIONS}
    for weights, of_round in draw_rounds(counted.counts, fitted, rounds, "prompt", seed):
        share = weights[:, whole] / np.maximum(weights[:, whole].sum(axis=1, keepdims=True), 1)
        there = np.einsum("rg,kmg->rkm", share, value, optimize=True)
        for name, correlation in CORRELATIONS.items():
            draws[name].append(correlation(of_round[:, None], there))
    for name, correlation in CORRELATIONS.items():
        drawn = np.concatenate(draws[name])
        known = ~np.isnan(drawn).all(axis=1)
        found[name] = np.stack([correlation(theta, value.mean(axis=2)), *percentile_intervals(drawn[known])])
    record |= {"resampled": "prompt", "rounds": rounds, "rounds_without_maximum": int((~known).sum())}
    missing = int((~whole).sum())
    notes = [f"Rank correlations leave out {missing} prompts that lack a value."] if missing else []
    return found, record, notes


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
            *_with_interval(100 * found.estimates["accuracy"][:, i], "{:.1f}"),
            *_with_interval(found.estimates["kendall"][:, i], "{:.2f}"),
            *_with_interval(found.estimates["spearman"][:, i], "{:.2f}"),
        )
        for i, name in enumerate(found.names)
    ]
    heads = (
        "metric",
        "better",
        "agrees %",
        "95 % interval",
        "Kendall τ",
        "interval",
        "Spearman ρ",
        "interval",
    )
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
    if s["ratings"] is not None:
        said.append(
            f"The ratings of these votes, which know the method and not the image, agree with "
            f"{100 * s['ratings']:.1f} % of them."
        )
    if s["voters"] is not None:
        said.append(f"Of two votes on the same two images, {100 * s['voters']:.1f} % agree.")
    return said
