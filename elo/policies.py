"""Rules for leaving out votes, in a file: whether a claim hangs on which of them one happens to follow.

    [careful]
    min_rt_ms = 500         # votes that took at least so long
    late = false            # none that came after the study had closed

    [strict]
    min_rt_ms = 1000
    max_rt_ms = 120_000
    min_golds_right = 0.8   # judges who answered so many of their control questions rightly

What is not known breaks no rule: a vote without a time, a judge without control questions. A rule that
needs what no vote has is an error, as it would leave out nothing in silence.
"""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from elo.answers import conduct
from elo.errors import SettingsError
from elo.raters import binomial_p, outcomes_by_judge
from elo.subsets import only
from elo.votes import Votes

ALL = "all votes"  # what every grid begins with


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


# In the order in which they apply: each vote is left out by the first rule that it breaks.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "min_rt_ms": (lambda x: _number(x) and x >= 0, "a number of milliseconds"),
    "max_rt_ms": (lambda x: _number(x) and x > 0, "a number of milliseconds above 0"),
    "late": (lambda x: x is False, "false"),
    "categories": (_names, "a list of categories"),
    "sources": (_names, "a list of sources"),
    "min_golds_right": (lambda x: _number(x) and 0 <= x <= 1, "a share from 0 to 1"),
    "min_repeats_same": (lambda x: _number(x) and 0 <= x <= 1, "a share from 0 to 1"),
    "min_side_p": (lambda x: _number(x) and 0 < x < 1, "a probability between 0 and 1"),
    "min_votes": (lambda x: isinstance(x, int) and not isinstance(x, bool) and x > 0, "a number of votes"),
}
ANSWERED = {"min_golds_right": "golds_right", "min_repeats_same": "repeats_same"}
COLUMN = {"min_rt_ms": "rt_ms", "max_rt_ms": "rt_ms", "late": "late", "sources": "source"}


@dataclass(frozen=True)
class Policy:
    """Rules by name, and where they were written."""

    name: str
    rules: Mapping[str, Any]
    place: str = ""


@dataclass(frozen=True, eq=False)
class Kept:
    """What a policy leaves: the votes (None if nothing is left), and rule → votes that it left out.

    notes  what a rule could not judge
    """

    votes: Votes | None
    left_out: dict[str, int]
    notes: list[str]


def read_policies(path: str | Path) -> list[Policy]:
    """Read the policies of a TOML file; SettingsError names file, policy and rule."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML ({error})") from error
    if not document:
        raise SettingsError(f"{path}: no policies in it; expected tables of rules such as [careful]")
    for name, rules in document.items():
        place = f"{path}, {name}"
        if not isinstance(rules, dict):
            raise SettingsError(f"{place}: expected a table of rules, [{name}]")
        if name == ALL:
            raise SettingsError(f"{place}: that is what the ratings without any rule are called")
        for rule, value in rules.items():
            if rule not in RULES:
                raise SettingsError(f"{place}, {rule}: no such rule; there are {', '.join(RULES)}")
            fits, expected = RULES[rule]
            if not fits(value):
                raise SettingsError(f"{place}, {rule}: found {value!r}, expected {expected}")
        if rules.get("max_rt_ms", math.inf) <= rules.get("min_rt_ms", -1):
            raise SettingsError(f"{place}, max_rt_ms: expected more than min_rt_ms")
    return [Policy(name, rules, f"{path}, {name}") for name, rules in document.items()]


def columns_needed(policies: list[Policy]) -> set[str]:
    """Columns of single votes that the rules look at, for `read_votes`' `also`."""
    return {COLUMN[rule] for policy in policies for rule in policy.rules if rule in COLUMN}


def answers_needed(policies: list[Policy]) -> bool:
    """Tell whether any rule looks at control questions or repeats (`elo.answers`)."""
    return any(rule in ANSWERED for policy in policies for rule in policy.rules)


def apply(policy: Policy, votes: Votes, answers: pd.DataFrame | None = None) -> Kept:
    """Leave out the votes that break a rule, each for the first it breaks.

    votes    read with `also=columns_needed(…)`
    answers  of the same source (`read_answers`), for rules about control questions and repeats

    Rules about judges look at all their votes, as `elo raters` shows them; `min_votes` comes last and
    counts the votes that the other rules leave. Raises SettingsError where no vote has what a rule needs.
    """
    kept = np.ones(len(votes), dtype=bool)
    left_out: dict[str, int] = {}
    notes: list[str] = []
    for rule in RULES:
        if rule not in policy.rules:
            continue
        broken = kept & _broken(rule, policy, votes, kept, answers, notes)
        left_out[rule] = int(broken.sum())
        kept &= ~broken
    return Kept(only(votes, kept, policy.name) if kept.any() else None, left_out, notes)


def _broken(
    rule: str,
    policy: Policy,
    votes: Votes,
    kept: np.ndarray,
    answers: pd.DataFrame | None,
    notes: list[str],
) -> np.ndarray:
    """(n,) the votes that break a rule."""
    limit = policy.rules[rule]
    if rule in COLUMN:
        column = votes.more.get(COLUMN[rule])
        if column is None or (column.dtype.kind == "f" and np.isnan(column).all()):
            raise _lacking(policy, rule, votes, f"no vote has {COLUMN[rule]}")
        if rule == "late":
            return column
        if rule == "sources":
            return _other(column, votes.labels["source"], limit, policy, rule)
        return column < limit if rule == "min_rt_ms" else column > limit
    if rule == "categories":
        if votes.category is None:
            raise _lacking(policy, rule, votes, "no vote has a category")
        return _other(votes.category, votes.labels["category"], limit, policy, rule)
    if votes.judge is None:
        raise _lacking(policy, rule, votes, "no vote has a judge")
    if rule in ANSWERED:
        found, _ = conduct(answers, votes.labels["judge"]) if answers is not None else (pd.DataFrame(), [])
        value = found.get(ANSWERED[rule], pd.Series(dtype=float)).to_numpy(dtype=float)
        unknown = int(np.isnan(value).sum())
        if unknown == len(value):
            golds = rule == "min_golds_right"
            what = "control questions with an expected answer" if golds else "repeats of a known trial"
            raise _lacking(policy, rule, votes, f"no judge has {what}")
        if unknown:
            notes.append(f"{policy.name}: {rule} could not judge {unknown} of {len(value)} judges.")
    elif rule == "min_side_p":
        if not votes.sides:
            raise _lacking(policy, rule, votes, "no vote has a known left image")
        left, right, _ = outcomes_by_judge(votes)
        value = binomial_p(left, left + right)
    else:
        value = np.bincount(votes.judge[kept & (votes.judge >= 0)], minlength=len(votes.labels["judge"]))
    with np.errstate(invalid="ignore"):
        return np.append(value < limit, False)[votes.judge]  # −1, nobody known, takes the last place


def _other(
    codes: np.ndarray, labels: tuple[str, ...], wanted: list[str], policy: Policy, rule: str
) -> np.ndarray:
    """Votes whose label is known and not wanted; one that is wanted and that no vote has is an error."""
    for name in wanted:
        if name not in labels:
            raise SettingsError(
                f"{policy.place}, {rule}: no votes of {name!r}; there are {', '.join(labels)}"
            )
    return np.append([label not in wanted for label in labels], False)[codes]


def _lacking(policy: Policy, rule: str, votes: Votes, what: str) -> SettingsError:
    return SettingsError(f"{policy.place}, {rule}: {what} in {votes.source}")
