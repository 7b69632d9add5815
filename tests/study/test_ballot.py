from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import event, func, select

from study import ballot as ballots
from study import own_trials
from study.ballot import Answer, Answers, Ballot, RefusedError, answer, current, last_votes, undo
from study.config import Protocol, Question
from study.config import Quota as Wanted
from study.endings import report
from study.own_trials import shown_image
from study.participants import add_voter, find_person, find_voter, pseudonym
from study.protocols import open_protocol
from study.schema import Assignment, Event, ImageRow, Quota, Vote
from study.store import Store
from study.verify import verify


def new(store: Store) -> str:
    voter = add_voter(store, "key")
    assert voter
    return voter.id


def vote(store: Store, voter: str, trial: str, vote_id: str, side: str = "left") -> Ballot:
    return answer(store, voter, trial, Answers(vote_id, (Answer("preference", side, 500),)))


class Clock:
    """The time that study.ballot sees."""

    def __init__(self) -> None:
        self.now = 1e9

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ballots, "time", clock)
    return clock


def quotas(store: Store) -> list[tuple[int, int]]:
    """Votes and load of each quota, most first."""
    with store.read() as session:
        return sorted(((q.votes, q.load) for q in session.scalars(select(Quota))), reverse=True)


def totals(store: Store) -> tuple[int, int, int]:
    """Votes, voted events, counted votes: three ways to the same number."""
    with store.read() as session:
        return (
            session.scalar(select(func.count()).select_from(Vote)) or 0,
            session.scalar(select(func.count()).where(Event.event == "voted")) or 0,
            session.scalar(select(func.sum(Quota.votes))) or 0,
        )


def test_what_is_open_stays_open_in_order(store: Store, protocol: Protocol) -> None:
    voter = new(store)
    ballot = current(store, voter)
    assert len(ballot.trials) == 1 + protocol.prefetch
    assert [trial.position for trial in ballot.trials] == [0, 1, 2, 3]
    assert current(store, voter) == ballot
    after = vote(store, voter, ballot.trials[0].trial_id, "vote-1", "left")
    assert after.done == 1
    assert after.trials[:3] == ballot.trials[1:]
    assert len(after.trials) == 4


def test_ten_identical_answers_at_once_are_one_vote(store: Store) -> None:
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    together = Barrier(10)

    def send(_: int) -> int:
        together.wait()
        return vote(store, voter, trial, "the-one", "right").done

    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(send, range(10)))
    assert done == [1] * 10
    assert totals(store) == (1, 1, 1)


def test_ten_different_answers_to_one_trial_at_once_are_one_vote(store: Store) -> None:
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    together = Barrier(10)

    def send(number: int) -> str:
        together.wait()
        try:
            vote(store, voter, trial, f"vote-{number}", "left")
        except RefusedError as error:
            return error.code
        return "stored"

    with ThreadPoolExecutor(10) as pool:
        codes = sorted(pool.map(send, range(10)))
    assert codes == ["already_answered"] * 9 + ["stored"]
    assert totals(store) == (1, 1, 1)


def test_ten_voters_with_one_vote_id_at_once_are_one_vote(store: Store) -> None:
    voters = [new(store) for _ in range(10)]
    trials = [current(store, voter).trials[0].trial_id for voter in voters]
    together = Barrier(10)

    def send(number: int) -> str:
        together.wait()
        try:
            vote(store, voters[number], trials[number], "same", "left")
        except RefusedError as error:
            return error.code
        return "stored"

    with ThreadPoolExecutor(10) as pool:
        codes = sorted(pool.map(send, range(10)))
    assert codes == ["stored"] + ["vote_id_taken"] * 9
    assert totals(store) == (1, 1, 1)


def test_many_voters_at_once_lose_nothing(store: Store) -> None:
    def whole_session(_: int) -> int:
        voter = new(store)
        ballot = current(store, voter)
        while not ballot.finished:
            trial = ballot.trials[0].trial_id
            ballot = vote(store, voter, trial, f"vote-{trial}", "tie")
        return ballot.done

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(whole_session, range(6))) == [12] * 6
    assert totals(store) == (72, 72, 72)


@pytest.mark.parametrize(
    ("question", "allowed"),
    [
        (Question(id="q", text="Which?", tie=False), {"left", "right"}),
        (Question(id="q", text="Which?"), {"left", "right", "tie"}),
        (Question(id="q", text="Which?", both_bad=True), {"left", "right", "tie", "both_bad"}),
    ],
)
def test_answers_are_those_that_the_protocol_allows(
    store: Store, protocol: Protocol, question: Question, allowed: set[str]
) -> None:
    open_protocol(store, protocol.model_copy(update={"questions": (question,)}))
    voter = new(store)
    for side in ("left", "right", "tie", "both_bad"):
        trial = current(store, voter).trials[0].trial_id
        answers = Answers(f"vote-{side}", (Answer("q", side, 1),))
        if side in allowed:
            answer(store, voter, trial, answers)
        else:
            with pytest.raises(RefusedError, match="answer_not_allowed"):
                answer(store, voter, trial, answers)
    with store.read() as session:
        found = set(session.scalars(select(Vote.winner)))
    assert len(found) == len(allowed)
    assert ("tie (bothbad)" in found) == ("both_bad" in allowed)


def test_several_questions_are_answered_together(store: Store, protocol: Protocol) -> None:
    asked = (Question(id="better", text="Better?"), Question(id="closer", text="Closer?", tie=False))
    open_protocol(store, protocol.model_copy(update={"questions": asked}))
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    both = Answer("better", "tie", 700), Answer("closer", "right", 1500)
    for wrong in (both[:1], (both[0], both[0]), (*both, Answer("more", "left", 1)), ()):
        with pytest.raises(RefusedError, match="wrong_questions"):
            answer(store, voter, trial, Answers("vote-1", wrong))
    assert answer(store, voter, trial, Answers("vote-1", both)).done == 1
    assert answer(store, voter, trial, Answers("vote-1", both)).done == 1
    with store.read() as session:
        rows = session.execute(select(Vote.vote_id, Vote.question, Vote.winner, Vote.rt_ms)).all()
    assert sorted(map(tuple, rows)) == [
        ("vote-1.better", "better", "tie", 700),
        ("vote-1.closer", "closer", "model_b", 1500),
    ]
    assert sum(votes for votes, _ in quotas(store)) == 1  # one trial, however many questions
    assert undo(store, voter, trial, "vote-1").trials[0].trial_id == trial
    verify(store)


def test_a_foreign_trial_is_refused_and_its_pictures_are_not_shown(store: Store) -> None:
    one, other = new(store), new(store)
    trial = current(store, one).trials[0].trial_id
    with pytest.raises(RefusedError, match="foreign_trial"):
        vote(store, other, trial, "vote-1", "left")
    with pytest.raises(RefusedError, match="unknown_trial"):
        vote(store, other, "nothing", "vote-1", "left")
    assert shown_image(store, one, trial, "left") != shown_image(store, one, trial, "right")
    assert shown_image(store, other, trial, "left") is None
    assert totals(store) == (0, 0, 0)


def test_pictures_are_looked_up_only_where_another_process_handed_them_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_trials, "LATELY", 4)
    voter, statements, sides = new(store), [], {}
    event.listen(store.engine, "before_cursor_execute", lambda *of_it: statements.append(of_it[2]))
    own_trials._lately.clear()
    while trials := current(store, voter).trials:
        with store.read() as session:
            for trial in trials:
                row = session.get_one(Assignment, trial.trial_id)
                shown = [session.get_one(ImageRow, image) for image in (row.left_image, row.right_image)]
                sides[trial.trial_id] = [image.served_key for image in shown]
        statements.clear()
        assert [list(pictures(store, voter, trial.trial_id)) for trial in trials] == [
            sides[trial.trial_id] for trial in trials
        ]
        assert statements == []
        vote(store, voter, trials[0].trial_id, f"vote-{trials[0].position}")
    assert len(own_trials._lately) == 4 < len(sides)
    own_trials._lately.clear()  # as another process has it
    for trial_id, keys in sides.items():
        statements.clear()
        assert list(pictures(store, voter, trial_id)) == keys
        assert len([one for one in statements if one.startswith("SELECT")]) == 1


def pictures(store: Store, voter: str, trial: str) -> tuple[str | None, str | None]:
    return shown_image(store, voter, trial, "left"), shown_image(store, voter, trial, "right")


def test_a_pseudonym_is_stable_and_needs_the_key(store: Store) -> None:
    voter = find_voter(store, new(store))
    assert voter
    person = find_person(store, voter_id=voter.id)
    assert person
    assert voter.judge == pseudonym("key", person.key) != pseudonym("other key", person.key)
    assert voter.id not in voter.judge
    assert find_voter(store, "nobody") is None
    assert find_voter(store, None) is None


# ---------------------------------------------------------------- leases


def test_an_unanswered_trial_gives_its_place_back(store: Store, protocol: Protocol, clock: Clock) -> None:
    gone, other = new(store), new(store)
    current(store, gone)
    assert sum(load for _, load in quotas(store)) == 4
    clock.now += 60 * protocol.quota.lease_minutes + 1
    current(store, other)
    assert sum(load for _, load in quotas(store)) == 4  # the other's four; the first one's went back
    verify(store)


def test_a_late_vote_is_stored_and_says_so(store: Store, protocol: Protocol, clock: Clock) -> None:
    slow, other = new(store), new(store)
    first, second, *_ = current(store, slow).trials
    vote(store, slow, first.trial_id, "vote-1")
    clock.now += 60 * protocol.quota.lease_minutes + 1
    current(store, other)
    vote(store, slow, second.trial_id, "vote-2")
    with store.read() as session:
        late = {row.vote_id: row.late for row in session.scalars(select(Vote))}
    assert late == {"vote-1": False, "vote-2": True}
    assert totals(store) == (2, 2, 2)
    verify(store)


def test_a_voter_who_comes_back_holds_a_place_again(store: Store, protocol: Protocol, clock: Clock) -> None:
    slow, other = new(store), new(store)
    before = current(store, slow)
    clock.now += 60 * protocol.quota.lease_minutes + 1
    current(store, other)  # gives the places back
    assert current(store, slow) == before
    assert sum(load for _, load in quotas(store)) == 8
    vote(store, slow, before.trials[0].trial_id, "vote-1")
    with store.read() as session:
        assert not session.scalars(select(Vote)).one().late
        assert session.scalar(select(func.count()).where(Event.event == "renewed")) == 4
    verify(store)


def test_a_full_study_ends_sessions_and_turns_newcomers_away(store: Store, protocol: Protocol) -> None:
    full = protocol.model_copy(update={"quota": Wanted(votes=1), "prefetch": 0})
    open_protocol(store, full)
    assert [load for _, load in quotas(store)] == [0] * 36  # the 18 of version 1 and of version 2
    voters = [new(store) for _ in range(3)]
    done = []
    while voters:
        voter = voters.pop(0)
        ballot = current(store, voter)
        if ballot.finished:
            done.append(ballot.done)
            continue
        vote(store, voter, ballot.trials[0].trial_id, f"vote-{ballot.trials[0].trial_id}")
        voters.append(voter)
    assert done == [6, 6, 6]
    assert quotas(store) == [(1, 1)] * 18 + [(0, 0)] * 18
    assert add_voter(store, "key") is None


# ---------------------------------------------------------------- taking back


def test_undo_opens_the_trial_again_and_the_next_vote_supersedes(store: Store) -> None:
    voter = new(store)
    trial = current(store, voter).trials[0].trial_id
    vote(store, voter, trial, "vote-1", "left")
    after = undo(store, voter, trial, "vote-1")
    assert (after.done, after.trials[0].trial_id) == (0, trial)
    assert undo(store, voter, trial, "vote-1") == after  # sent again
    assert totals(store) == (1, 1, 0)
    verify(store)
    again = vote(store, voter, trial, "vote-2", "right")
    assert again.done == 1
    assert undo(store, voter, trial, "vote-1") == again  # sent again, very late: the new vote stands
    assert vote(store, voter, trial, "vote-1", "left") == again  # so does a resent old vote
    with store.read() as session:
        rows = session.execute(select(Vote.vote_id, Vote.supersedes, Vote.undone_by.is_not(None))).all()
        assert session.scalars(
            select(Event.event).where(Event.trial_id == trial).order_by(Event.seq)
        ).all() == [
            "assigned",
            "voted",
            "undone",
            "voted",
        ]
    assert sorted(map(tuple, rows)) == [("vote-1", None, True), ("vote-2", "vote-1", False)]
    verify(store)


def test_undo_is_for_the_last_two_votes_of_ones_own(store: Store) -> None:
    voter, other = new(store), new(store)
    trials = []
    for number in range(3):
        trials.append(current(store, voter).trials[0].trial_id)
        vote(store, voter, trials[-1], f"vote-{number}")
    for trial, name, code in (
        (trials[0], "vote-0", "too_late_to_undo"),
        (trials[1], "vote-0", "unknown_vote"),
        ("no trial", "vote-1", "unknown_trial"),
    ):
        with pytest.raises(RefusedError, match=code):
            undo(store, voter, trial, name)
    with pytest.raises(RefusedError, match="foreign_trial"):
        undo(store, other, trials[2], "vote-2")
    assert to_take_back(store, voter) == [(trials[1], "vote-1"), (trials[2], "vote-2")]
    assert to_take_back(store, other) == []
    ballot = undo(store, voter, trials[1], "vote-1")
    assert to_take_back(store, voter) == [(trials[2], "vote-2")]
    with pytest.raises(RefusedError, match="too_late_to_undo"):
        undo(store, voter, trials[0], "vote-0")  # as before: taking back does not lead further back
    assert [trial.position for trial in ballot.trials] == [1, 3, 4, 5, 6][: len(ballot.trials)]
    with store.read() as session:
        states = session.scalars(
            select(Assignment.state).where(Assignment.trial_id.in_(trials)).order_by(Assignment.position)
        ).all()
    assert states == ["voted", "reopened", "voted"]
    report(store, voter, trials[1], "a report", "left")
    assert to_take_back(store, voter) == []  # what is behind a report stays


def to_take_back(store: Store, voter: str) -> list[tuple[str, str]]:
    return [(trial.trial_id, vote_id) for trial, vote_id in last_votes(store, voter)]
