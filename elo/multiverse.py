"""The same ratings under a grid of policies, and which claims do not survive it.

Steegen, Tuerlinckx, Gelman and Vanpaemel, "Increasing transparency through a multiverse analysis",
Perspect. Psychol. Sci. 11, 2016: where several rules for leaving out data could be defended, show what
each gives. A claim is that one method rates above another, and whether that is beyond chance (5 %, all
pairs of a table together by Holm).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from elo.cells import DASH, plain_row, settings_lines
from elo.errors import SettingsError
from elo.policies import ALL, Policy, apply
from elo.tables import RatingTable, compute
from elo.terminal import rendered, table_of
from elo.votes import Votes

LEVEL = 0.05
LISTED = 20  # sentences that are printed; JSON has all
SURE, OPEN, OTHER = "beyond chance", "not beyond chance", "the other way round"
SURELY_OTHER = "the other way round beyond chance"


@dataclass(frozen=True, eq=False)
class Outcome:
    """Ratings under one policy.

    votes, judges  how many are left; judges None where they are unknown
    left_out       rule → votes that it left out
    table          None where nothing is left to rate
    notes          what a rule could not judge, and why there are no ratings
    """

    policy: Policy
    votes: int
    judges: int | None
    left_out: dict[str, int]
    table: RatingTable | None
    notes: list[str]


@dataclass(frozen=True)
class Claim:
    """That `better` rates above `worse`, and how that stands under each policy (those that can tell)."""

    better: str
    worse: str
    under: dict[str, str]

    @property
    def stable(self) -> bool:
        """Whether all policies agree."""
        return len(set(self.under.values())) <= 1

    @property
    def turns(self) -> int:
        """2 where some policy turns it beyond chance, 1 where one turns it, 0 where none does."""
        told = self.under.values()
        return 2 if SURELY_OTHER in told else int(OTHER in told)

    def sentence(self) -> str:
        """How it stands with which policies."""
        groups: dict[str, list[str]] = {}
        for policy, status in self.under.items():
            groups.setdefault(status, []).append(policy)
        told = "; ".join(f"{status} with {', '.join(names)}" for status, names in groups.items())
        return f"{self.better} above {self.worse}: {told}."


@dataclass(frozen=True, eq=False)
class Multiverse:
    """Outcomes, the first of which is that of all votes, and the claims of that one."""

    outcomes: tuple[Outcome, ...]
    claims: tuple[Claim, ...]

    def record(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "policies": [
                {
                    "policy": outcome.policy.name,
                    "rules": dict(outcome.policy.rules),
                    "votes": outcome.votes,
                    "judges": outcome.judges,
                    "left_out": outcome.left_out,
                    "settings": outcome.table and plain_row(outcome.table.settings),
                    "ratings": [plain_row(row) for row in outcome.table.ratings.to_dict("records")]
                    if outcome.table
                    else None,
                    "notes": [*outcome.notes, *(outcome.table.notes if outcome.table else [])],
                }
                for outcome in self.outcomes
            ],
            "claims": [
                {"better": claim.better, "worse": claim.worse, "stable": claim.stable, "under": claim.under}
                for claim in self.claims
            ],
            "verdict": self.verdict(),
        }

    def verdict(self) -> list[str]:
        """A sentence for each claim that is not stable, those that turn first, or that all are."""
        if not self.claims:
            return ["Without any rule there are no ratings, so no claim can be followed."]
        changed = [claim for claim in self.claims if not claim.stable]
        unstable = [claim.sentence() for claim in sorted(changed, key=lambda claim: -claim.turns)]
        return unstable or [
            f"All {len(self.claims)} claims (who rates above whom, how surely) stand under every policy."
        ]


def multiverse(
    votes: Votes, policies: Sequence[Policy], answers: pd.DataFrame | None = None, **settings: Any
) -> Multiverse:
    """Rate the votes without any rule and under each policy.

    votes, answers  as for `elo.policies.apply`
    settings        as of `elo.compute`; there is no bootstrap, and what `cluster="auto"` takes of all votes
                    is kept for every policy, so that nothing but the votes differs

    Raises SettingsError for a policy that does not fit the votes, and for method "elo", which has no tests.
    """
    if settings.get("method") == "elo":
        raise SettingsError("policies: method 'elo' has no test of a claim; choose a fitted one")
    settings |= {"bootstrap": 0}
    every = compute(votes, **settings)
    settings["cluster"] = every.settings["cluster"] or settings.get("cluster", "auto")
    outcomes = [Outcome(Policy(ALL, {}), len(votes), every.settings["judges"], {}, every, [])]
    for policy in policies:
        kept = apply(policy, votes, answers)
        table, notes = None, list(kept.notes)
        try:
            if kept.votes is None:
                raise SettingsError("no vote is left")
            table = compute(kept.votes, **settings)
        except SettingsError as error:
            notes.append(f"{policy.name}: no ratings, {error}.")
        else:
            if table.pairs is None:
                notes.append(f"{policy.name}: {' '.join(table.notes)}")
        outcomes.append(
            Outcome(
                policy,
                0 if kept.votes is None else len(kept.votes),
                table.settings["judges"] if table else None,
                kept.left_out,
                table,
                notes,
            )
        )
    return Multiverse(tuple(outcomes), tuple(_claims(outcomes)))


def _claims(outcomes: Sequence[Outcome]) -> list[Claim]:
    rated = {outcome.policy.name: outcome.table for outcome in outcomes}
    first = outcomes[0].table
    if first is None or first.pairs is None:
        return []
    names = first.pairs.names
    claims = []
    for i, better in enumerate(names):
        for worse in names[i + 1 :]:
            under = {policy: _status(table, better, worse) for policy, table in rated.items()}
            claims.append(Claim(better, worse, {policy: told for policy, told in under.items() if told}))
    return claims


def _status(table: RatingTable | None, better: str, worse: str) -> str | None:
    """How the claim stands in a table; None where that does not rate both."""
    pairs = table.pairs if table else None
    if pairs is None or not {better, worse} <= set(pairs.names):
        return None
    i, j = pairs.names.index(better), pairs.names.index(worse)
    sure = pairs.p_holm[i, j] <= LEVEL
    if pairs.difference[i, j] < -1e-9:
        return SURELY_OTHER if sure else OTHER
    return SURE if sure else OPEN


def to_terminal(found: Multiverse) -> str:
    """A column for each policy, methods as rated without any rule; under it what each left out."""
    first = found.outcomes[0]
    methods = first.table.ratings["method"].tolist() if first.table else []
    cells = [_cells(outcome.table) for outcome in found.outcomes]
    rows = [[name, *(column.get(name, DASH) for column in cells)] for name in methods]
    made = table_of(["method", *(outcome.policy.name for outcome in found.outcomes)], rows)
    made.add_section()
    made.add_row("votes", *(f"{outcome.votes}" for outcome in found.outcomes))
    made.add_row("left out", *(f"{first.votes - outcome.votes}" for outcome in found.outcomes))
    if first.judges:
        made.add_row("judges", *(f"{outcome.judges or 0}" for outcome in found.outcomes))
        made.add_row("left out", *(f"{first.judges - (outcome.judges or 0)}" for outcome in found.outcomes))
    below = settings_lines(first.table.settings) if first.table else []
    for outcome in found.outcomes[1:]:
        rules = ", ".join(f"{rule} = {_toml(value)}" for rule, value in outcome.policy.rules.items())
        left = ", ".join(f"{rule} {number}" for rule, number in outcome.left_out.items() if number)
        below.append(f"{outcome.policy.name}: {rules or 'no rules'}; left out: {left or 'nothing'}.")
    verdict = found.verdict()
    notes = [note for outcome in found.outcomes for note in outcome.notes] + verdict[:LISTED]
    if len(verdict) > LISTED:
        notes.append(f"{len(verdict) - LISTED} more claims are not stable; --json has them.")
    return rendered(made, below=below, notes=notes)


def _cells(table: RatingTable | None) -> dict[str, str]:
    """Method → rating and half the width of its interval."""
    if table is None or table.pairs is None:
        return {}
    rows = table.ratings
    half = (rows["ci_high"] - rows["rating"]).tolist()
    told = zip(rows["method"], rows["rating"].tolist(), half, strict=True)
    return {name: f"{rating:z.0f} ±{width:<3.0f}" for name, rating, width in told}


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
