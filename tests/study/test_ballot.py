from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select

from study.ballot import Answer, RefusedError, answer, current, shown_image
from study.config import Protocol
from study.participants import add_voter, find_voter, pseudonym
from study.schema import Cell, Event, Vote
from study.store import Store, register_protocol


def new(store: Store, protocol: Protocol) -> str:
    voter = add_voter(store, protocol, "key")
    assert voter
    return voter.id


def totals(store: Store) -> tuple[int, int, int]:
    """Votes, voted events, counted votes: three ways to the same number."""
    with store.read() as session:
        return (
            session.scalar(select(func.count()).select_from(Vote)) or 0,
            session.scalar(select(func.count()).where(Event.event == "voted")) or 0,
            session.scalar(select(func.sum(Cell.votes))) or 0,
        )


def test_what_is_open_stays_open_in_order(store: Store, protocol: Protocol) -> None:
    voter = new(store, protocol)
    ballot = current(store, voter, protocol)
    assert len(ballot.trials) == 1 + protocol.prefetch
    assert [trial.position for trial in ballot.trials] == [0, 1, 2, 3]
    assert current(store, voter, protocol) == ballot
    after = answer(store, voter, ballot.trials[0].trial_id, Answer("vote-1", "left", 1, None), protocol)
    assert after.done == 1
    assert after.trials[:3] == ballot.trials[1:]
    assert len(after.trials) == 4


def test_ten_identical_answers_at_once_are_one_vote(store: Store, protocol: Protocol) -> None:
    voter = new(store, protocol)
    trial = current(store, voter, protocol).trials[0].trial_id
    together = Barrier(10)

    def send(_: int) -> int:
        together.wait()
        return answer(store, voter, trial, Answer("the-one", "right", 500, None), protocol).done

    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(send, range(10)))
    assert done == [1] * 10
    assert totals(store) == (1, 1, 1)


def test_ten_different_answers_to_one_trial_at_once_are_one_vote(store: Store, protocol: Protocol) -> None:
    voter = new(store, protocol)
    trial = current(store, voter, protocol).trials[0].trial_id
    together = Barrier(10)

    def send(number: int) -> str:
        together.wait()
        try:
            answer(store, voter, trial, Answer(f"vote-{number}", "left", 500, None), protocol)
        except RefusedError as error:
            return error.code
        return "stored"

    with ThreadPoolExecutor(10) as pool:
        codes = sorted(pool.map(send, range(10)))
    assert codes == ["already_answered"] * 9 + ["stored"]
    assert totals(store) == (1, 1, 1)


def test_ten_voters_with_one_vote_id_at_once_are_one_vote(store: Store, protocol: Protocol) -> None:
    voters = [new(store, protocol) for _ in range(10)]
    trials = [current(store, voter, protocol).trials[0].trial_id for voter in voters]
    together = Barrier(10)

    def send(number: int) -> str:
        together.wait()
        try:
            answer(store, voters[number], trials[number], Answer("same", "left", 1, None), protocol)
        except RefusedError as error:
            return error.code
        return "stored"

    with ThreadPoolExecutor(10) as pool:
        codes = sorted(pool.map(send, range(10)))
    assert codes == ["stored"] + ["vote_id_taken"] * 9
    assert totals(store) == (1, 1, 1)


def test_many_voters_at_once_lose_nothing(store: Store, protocol: Protocol) -> None:
    def whole_session(_: int) -> int:
        voter = new(store, protocol)
        ballot = current(store, voter, protocol)
        while not ballot.finished:
            trial = ballot.trials[0].trial_id
            ballot = answer(store, voter, trial, Answer(f"vote-{trial}", "tie", 1, None), protocol)
        return ballot.done

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(whole_session, range(6))) == [12] * 6
    assert totals(store) == (72, 72, 72)


@pytest.mark.parametrize("side", ["left", "right", "tie"])
def test_ties_are_taken_only_if_the_protocol_has_them(store: Store, protocol: Protocol, side: str) -> None:
    forced = protocol.model_copy(update={"ties": False})
    register_protocol(store, forced)
    voter = new(store, protocol)
    trial = current(store, voter, protocol).trials[0].trial_id
    if side == "tie":
        with pytest.raises(RefusedError, match="tie_not_allowed"):
            answer(store, voter, trial, Answer("vote-1", side, 1, None), forced)
        assert totals(store) == (0, 0, 0)
    else:
        answer(store, voter, trial, Answer("vote-1", side, 1, None), forced)
        assert totals(store) == (1, 1, 1)


def test_a_foreign_trial_is_refused_and_its_pictures_are_not_shown(store: Store, protocol: Protocol) -> None:
    one, other = new(store, protocol), new(store, protocol)
    trial = current(store, one, protocol).trials[0].trial_id
    with pytest.raises(RefusedError, match="foreign_trial"):
        answer(store, other, trial, Answer("vote-1", "left", 1, None), protocol)
    with pytest.raises(RefusedError, match="unknown_trial"):
        answer(store, other, "nothing", Answer("vote-1", "left", 1, None), protocol)
    assert shown_image(store, one, trial, "left") != shown_image(store, one, trial, "right")
    assert shown_image(store, other, trial, "left") is None
    assert totals(store) == (0, 0, 0)


def test_a_pseudonym_is_stable_and_needs_the_key(store: Store, protocol: Protocol) -> None:
    voter = find_voter(store, new(store, protocol))
    assert voter
    assert voter.judge == pseudonym("key", voter.id) != pseudonym("other key", voter.id)
    assert voter.id not in voter.judge
    assert find_voter(store, "nobody") is None
    assert find_voter(store, None) is None
