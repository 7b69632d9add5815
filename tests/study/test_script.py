from collections import Counter

from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from study.config import Checks, Protocol
from study.script import script, session_length, split

few = st.integers(0, 6)


@st.composite
def protocols(draw: st.DrawFn) -> Protocol:
    checks = Checks(
        practice=draw(few),
        golds=draw(few),
        repeats=draw(few),
        repeat_gap=draw(st.integers(1, 15)),
        nulls=draw(few),
        noise_floor=draw(few),
    )
    try:
        return Protocol(
            name="t",
            title="t",
            seed=draw(st.integers(0, 99)),
            trials_per_voter=draw(st.integers(1, 50)),
            checks=checks,
        )
    except ValidationError:
        assume(False)
        raise


@given(protocols(), st.text(max_size=8))
def test_a_whole_session_has_what_the_protocol_wants(protocol: Protocol, voter: str) -> None:
    checks, steps = protocol.checks, script(protocol, voter, session_length(protocol, 10**6))
    kinds = Counter(step.kind for step in steps)
    assert len(steps) == checks.practice + protocol.trials_per_voter
    assert kinds["practice"] == checks.practice
    assert all(step.kind == "practice" for step in steps[: checks.practice])
    assert (kinds["gold"], kinds["null"], kinds["noise_floor"], kinds["repeat"]) == (
        checks.golds,
        checks.nulls,
        checks.noise_floor,
        checks.repeats,
    )
    assert all(0 <= draw < 1 for step in steps for draw in step.draws)


@given(protocols(), st.integers(0, 60))
def test_a_small_gallery_makes_a_shorter_session(protocol: Protocol, cells: int) -> None:
    trials = session_length(protocol, cells)
    assert (trials == 0) == (cells == 0)
    if trials:
        parts = split(protocol.checks, trials - protocol.checks.practice)
        assert sum(parts.values()) == trials - protocol.checks.practice
        assert parts["main"] <= cells
        assert len(script(protocol, "v", trials)) == trials


def test_a_session_depends_on_study_seed_and_voter_alone() -> None:
    checks = Checks(golds=3, repeats=3, repeat_gap=4, nulls=2)
    protocol = Protocol(name="t", title="t", checks=checks, seed=1)
    steps = script(protocol, "ada", 30)
    assert steps == script(protocol.model_copy(update={"title": "u"}), "ada", 30)
    assert steps != script(protocol, "bob", 30)
    assert steps != script(protocol.model_copy(update={"seed": 2}), "ada", 30)


def test_checks_stand_anywhere_and_repeats_only_late() -> None:
    protocol = Protocol(
        name="t",
        title="t",
        trials_per_voter=20,
        checks=Checks(golds=2, repeats=3, repeat_gap=10, nulls=1),
    )
    places: dict[str, Counter[int]] = {"gold": Counter(), "repeat": Counter(), "null": Counter()}
    for voter in range(300):
        steps = script(protocol, str(voter), 20)
        mains = 0
        for place, step in enumerate(steps):
            if step.kind in places:
                places[step.kind][place] += 1
        for number, place in enumerate(i for i, step in enumerate(steps) if step.kind == "repeat"):
            mains = sum(step.kind == "main" for step in steps[: place - 10 + 1])
            assert mains > number
    assert set(places["gold"]) == set(places["null"]) == set(range(20))
    assert set(places["repeat"]) == set(range(10, 20))
