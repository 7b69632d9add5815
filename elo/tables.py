"""The rating table: votes in, one row a method out, with all it takes to make it again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from elo.checks import check
from elo.counts import Counts, count
from elo.errors import SettingsError
from elo.existence import NoMaximum
from elo.intervals import (
    CLUSTERS,
    Bootstrap,
    bootstrap,
    choose_clusters,
    cluster_notes,
    probability_best,
    values,
)
from elo.online import elo_over_orders, sequential_elo
from elo.paired import Fit, elo_scale, fit
from elo.pairs import PairTests, compare_pairs
from elo.sandwich import Sandwich, critical_value, sandwich
from elo.subsets import only
from elo.ties import TIE_MODELS
from elo.votes import Votes

METHODS = (*TIE_MODELS, "elo")
COLUMNS = (
    "rank",
    "method",
    "rating",
    "ci_low",
    "ci_high",
    "votes",
    "wins",
    "losses",
    "ties",
    "win_rate",
    "elo",
    "size_gb",
)
ORDERS = 100  # random orders that show how far sequential Elo depends on theirs


@dataclass(frozen=True, eq=False)
class RatingTable:
    """Ratings with their uncertainty and settings.

    ratings   one row a method, best first, with the columns COLUMNS: ratings, interval ends and elo in
              Elo points, win_rate from 0 to 1 (a tie is half), size_gb in 10⁹ bytes; NaN where unknown
    settings  what the table was made with, ready for JSON
    notes     what a reader must know, in plain sentences
    draws     (r, m) bootstrap draws of the ratings, columns in the order of the rows; r = 0 without
    pairs     methods two by two, in the order of the rows; None without a fit
    checks    tests of the model (`elo.checks`), ready for JSON
    """

    ratings: pd.DataFrame
    settings: dict[str, Any]
    notes: list[str]
    draws: np.ndarray
    pairs: PairTests | None = None
    checks: dict[str, Any] = field(default_factory=dict)

    def rank_ranges(self) -> list[tuple[int, int]] | None:
        """Best and worst rank of each row that the pairwise tests leave open at 95 %; None without a fit."""
        if self.pairs is None:
            return None
        low, high = self.pairs.rank_ranges()
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def probability_best(self) -> list[float] | None:
        """Share of the bootstrap rounds in which each row rates highest; None without draws."""
        return probability_best(self.draws).tolist() if len(self.draws) else None

    def win_rates(self) -> pd.DataFrame | None:
        """One row a pair that met: votes, the first's win rate with Wilson's interval, difference and p."""
        if self.pairs is None:
            return None
        p, points = self.pairs, self.settings["scale"] / math.log(10)
        rows = [
            {
                "method_a": p.names[i],
                "method_b": p.names[j],
                "votes": p.votes[i, j],
                "win_rate": p.win_rate[i, j],
                "win_low": p.win_low[i, j],
                "win_high": p.win_high[i, j],
                "difference": points * p.difference[i, j],
                "error": points * p.error[i, j],
                "p": p.p[i, j],
                "p_holm": p.p_holm[i, j],
            }
            for i in range(len(p.names))
            for j in range(i + 1, len(p.names))
        ]
        return pd.DataFrame(rows)


def compute(
    votes: Votes,
    *,
    method: str = "bradley-terry",
    k: float = 32,
    base: float = 1000,
    scale: float = 400,
    anchor: Mapping[str, float] | None = None,
    side: bool = False,
    prior: float = 0,
    bootstrap: int = 1000,
    cluster: str = "auto",
    seed: int = 0,
    sizes: Mapping[str, float] | None = None,
) -> RatingTable:
    """Rate the methods.

    method     "bradley-terry" (maximum likelihood, ties as half wins), "davidson" or "rao-kupper" (ties
               as outcomes), or "elo" (sequential, in vote order)
    k          step of the sequential Elo, in Elo points
    base       mean of the ratings; with an anchor, one method → its rating, that method is fixed instead
    scale      points that stand for odds of 10 : 1
    side       also fit what standing on the left is worth
    prior      votes added to every pair that met, half a win for each (0.5: half a vote)
    bootstrap  rounds of the cluster bootstrap, for the chance to be best and the Pareto front; 0 for none
    cluster    whom the intervals count: "auto", "vote", "judge", "prompt" or "both" (see `elo.intervals`)
    sizes      method → bytes

    Intervals are ratings ± t standard errors of the sandwich by cluster (`elo.sandwich`); with an anchor,
    they are of differences to it. Where no finite rating exists, ratings are NaN and a note says why;
    counts, win rates and sequential Elo stand all the same. Raises SettingsError for settings that do
    not fit.
    """
    _check(votes, method, k, base, scale, anchor, side, prior, bootstrap, cluster, seed, sizes)
    fitted_model = method != "elo"
    groups = choose_clusters(votes, cluster) if fitted_model else ()
    counts = count(votes, by=groups)
    notes: list[str] = []
    checks: dict[str, Any] = {}
    online = sequential_elo(votes, k=k, base=base, scale=scale).ratings
    shift = 0.0
    if anchor:
        ((fixed, value),) = anchor.items()
        shift = value - online[votes.names.index(fixed)]
    online = online + shift
    rating, found = online, None
    half, draws = np.full(len(online), np.nan), np.empty((0, len(online)))
    if fitted_model:
        found = _fit(votes, counts, method, side, prior, bootstrap, groups, seed, notes)
        rating = np.full(len(online), np.nan)
    else:
        notes.append(
            "Sequential Elo depends on the order of the votes and has no interval; bradley-terry has."
        )
        spread = elo_over_orders(votes, orders=ORDERS, k=k, base=base, scale=scale, seed=seed)
        checks["elo_over_orders"] = {
            "orders": ORDERS,
            "mean": dict(zip(votes.names, (spread.mean + shift).tolist(), strict=True)),
            "sd": dict(zip(votes.names, spread.sd.tolist(), strict=True)),
        }
        notes.append(
            f"Over {ORDERS} random orders of the same votes, ratings move with a standard deviation of up "
            f"to {spread.sd.max():.0f} points."
        )
    if found is not None:
        rating = _on_scale(found.fit.log_strength, votes, base, scale, anchor)
        draws = _on_scale(found.draws, votes, base, scale, anchor)
        half = _half_widths(found.errors, votes, scale, anchor)
        checks.update(check(counts, found.fit, found.errors.design_effect))
        _note_checks(checks, found.fit, found.errors, scale, votes.sides, notes)
        if anchor:
            notes.append(f"Intervals are of differences to {fixed}, which stands at {value:g} by choice.")

    frame = _frame(counts, rating, rating - half, rating + half, online, sizes or {})
    order = frame.index.to_numpy()
    _note_sizes(votes, sizes, notes)
    table = RatingTable(
        ratings=frame.reset_index(drop=True),
        settings=_settings(votes, method, k, base, scale, anchor, side, prior, found, seed),
        notes=notes,
        draws=draws[:, order],
        pairs=_reordered(compare_pairs(counts, found.fit, found.errors), order) if found else None,
        checks=checks,
    )
    _note_open_ranks(table)
    return table


def compute_by(votes: Votes, by: str = "category", **options: Any) -> dict[str, RatingTable]:
    """One table for each category of prompts, in the order of their names; options as `compute` has.

    Raises SettingsError where the votes have no such column.
    """
    if by != "category":
        raise SettingsError(f"by {by!r}: expected category")
    codes = votes.category
    if codes is None:
        raise SettingsError(f"by {by!r}: {votes.source} does not say the category of its votes")
    labels = votes.labels["category"]
    tables = {}
    for code in sorted(set(codes.tolist()) - {-1}, key=lambda code: labels[code]):
        tables[labels[code]] = compute(
            only(votes, codes == code, f"category other than {labels[code]}"), **options
        )
    return tables


@dataclass(frozen=True, eq=False)
class _Found:
    fit: Fit
    errors: Sandwich
    drawn: Bootstrap | None

    @property
    def draws(self) -> np.ndarray:
        return self.drawn.draws if self.drawn else np.empty((0, len(self.fit.names)))


def _check(
    votes: Votes,
    method: str,
    k: float,
    base: float,
    scale: float,
    anchor: Mapping[str, float] | None,
    side: bool,
    prior: float,
    rounds: int,
    cluster: str,
    seed: int,
    sizes: Mapping[str, float] | None,
) -> None:
    if method not in METHODS:
        raise SettingsError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    if cluster not in CLUSTERS:
        raise SettingsError(f"cluster {cluster!r}: expected one of {', '.join(CLUSTERS)}")
    for name, value in (("k", k), ("scale", scale)):
        if not (math.isfinite(value) and value > 0):
            raise SettingsError(f"{name} {value!r}: expected a number above 0")
    if side and not votes.sides:
        raise SettingsError(f"side: {votes.source} does not say which image was on the left")
    if not (math.isfinite(prior) and prior >= 0):
        raise SettingsError(f"prior {prior!r}: expected a number of votes, 0 or more")
    if not math.isfinite(base):
        raise SettingsError(f"base {base!r}: expected a finite number")
    for name, value in (("bootstrap", rounds), ("seed", seed)):
        if value < 0:
            raise SettingsError(f"{name} {value!r}: expected 0 or more")
    if anchor is not None:
        if len(anchor) != 1:
            raise SettingsError(f"anchor {dict(anchor)!r}: expected one method and its rating")
        ((name, value),) = anchor.items()
        if name not in votes.names:
            raise SettingsError(f"anchor {name!r}: no votes on it; there are {', '.join(votes.names)}")
        if not math.isfinite(value):
            raise SettingsError(f"anchor {name!r}: expected a finite rating, found {value!r}")
    if sizes is not None and not set(sizes) & set(votes.names):
        raise SettingsError(
            f"sizes: none of {', '.join(sizes)} was voted on; there are {', '.join(votes.names)}"
        )


def _fit(
    votes: Votes,
    counts: Counts,
    method: str,
    side: bool,
    prior: float,
    rounds: int,
    groups: Sequence[str],
    seed: int,
    notes: list[str],
) -> _Found | None:
    """The fit with its standard errors and draws; None where there is no maximum, which is noted."""
    try:
        fitted = fit(counts, method, side=side, prior=prior)
    except NoMaximum as error:
        told = "Bradley–Terry" if method == "bradley-terry" else method
        notes.append(f"No {told} rating: these votes have no finite maximum-likelihood answer.")
        notes.extend(error.reasons)
        return None
    errors = sandwich(counts, fitted, groups)
    notes.extend(cluster_notes(votes, groups))
    if prior:
        notes.append(
            f"A prior of {prior:g} vote{'s' * (prior != 1)} on every pair that met draws ratings together."
        )
    if not rounds:
        return _Found(fitted, errors, None)
    # Draws are over one group: where both count, the one whose variance is larger.
    taken = max(groups, key=lambda group: sandwich(counts, fitted, [group]).design_effect, default="vote")
    drawn = bootstrap(counts, fitted, rounds=rounds, cluster=taken, seed=seed)
    if len(groups) > 1:
        notes.append(f"Bootstrap draws (Pareto front, chance to be best) resample {taken}s only.")
    if drawn.no_maximum:
        notes.append(
            f"{drawn.no_maximum} of {rounds} bootstrap rounds had no finite maximum and are left out: "
            "what is read off the draws is too sure where that happens."
        )
    return _Found(fitted, errors, drawn)


def _half_widths(
    errors: Sandwich, votes: Votes, scale: float, anchor: Mapping[str, float] | None
) -> np.ndarray:
    """(m,) half the width of the 95 % interval of each rating, or of its difference to the anchor."""
    if anchor:
        error = errors.differences()[votes.names.index(next(iter(anchor)))]
    else:
        m = len(votes.names)
        error = np.sqrt(np.diag(errors.covariance)[:m])
    return scale / math.log(10) * critical_value(errors.freedom) * error


def _reordered(pairs: PairTests, order: np.ndarray) -> PairTests:
    matrices = {name: value[np.ix_(order, order)] for name, value in vars(pairs).items() if name != "names"}
    return PairTests(tuple(pairs.names[i] for i in order), **matrices)


def _note_checks(
    checks: dict[str, Any], fitted: Fit, errors: Sandwich, scale: float, sides: bool, notes: list[str]
) -> None:
    """Say what the checks found, where it matters to a reader."""
    if not sides:
        checks["side_effect"] = None
    transitivity, side = checks["transitivity"], checks["side_effect"]
    if transitivity and transitivity["p"] < 0.05:
        notes.append(
            "One number per method does not tell these votes well "
            f"(test of transitivity: p = {transitivity['p']:.2g})."
        )
    if fitted.side is not None:
        points = scale / math.log(10)
        half = points * critical_value(errors.freedom) * math.sqrt(errors.covariance[-1, -1])
        notes.append(
            f"The image on the left is worth {points * fitted.side:+.0f} ± {half:.0f} points (95 %); "
            "ratings are free of that."
        )
    elif side and side["p"] < 0.05:
        notes.append(f"The side an image stood on mattered (p = {side['p']:.2g}); --side takes it out.")
    ranks = checks["rank_by_tie_model"]
    if ranks:
        here = ranks[fitted.model]
        differ = [model for model, rank in ranks.items() if rank is not None and rank != here]
        if differ:
            notes.append(f"Ranks depend on how ties are read: {' and '.join(differ)} rank differently.")


def _on_scale(
    theta: np.ndarray, votes: Votes, base: float, scale: float, anchor: Mapping[str, float] | None
) -> np.ndarray:
    return elo_scale(theta, votes.names, base=base, scale=scale, anchor=dict(anchor) if anchor else None)


def _frame(
    counts: Counts,
    rating: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    online: np.ndarray,
    sizes: Mapping[str, float],
) -> pd.DataFrame:
    """The rows, best first; the index says where each stood in `counts.names`."""
    wins, losses, ties = (
        _whole(number)
        for number in (counts.wins.sum(axis=1), counts.wins.sum(axis=0), counts.ties.sum(axis=1))
    )
    votes = wins + losses + ties
    frame = pd.DataFrame(
        {
            # Ratings that differ by rounding only share a rank.
            "rank": pd.Series(rating).round(6).rank(method="min", ascending=False).astype("Int64"),
            "method": counts.names,
            "rating": rating,
            "ci_low": low,
            "ci_high": high,
            "votes": votes,
            "wins": wins,
            "losses": losses,
            "ties": ties,
            "win_rate": (wins + ties / 2) / votes,
            "elo": online,
            "size_gb": [sizes.get(name, math.nan) / 1e9 for name in counts.names],
        },
        columns=list(COLUMNS),
    )
    by = ["rank", "method"] if not np.isnan(rating).any() else ["win_rate", "method"]
    return frame.sort_values(by, ascending=[by[0] == "rank", True], kind="stable")


def _whole(number: np.ndarray) -> np.ndarray:
    """Numbers of votes as integers, unless they are weights."""
    rounded = np.rint(number)
    return rounded.astype(np.int64) if np.array_equal(rounded, number) else number


def _settings(
    votes: Votes,
    method: str,
    k: float,
    base: float,
    scale: float,
    anchor: Mapping[str, float] | None,
    side: bool,
    prior: float,
    found: _Found | None,
    seed: int,
) -> dict[str, Any]:
    clusters = found.errors.clusters if found else {}
    drawn = found.drawn if found else None
    fitted = found.fit if found else None
    return {
        "method": method,
        "ties": TIE_MODELS.get(method, TIE_MODELS["bradley-terry"]).told,
        "tie_parameter": fitted.tie if fitted else None,
        "side": side,
        "side_effect": scale / math.log(10) * fitted.side if fitted and fitted.side is not None else None,
        "prior": prior,
        "k": k,
        "base": base,
        "scale": scale,
        "anchor": dict(anchor) if anchor else None,
        "interval": "95 % sandwich" if found else None,
        "cluster": ("both" if len(clusters) > 1 else next(iter(clusters))) if found else None,
        "clusters": clusters or None,
        "design_effect": found.errors.design_effect if found else None,
        "resampled": drawn.cluster if drawn else None,
        "rounds": drawn.rounds if drawn else 0,
        "rounds_without_maximum": drawn.no_maximum if drawn else 0,
        "seed": seed,
        "n": len(votes),
        "judges": values(votes, "judge") or None,
        "prompts": values(votes, "prompt") or None,
        "question": votes.question,
        "order": votes.order,
        "left_out": dict(votes.left_out),
        "source": votes.source,
    }


def clusters_told(settings: Mapping[str, Any]) -> str:
    """Whom the intervals count, in words: "40 judges and 30 prompts"."""
    return " and ".join(f"{number} {group}s" for group, number in settings["clusters"].items())


def _note_sizes(votes: Votes, sizes: Mapping[str, float] | None, notes: list[str]) -> None:
    if sizes is not None:
        unknown = [name for name in votes.names if name not in sizes]
        if unknown:
            notes.append(f"No size is known for {', '.join(unknown)}.")


def _note_open_ranks(table: RatingTable) -> None:
    ranges = table.rank_ranges()
    if ranges is None:
        return
    open_ranks = [
        f"{name} {low}–{high}"
        for name, (low, high) in zip(table.ratings["method"], ranges, strict=True)
        if low < high
    ]
    if len(open_ranks) > 10:
        table.notes.append(
            f"These votes leave the rank of {len(open_ranks)} of {len(ranges)} methods open at 95 %."
        )
    elif open_ranks:
        table.notes.append(f"Ranks these votes leave open at 95 %: {', '.join(open_ranks)}.")
