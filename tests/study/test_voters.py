import random
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import event

from study.exclusions import exclude
from study.store import Store
from study.voters import ORDERS, Voters, find_judge, trials_of


def test_what_is_remembered_is_what_is_read_anew(store: Store, robot: Callable[[], Any]) -> None:
    rng, kept, voters = random.Random(0), Voters(), []
    for _ in range(6):
        if len(voters) < 2 or rng.random() < 0.3:
            voters.append(robot())
        for voter in rng.sample(voters, rng.randint(0, len(voters))):
            last = ""
            for _ in range(rng.randint(1, 5)):
                if voter.trials:
                    last = voter.trials[0]["id"]
                    side = "left" if voter is voters[0] else rng.choice(["left", "right", "tie"])
                    voter.answer(side, vote_id=(vote := uuid4().hex))
            if last and rng.random() < 0.3:
                voter.post(last, {"vote_id": vote}, what="undo")
                voter.look()
        with store.read() as session:
            assert kept.lines(session) == Voters().lines(session)
    while voters[0].trials:
        voters[0].answer("left", vote_id=uuid4().hex)
    with store.read() as session:
        lines = kept.lines(session)
        assert lines == Voters().lines(session)
    assert [flag.name for flag in lines[0].flags] == ["one_side"]
    assert len(lines) > 1


def test_nobody_is_read_twice(store: Store, robot: Callable[[], Any]) -> None:
    voters = [robot() for _ in range(3)]
    for voter in voters:
        voter.answer()
    kept = Voters()
    read: list[Any] = []
    event.listen(
        store.engine,
        "before_cursor_execute",
        lambda *args: read.append(args[3]) if "votes.display" in args[2] else None,
    )
    with store.read() as session:
        kept.lines(session)
        kept.lines(session)
    assert len(read) == 1
    voters[1].answer()
    with store.read() as session:
        second = kept.lines(session)[1]
        again = kept.lines(session, second.judge)
        assert kept.lines(session, "nobody") == []
    assert len(read) == 2
    assert again == [second]
    assert (second.answered, second.median_ms, second.trials) == (2, 1234, 12)


def test_orders_and_exclusions(store: Store, robot: Callable[[], Any]) -> None:
    for number in (3, 12, 0):
        voter = robot()
        for _ in range(number):
            voter.answer("left")
    with store.read() as session:
        lines = Voters().lines(session)
    exclude(store, "judge", [lines[0].judge], "a friend")
    with store.read() as session:
        lines = Voters().lines(session)
    assert [bool(line.rule) for line in lines] == [True, False, False]
    answered = [
        [line.answered for line in sorted(lines, key=ORDERS[order], reverse=True)]
        for order in ("flags", "answered")
    ]
    assert answered[0][0] == 12  # the only one with flags
    assert answered[1] == [12, 3, 0]
    assert [line.answered for line in sorted(lines, key=ORDERS["median"], reverse=True)][-1] == 0


def test_trials_tell_what_was_shown_and_what_was_said(store: Store, robot: Callable[[], Any]) -> None:
    voter = robot()
    voter.answer("left")
    trial = voter.trials[0]["id"]
    voter.answer("right")
    voter.post(trial, {"vote_id": f"vote-{trial}"}, what="undo")
    voter.look().answer("tie", vote_id="another-vote-of-mine")
    with store.read() as session:
        (line,) = Voters().lines(session)
        found = find_judge(session, line.judge)
        assert found is not None
        shown = trials_of(session, found)
        assert [(a.winner, a.undone) for a in shown[1].answers] == [("model_b", True), ("tie", False)]
        assert [(a.winner, a.undone) for a in shown[0].answers] == [("model_a", False)]
        assert [trial.position for trial in shown] == list(range(len(shown)))
        assert all(trial.left.prompt_id == trial.right.prompt_id for trial in shown)
        assert all(trial.left.method_id != trial.right.method_id for trial in shown)
        assert find_judge(session, "nobody") is None
