from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.ballot import Answer, answer, current
from study.ballot import Answers as Given
from study.config import Checks, Protocol, Quality
from study.ingest import ingest
from study.participants import add_voter
from study.protocols import open_protocol
from study.quality import BOT_CHECKS, FLAGS, Answers, binomial_p, flags_of, voter_flags
from study.schema import Assignment, Cell
from study.store import Store, migrate, open_store

LIMITS = Quality()
STEADY = [900, 1400, 2600, 800, 3100, 1900, 1200, 2200, 700, 1600]


def names(**answers: Any) -> list[str]:
    return [flag.name for flag in flags_of(Answers(**answers), LIMITS)]


@pytest.mark.parametrize(
    ("answers", "flagged"),
    [
        ({}, []),
        ({"times": STEADY, "hidden": [False] * 10, "key_times": STEADY, "left": 5, "right": 5}, []),
        ({"times": [100] * 2 + STEADY, "hidden": [False] * 12}, ["too_fast"]),
        ({"times": [100] * 7, "hidden": [False] * 7}, []),  # too few to say
        ({"times": [399, *STEADY[1:]], "hidden": [False] * 10}, []),  # one in ten
        ({"times": STEADY, "hidden": [True] * 3 + [False] * 7}, ["hidden"]),
        ({"golds": [True, True, False]}, ["failed_golds"]),
        ({"golds": [True, True, True, False]}, []),
        ({"golds": [False]}, []),
        ({"repeats": [True, False]}, ["inconsistent"]),
        ({"repeats": [True, True, False]}, []),
        ({"left": 14, "right": 0}, ["one_side"]),
        ({"left": 8, "right": 0}, []),
        ({"key_times": [1000, 1001, 1000, 999, 1002, 1000, 1001, 1000]}, ["rhythm"]),
        ({"bot_check": "verified"}, []),
        ({"bot_check": "failed"}, ["bot_check_failed"]),
        ({"bot_check": "unverified"}, ["bot_check_unverified"]),
    ],
)
def test_flags(answers: dict[str, Any], flagged: list[str]) -> None:
    assert names(**answers) == flagged


@given(st.integers(0, 40), st.integers(0, 40))
def test_binomial_p_is_the_sum_over_outcomes_no_likelier(left: int, right: int) -> None:
    n = left + right
    as_rare = sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(left - right))
    assert binomial_p(left, right) == pytest.approx(as_rare / 2**n)


def test_flags_of_whole_sessions(build_gallery: Callable[..., Path], tmp_path: Path) -> None:
    """An honest voter, and ones who each do one thing wrong, are told apart from what they sent."""
    protocol = Protocol(
        name="t",
        title="t",
        trials_per_voter=30,
        checks=Checks(practice=2, golds=4, repeats=4, repeat_gap=8, nulls=1),
    )
    store = open_store(tmp_path)
    migrate(store)
    ingest(build_gallery(tmp_path / "g", prompts=8), store)
    open_protocol(store, protocol)
    habits = {
        "honest": {},
        "too_fast": {"rt": lambda n: 150 + n},
        "failed_golds": {"gold": lambda _: False},
        "inconsistent": {"repeat": lambda _: False},
        "one_side": {"side": "left"},
        "rhythm": {"rt": lambda n: 1000 + n % 3},
        "hidden": {"hidden": 4000},
    }
    judges = {name: sit(store, **habit) for name, habit in habits.items()}
    with store.read() as session:
        found = {judge: {flag.name for flag in flags} for judge, flags in voter_flags(session).items()}
    store.close()
    assert judges["honest"] not in found
    for name in set(FLAGS) - set(BOT_CHECKS.values()):  # what those need is in test_bot_check.py
        assert name in found[judges[name]], name
        if name not in ("one_side",):  # who always answers left fails golds and repeats as well
            assert found[judges[name]] == {name}


def sit(
    store: Store,
    rt: Callable[[int], int] = lambda n: STEADY[n % 10],
    gold: Callable[[int], bool] = lambda _: True,
    repeat: Callable[[int], bool] = lambda _: True,
    side: str | None = None,
    hidden: int = 0,
) -> str:
    """One session of somebody who prefers methods by their name, but for their habit."""
    voter = add_voter(store, "key")
    assert voter
    ballot = current(store, voter.id)
    while not ballot.finished:
        trial = ballot.trials[0]
        with store.read() as session:
            row = session.get(Assignment, trial.trial_id)
            assert row
            cell = session.get(Cell, row.cell_id)
            assert cell
            first_wins = {"gold": gold, "repeat": repeat}.get(row.kind, lambda _: True)(trial.position)
        given_ = side or ("left" if row.first_left == first_wins else "right")
        display = {"input": "key", "hidden_ms": hidden}
        answers = Given(f"v-{trial.trial_id}", (Answer("preference", given_, rt(trial.position)),), display)
        ballot = answer(store, voter.id, trial.trial_id, answers)
    return voter.judge
