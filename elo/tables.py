"""The rating table: votes in, one row a method out, with all it takes to make it again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from elo.checks import check
from elo.counts import Counts
from elo.errors import SettingsError
from elo.estimate import Estimate, estimate
from elo.existence import NoMaximum
from elo.intervals import probability_best
from elo.notes import best_notes, estimate_notes, no_maximum_notes, order_notes, rank_notes, size_notes
from elo.online import elo_over_orders, sequential_elo
from elo.pairs import PairTests, compare_pairs
from elo.settings import Settings
from elo.subsets import only
from elo.tally import Tally, tally
from elo.ties import TIE_MODELS
from elo.votes import Votes

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


def compute(votes: Votes | Tally, **settings: Any) -> RatingTable:
    """Rate the methods, with the settings of `elo.settings.Settings`.

    method="bradley-terry", k=32, base=1000, scale=400, anchor=None, side=False, prior=0, bootstrap=1000,
    cluster="auto", seed=0, sizes=None.

    Intervals are ratings ± t standard errors of the sandwich by cluster (`elo.sandwich`); with an anchor,
    they are of differences to it. Where no finite rating exists, ratings are NaN and a note says why;
    counts, win rates and sequential Elo stand all the same. Raises SettingsError for settings that do
    not fit.
    """
    chosen, counted = Settings(**settings), tally(votes)
    chosen.check(counted)
    names = counted.names
    online = sequential_elo(counted, k=chosen.k, base=chosen.base, scale=chosen.scale).ratings
    shift = chosen.shift(online, names)
    rating, half = np.full((2, len(names)), np.nan)
    found: Estimate | None = None
    checks: dict[str, Any] = {}
    if chosen.method == "elo":
        rating = online + shift
        spread = elo_over_orders(
            counted.counts, orders=ORDERS, k=chosen.k, base=chosen.base, scale=chosen.scale, seed=chosen.seed
        )
        checks["elo_over_orders"] = {
            "orders": ORDERS,
            "mean": dict(zip(names, (spread.mean + shift).tolist(), strict=True)),
            "sd": dict(zip(names, spread.sd.tolist(), strict=True)),
        }
        notes = order_notes(spread)
    else:
        try:
            found = estimate(counted, chosen)
        except NoMaximum as error:
            notes = no_maximum_notes(error, chosen)
        else:
            rating = chosen.on_scale(found.fit.log_strength, names)
            half = chosen.points * found.half_widths(next(iter(chosen.anchor or ()), None))
            checks = check(counted.counts, found.fit, found.errors.design_effect)
            checks["side_effect"] = checks["side_effect"] if counted.sides else None
            notes = estimate_notes(found, checks, counted, chosen)
    frame = _frame(counted.counts, rating, half, online + shift, chosen.sizes or {})
    order = frame.index.to_numpy()
    table = RatingTable(
        ratings=frame.reset_index(drop=True),
        settings=_record(counted, chosen, found),
        notes=notes + size_notes(names, chosen.sizes),
        draws=(chosen.on_scale(found.draws, names) if found else np.empty((0, len(names))))[:, order],
        pairs=compare_pairs(counted.counts, found.fit, found.errors).reordered(order) if found else None,
        checks=checks,
    )
    methods = table.ratings["method"].tolist()
    table.notes.extend(best_notes(methods, table.probability_best()))
    table.notes.extend(rank_notes(methods, table.rank_ranges()))
    return table


def compute_by(votes: Votes, by: str = "category", **settings: Any) -> dict[str, RatingTable]:
    """One table for each category of prompts, in the order of their names; settings as `compute` has.

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
        part = only(votes, codes == code, f"category other than {labels[code]}")
        tables[labels[code]] = compute(part, **settings)
    return tables


def _frame(
    counts: Counts, rating: np.ndarray, half: np.ndarray, online: np.ndarray, sizes: Mapping[str, float]
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
            "ci_low": rating - half,
            "ci_high": rating + half,
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


def _record(votes: Tally, chosen: Settings, found: Estimate | None) -> dict[str, Any]:
    """Settings and votes as the table tells them: all it takes to make it again."""
    clusters = found.errors.clusters if found else {}
    drawn = found.drawn if found else None
    side = found.fit.side if found else None
    return {
        "method": chosen.method,
        "ties": TIE_MODELS.get(chosen.method, TIE_MODELS["bradley-terry"]).told,
        "tie_parameter": found.fit.tie if found else None,
        "side": chosen.side,
        "side_effect": None if side is None else chosen.points * side,
        "prior": chosen.prior,
        "k": chosen.k,
        "base": chosen.base,
        "scale": chosen.scale,
        "anchor": dict(chosen.anchor) if chosen.anchor else None,
        "interval": "95 % sandwich" if found else None,
        "cluster": ("both" if len(clusters) > 1 else next(iter(clusters))) if found else None,
        "clusters": clusters or None,
        "design_effect": found.errors.design_effect if found else None,
        "resampled": drawn.cluster if drawn else None,
        "rounds": drawn.rounds if drawn else 0,
        "rounds_without_maximum": drawn.no_maximum if drawn else 0,
        "seed": chosen.seed,
        "n": len(votes),
        "judges": votes.known("judge") or None,
        "prompts": votes.known("prompt") or None,
        "question": votes.question,
        "order": votes.order,
        "left_out": dict(votes.left_out),
        "source": votes.source,
    }


def clusters_told(settings: Mapping[str, Any]) -> str:
    """Whom the intervals count, in words: "40 judges and 30 prompts"."""
    return " and ".join(f"{number} {group}s" for group, number in settings["clusters"].items())
