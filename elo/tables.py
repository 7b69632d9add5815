"""The rating table: votes in, one row a method out, with all it takes to make it again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from elo.counts import Counts, count
from elo.errors import SettingsError
from elo.intervals import CLUSTERS, Bootstrap, bootstrap, percentile_intervals, rank_ranges
from elo.online import sequential_elo
from elo.paired import NoMaximum, elo_scale, fit_bradley_terry
from elo.votes import Votes

METHODS = ("bradley-terry", "elo")
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


@dataclass(frozen=True, eq=False)
class RatingTable:
    """Ratings with their uncertainty and settings.

    ratings   one row a method, best first, with the columns COLUMNS: ratings, interval ends and elo in
              Elo points, win_rate from 0 to 1 (a tie is half), size_gb in 10⁹ bytes; NaN where unknown
    settings  what the table was made with, ready for JSON
    notes     what a reader must know, in plain sentences
    draws     (r, m) bootstrap draws of the ratings, columns in the order of the rows; r = 0 without
    """

    ratings: pd.DataFrame
    settings: dict[str, Any]
    notes: list[str]
    draws: np.ndarray

    def rank_ranges(self) -> list[tuple[int, int]] | None:
        """Best and worst rank of each row that the bootstrap leaves open at 95 %; None without draws."""
        if not len(self.draws):
            return None
        low, high = rank_ranges(self.draws)
        return list(zip(low.tolist(), high.tolist(), strict=True))


def compute(
    votes: Votes,
    *,
    method: str = "bradley-terry",
    k: float = 32,
    base: float = 1000,
    scale: float = 400,
    anchor: Mapping[str, float] | None = None,
    bootstrap: int = 1000,
    cluster: str = "auto",
    seed: int = 0,
    sizes: Mapping[str, float] | None = None,
) -> RatingTable:
    """Rate the methods.

    method     "bradley-terry" (maximum likelihood, ties as half wins) or "elo" (sequential, in vote order)
    k          step of the sequential Elo, in Elo points
    base       mean of the ratings; with an anchor, one method → its rating, that method is fixed instead
    scale      points that stand for odds of 10 : 1
    bootstrap  rounds of the percentile bootstrap, 0 for no intervals
    cluster    what it resamples: "auto", "vote", "judge" or "prompt" (see `elo.intervals`)
    sizes      method → bytes

    Where no finite Bradley–Terry rating exists, ratings are NaN and a note says why; counts, win rates
    and sequential Elo stand all the same. Raises SettingsError for settings that do not fit.
    """
    _check(votes, method, k, base, scale, anchor, bootstrap, cluster, seed, sizes)
    counts = count(votes)
    notes: list[str] = []
    online = sequential_elo(votes, k=k, base=base, scale=scale).ratings
    if anchor:
        ((fixed, value),) = anchor.items()
        online = online - online[votes.names.index(fixed)] + value
    rating, drawn = online, None
    if method == "bradley-terry":
        rating, drawn = _fit(votes, counts, bootstrap, cluster, seed, notes)
        rating = _on_scale(rating, votes, base, scale, anchor)
    else:
        notes.append(
            "Sequential Elo depends on the order of the votes and has no interval; bradley-terry has."
        )
    draws = np.empty((0, len(votes.names)))
    if drawn is not None:
        draws = _on_scale(drawn.draws, votes, base, scale, anchor)
    low, high = percentile_intervals(draws)
    if anchor and len(draws):
        notes.append(f"Intervals are of differences to {fixed}, which stands at {value:g} by choice.")

    frame = _frame(counts, rating, low, high, online, sizes or {})
    order = frame.index.to_numpy()
    _note_sizes(votes, sizes, notes)
    table = RatingTable(
        ratings=frame.reset_index(drop=True),
        settings=_settings(votes, method, k, base, scale, anchor, drawn, seed),
        notes=notes,
        draws=draws[:, order],
    )
    _note_open_ranks(table)
    return table


def _check(
    votes: Votes,
    method: str,
    k: float,
    base: float,
    scale: float,
    anchor: Mapping[str, float] | None,
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
    votes: Votes, counts: Counts, rounds: int, cluster: str, seed: int, notes: list[str]
) -> tuple[np.ndarray, Bootstrap | None]:
    """Log-strengths, NaN where there is no maximum, and the bootstrap where one was asked for and can be."""
    try:
        theta = fit_bradley_terry(counts).log_strength
    except NoMaximum as error:
        notes.append("No Bradley–Terry rating: these votes have no finite maximum-likelihood answer.")
        notes.extend(error.reasons)
        return np.full(len(votes.names), np.nan), None
    if not rounds:
        notes.append("No intervals were asked for: differences in rating may well be chance.")
        return theta, None
    drawn = bootstrap(votes, theta, rounds=rounds, cluster=cluster, seed=seed)
    notes.extend(drawn.notes)
    return theta, drawn


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
    drawn: Bootstrap | None,
    seed: int,
) -> dict[str, Any]:
    return {
        "method": method,
        "ties": "half a win for each side",
        "k": k,
        "base": base,
        "scale": scale,
        "anchor": dict(anchor) if anchor else None,
        "interval": "95 % percentile bootstrap" if drawn else None,
        "cluster": drawn.cluster if drawn else None,
        "clusters": drawn.clusters if drawn else None,
        "rounds": drawn.rounds if drawn else 0,
        "rounds_without_maximum": drawn.no_maximum if drawn else 0,
        "seed": seed,
        "n": len(votes),
        "judges": _distinct(votes.judge),
        "prompts": _distinct(votes.prompt),
        "question": votes.question,
        "order": votes.order,
        "left_out": dict(votes.left_out),
        "source": votes.source,
    }


def _distinct(codes: np.ndarray | None) -> int | None:
    return None if codes is None else int(codes.max()) + 1


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
