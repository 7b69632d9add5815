import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from study.ballot import Answer, answer, current
from study.config import Protocol
from study.ingest import ingest
from study.participants import add_voter
from study.schema import Assignment, Cell, Event, ImageRow
from study.store import Store, migrate, open_store, register_protocol
from study.trials import choose_side


def play(store: Store, protocol: Protocol, sides: str, rng: random.Random, voters: int = 1) -> None:
    """Voters take turns at random until each has answered all."""
    going = []
    for _ in range(voters):
        voter = add_voter(store, protocol, "key")
        assert voter
        going.append(voter)
    while going:
        voter = rng.choice(going)
        ballot = current(store, voter.id, protocol)
        if ballot.finished:
            going.remove(voter)
            continue
        trial = rng.choice(ballot.trials).trial_id
        side = {"l": "left", "r": "right", "t": "tie"}[rng.choice(sides)]
        answer(store, voter.id, trial, Answer(f"{voter.id}{trial}", side, 1, None), protocol)


def check(store: Store) -> None:
    """What holds at every moment, for every voter and every cell."""
    with store.read() as session:
        cells = {cell.id: cell for cell in session.scalars(select(Cell))}
        method = {image.id: image.method_id for image in session.scalars(select(ImageRow))}
        trials = session.scalars(select(Assignment)).all()
    seen = Counter((t.voter_id, t.cell_id) for t in trials)
    assert max(seen.values(), default=1) == 1
    for voter in {t.voter_id for t in trials}:
        lefts: Counter[tuple[str, str, bool]] = Counter()
        for t in trials:
            if t.voter_id == voter:
                cell = cells[t.cell_id]
                assert {t.left_image, t.right_image} == {cell.image_1, cell.image_2}
                lefts[cell.method_1, cell.method_2, method[t.left_image] == cell.method_1] += 1
        for one, other, _ in list(lefts):
            assert abs(lefts[one, other, True] - lefts[one, other, False]) <= 1
    voted = Counter(t.cell_id for t in trials if t.state == "voted")
    assert {cell.id: cell.votes for cell in cells.values()} == {cell: voted[cell] for cell in cells}


@given(st.integers(0, 2**32), st.integers(0, 20), st.integers(1, 18), st.integers(0, 5), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_nobody_sees_a_pair_twice_and_sides_are_balanced(
    gallery: Path, seed: int, study_seed: int, trials: int, prefetch: int, voters: int
) -> None:
    import tempfile

    protocol = Protocol(name="t", title="t", trials_per_voter=trials, seed=study_seed, prefetch=prefetch)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        migrate(store)
        register_protocol(store, protocol)
        ingest(gallery, store, protocol)
        play(store, protocol, "lrt", random.Random(seed), voters)
        check(store)
        with store.read() as session:
            counts = session.scalars(select(Cell.votes)).all()
        assert sum(counts) == voters * trials
        store.close()


def test_the_rules_hold_on_both_databases(store: Store, protocol: Protocol) -> None:
    play(store, protocol, "lrt", random.Random(3), voters=3)
    check(store)
    with store.read() as session:
        counts = session.scalars(select(Cell.votes)).all()
    # 3 voters × 12 trials on 18 cells; those who vote at once may meet in a cell, but not far from even
    assert sum(counts) == 36
    assert max(counts) - min(counts) <= 2


def test_one_after_another_fills_the_least_voted_cells_first(store: Store, protocol: Protocol) -> None:
    levels = []
    for _ in range(3):
        play(store, protocol, "l", random.Random(1))
        with store.read() as session:
            levels.append(sorted(session.scalars(select(Cell.votes)).all()))
    assert levels == [[0] * 6 + [1] * 12, [1] * 12 + [2] * 6, [2] * 18]


def test_ties_between_cells_are_broken_at_random(
    build_gallery: Callable[..., Path], tmp_path: Path, protocol: Protocol
) -> None:
    store = open_store(tmp_path)
    migrate(store)
    register_protocol(store, protocol)
    ingest(build_gallery(tmp_path / "g", methods=("a", "b"), prompts=4), store, protocol)
    first: Counter[int] = Counter()
    for _ in range(200):
        voter = add_voter(store, protocol, "key")
        assert voter
        current(store, voter.id, protocol)
        with store.read() as session:
            trial = session.scalars(
                select(Assignment).where(Assignment.voter_id == voter.id, Assignment.position == 0)
            )
            first[trial.one().cell_id] += 1
    store.close()
    assert len(first) == 4
    assert min(first.values()) > 25


def test_an_assignment_can_be_drawn_again_from_its_event(store: Store, protocol: Protocol) -> None:
    voter = add_voter(store, protocol, "key")
    assert voter
    current(store, voter.id, protocol)
    with store.read() as session:
        events = session.scalars(select(Event).where(Event.voter_id == voter.id).order_by(Event.id)).all()
        cells = {cell.id: cell for cell in session.scalars(select(Cell))}
    for position, event in enumerate(events):
        rng = random.Random(f"{protocol.seed}/{voter.id}/{position}")
        draws = [rng.random(), rng.random()]
        body = event.body
        assert body["draws"] == draws
        assert body["cell_votes"] == 0
        first_left = body["left"] == cells[body["cell"]].image_1
        assert first_left == choose_side(*body["sides_so_far"], draws[1])


@given(st.lists(st.floats(0, 1, exclude_max=True)))
def test_sides_never_differ_by_more_than_one(draws: list[float]) -> None:
    left = right = 0
    for draw in draws:
        if choose_side(left, right, draw):
            left += 1
        else:
            right += 1
        assert abs(left - right) <= 1
