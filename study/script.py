"""The script of one voter's session: what kind each trial is, and the chance it uses.

One generator, seeded by (study seed, voter), writes all of it. So a session can be written again from
the protocol alone, and compared with what was recorded.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

from study.config import Checks, Protocol

TRIES = 200


@dataclass(frozen=True, slots=True)
class Step:
    """One trial to come: its kind, and three draws in [0, 1): which cell, which of its pairs, which side."""

    kind: str
    draws: tuple[float, float, float]


def script(protocol: Protocol, voter_id: str, trials: int) -> tuple[Step, ...]:
    """The session of a voter with so many trials, practice included."""
    return _script(protocol.seed, protocol.checks, voter_id, trials)


@lru_cache(maxsize=256)  # voters of one process who are at it just now; 6 kB each
def _script(seed: int, checks: Checks, voter_id: str, trials: int) -> tuple[Step, ...]:
    rng = random.Random(f"{seed}/{voter_id}")
    number = trials - checks.practice
    wanted = split(checks, number)
    repeats = wanted.pop("repeat")
    others = [kind for kind, times in wanted.items() for _ in range(times)]
    for _ in range(TRIES):
        rng.shuffle(others)
        places = sorted(rng.sample(range(min(checks.repeat_gap, number), number), repeats))
        kinds = list(others)
        for place in places:
            kinds.insert(place, "repeat")
        if _repeatable(kinds, places, checks.repeat_gap):
            break
    kinds = ["practice"] * checks.practice + kinds
    return tuple(Step(kind, (rng.random(), rng.random(), rng.random())) for kind in kinds)


def _repeatable(kinds: list[str], places: list[int], gap: int) -> bool:
    """Whether each repeat has a pair of its own to repeat, `gap` trials before."""
    return all(kinds[: place - gap + 1].count("main") > before for before, place in enumerate(places))


def split(checks: Checks, number: int) -> dict[str, int]:
    """How many trials of each kind a session of `number` trials (without practice) has."""
    wanted = {"gold": checks.golds, "null": checks.nulls, "noise_floor": checks.noise_floor}
    rest = max(0, number - sum(wanted.values()))
    wanted["repeat"] = min(checks.repeats, rest // 2, max(0, number - checks.repeat_gap))
    wanted["main"] = rest - wanted["repeat"]
    return wanted


def session_length(protocol: Protocol, cells: int) -> int:
    """The trials of a new voter, practice included, where there are so many cells; 0 if there are none."""
    if cells == 0:
        return 0
    number = protocol.trials_per_voter
    while split(protocol.checks, number)["main"] > cells:
        number -= 1
    return protocol.checks.practice + number
