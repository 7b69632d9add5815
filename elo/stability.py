"""What the claims of a ranking hang on: how few votes turn them, and which judge moves what."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from elo.errors import SettingsError
from elo.existence import NoMaximum
from elo.paired import fit
from elo.robustness import Flip, leave_one_out, votes_to_flip
from elo.settings import Settings
from elo.tally import Tally, tally
from elo.terminal import rendered, table_of
from elo.votes import Votes

NAMED = 5  # more judges than this are counted instead of named
EQUAL = 1e-9  # log-strengths as near as that differ by rounding only
FEW = 0.01  # a claim that fewer votes than this share would turn is called fragile


@dataclass(frozen=True, eq=False)
class Stability:
    """Claims "one rates higher than the other", and what would turn them.

    names    m methods, best first
    rating   (m,) Elo points, mean 1000
    claims   neighbours in rank, or the two methods asked for
    gap      points that each claim is about
    turned   for each claim the judges without any single one of whom it does not stand
    judges   how many can be left out; None where the votes do not say who voted
    mover    for each method the judge whose leaving moves its rating most; None without judges
    change   (m,) by how many points; NaN without judges
    lost     judges without any single one of whom there is no finite rating
    """

    names: tuple[str, ...]
    rating: np.ndarray
    claims: tuple[Flip, ...]
    gap: np.ndarray
    turned: tuple[tuple[str, ...], ...]
    judges: int | None
    mover: tuple[str | None, ...]
    change: np.ndarray
    lost: tuple[str, ...]
    votes: int
    source: str
    settings: Settings

    def record(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "settings": {
                "method": self.settings.method,
                "side": self.settings.side,
                "prior": self.settings.prior,
                "n": self.votes,
                "judges": self.judges,
                "source": self.source,
            },
            "methods": [
                {
                    "method": name,
                    "rating": float(self.rating[i]),
                    "most_moved_by": self.mover[i],
                    "change": None if np.isnan(self.change[i]) else float(self.change[i]),
                }
                for i, name in enumerate(self.names)
            ],
            "claims": [
                asdict(flip)
                | {"gap": float(gap), "turned_without": list(turned) if self.judges is not None else None}
                for flip, gap, turned in zip(self.claims, self.gap, self.turned, strict=True)
            ],
            "no_rating_without": list(self.lost),
            "verdict": self.verdict(),
        }

    def verdict(self) -> list[str]:
        """What a reader should know, in sentences."""
        said = []
        for flip in self.claims:
            claim = f"{flip.better} above {flip.worse}"
            if flip.votes is None or flip.share is None:
                said.append(f"{claim}: leaving out all votes that favour it does not turn it.")
            elif not flip.confirmed:
                said.append(f"{claim}: without {flip.votes} of its votes there is no finite rating.")
            elif flip.share < FEW:
                said.append(f"{claim} is fragile: leaving out {flip.votes} of {self.votes} votes turns it.")
        for flip, turned in zip(self.claims, self.turned, strict=True):
            if turned:
                said.append(f"{flip.better} above {flip.worse} does not stand without {_any(turned)}.")
        if self.lost:
            said.append(f"There are no finite ratings without {_any(self.lost)}.")
        if self.judges is None:
            said.append("These votes do not say who voted, so no judge could be left out.")
        elif not any(self.turned):
            said.append("No judge alone turns any of these claims.")
        said.append(
            "Votes are those whose removal moves the claim most, to first order; that they turn it is "
            "confirmed by fitting without them. A smaller set may exist."
        )
        return said


def stability(votes: Votes | Tally, pair: Sequence[str] | None = None, **settings: Any) -> Stability:
    """Find what the claims of a ranking hang on.

    pair      two methods, in any order; None: all neighbours in rank
    settings  method (not "elo"), side and prior, as of `elo.compute`

    Raises SettingsError for settings that do not fit, and where there are no finite ratings.
    """
    chosen, counted = Settings(**settings, bootstrap=0), tally(votes)
    chosen.check(counted)
    counts = counted.counts
    if chosen.method == "elo":
        raise SettingsError("method 'elo': only fitted ratings can be looked at so")
    for name in pair or ():
        if name not in counts.names:
            raise SettingsError(f"method {name!r}: no votes on it; there are {', '.join(counts.names)}")
    if pair and len(set(pair)) != 2:
        raise SettingsError(f"pair {', '.join(pair)}: expected two methods")
    try:
        fitted = fit(counts, chosen.method, side=chosen.side, prior=chosen.prior)
    except NoMaximum as error:
        raise SettingsError(f"{counted.source}: no ratings to look at. {error}") from error
    theta = fitted.log_strength
    order = np.argsort(-theta, kind="stable")
    asked = sorted(map(counts.names.index, pair), key=lambda i: -theta[i]) if pair else order
    ordered = [(i, j) for i, j in itertools.pairwise(asked) if theta[i] > theta[j]]
    claims = [votes_to_flip(counts, fitted, counts.names[i], counts.names[j]) for i, j in ordered]
    mover: list[str | None] = [None] * len(order)
    change = np.full(len(order), np.nan)
    turned: list[tuple[str, ...]] = [()] * len(claims)
    lost: tuple[str, ...] = ()
    if "judge" in counts.by:
        without = leave_one_out(counts, fitted)
        known = np.array([label != "" for label in without.labels])
        labels, left = np.array(without.labels, dtype=object)[known], without.log_strength[known]
        exists = ~np.isnan(left[:, 0])
        lost = tuple(labels[~exists])
        labels, left = labels[exists], left[exists]
        turned = [tuple(labels[left[:, i] <= left[:, j] + EQUAL]) for i, j in ordered]
        if len(left):
            by = np.abs(left - theta).argmax(axis=0)
            mover = [labels[row] for row in by[order]]
            change = (left[by, np.arange(len(theta))] - theta)[order]
    return Stability(
        names=tuple(counts.names[i] for i in order),
        rating=chosen.on_scale(theta, counts.names)[order],
        claims=tuple(claims),
        gap=chosen.points * np.array([theta[i] - theta[j] for i, j in ordered]),
        turned=tuple(turned),
        judges=counted.known("judge") if "judge" in counts.by else None,
        mover=tuple(mover),
        change=chosen.points * change,
        lost=lost,
        votes=len(counted),
        source=counted.source,
        settings=chosen,
    )


def _any(judges: tuple[str, ...]) -> str:
    return " or ".join(judges) if len(judges) <= NAMED else f"any one of {len(judges)} judges"


def to_terminal(found: Stability) -> str:
    """Claims with what turns them; methods with who moves them; what it means under them."""
    claims = [
        (
            f"{flip.better} above {flip.worse}",
            f"{gap:.1f}",
            "—" if flip.votes is None else f"{flip.votes}",
            "—" if flip.share is None else f"{100 * flip.share:.2g} %",
        )
        for flip, gap in zip(found.claims, found.gap, strict=True)
    ]
    tables = [table_of(("claim", "points", "votes that turn it", "share"), claims)]
    if found.judges is not None:
        moves = [
            (name, f"{rating:.0f}", mover or "—", "—" if np.isnan(change) else f"{change:+.1f}")
            for name, rating, mover, change in zip(
                found.names, found.rating, found.mover, found.change, strict=True
            )
        ]
        tables.append(
            table_of(("method", "rating", f"most moved by, of {found.judges} judges", "points"), moves)
        )
    settings = found.settings
    model = settings.method + ", with a side effect" * settings.side
    below = [f"{model}, prior {settings.prior:g}; {found.votes} votes from {found.source}."]
    return rendered(*tables, below=below, notes=found.verdict())
