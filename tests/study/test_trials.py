"""The trial rules: against a plain second implementation, and under random interleavings."""

import random
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select

from study import ballot as ballots
from study.ballot import Answer, Answers, RefusedError, answer, current, undo
from study.chain import Held, holding
from study.config import Checks, Page, Prompts, Protocol, Quota
from study.endings import report, skip
from study.ingest import ingest
from study.leases import sides
from study.participants import add_voter
from study.protocols import open_protocol
from study.replay import explain, replay
from study.schema import Assignment, Cell, Event, Vote, Voter
from study.schema import Quota as QuotaRow
from study.store import Store, migrate, open_store
from study.trials import choose_side
from study.verify import verify


def say(store: Store, voter: str, trial: str, side: str = "left", vote_id: str = "") -> Any:
    answers = Answers(vote_id or f"{voter[:8]}-{trial}", (Answer("preference", side, 900),))
    return answer(store, voter, trial, answers)


def new(store: Store) -> str:
    voter = add_voter(store, "key")
    assert voter
    return voter.id


def play(store: Store, rng: random.Random, voters: int = 1) -> None:
    """New voters take turns at random until each has answered all."""
    go_on(store, rng, [new(store) for _ in range(voters)])


def go_on(store: Store, rng: random.Random, going: list[str]) -> None:
    while going:
        voter = rng.choice(going)
        found = current(store, voter)
        if found.finished:
            going.remove(voter)
        elif found.trials:  # else others are changing every quota that has room: ask again
            say(store, voter, rng.choice(found.trials).trial_id, rng.choice(("left", "right", "tie")))


def check(store: Store, protocol: Protocol) -> None:
    """What holds at every moment, for every voter and every quota."""
    with store.read() as session:
        cells = {cell.id: cell for cell in session.scalars(select(Cell))}
        trials = session.scalars(select(Assignment).order_by(Assignment.position)).all()
        quotas = {quota.id: quota for quota in session.scalars(select(QuotaRow))}
        late = Counter(
            session.scalars(
                select(Cell.quota_id)
                .join(Assignment, Assignment.cell_id == Cell.id)
                .join(Vote, Vote.trial_id == Assignment.trial_id)
                .where(Vote.late, Vote.undone_by.is_(None))
            )
        )
    theirs = defaultdict(list)
    for trial in trials:
        theirs[trial.voter_id].append(trial)
    for given_ in theirs.values():
        assert [trial.position for trial in given_] == list(range(len(given_)))
        lead: Counter[Any] = Counter()
        first_time: dict[int, Assignment] = {}
        for trial in given_:
            cell = cells[trial.cell_id]
            key = (cell.method_1, cell.method_2) if cell.kind == "main" else cell.kind
            lead[key] += 1 if trial.first_left else -1
            assert abs(lead[key]) <= 1
            if trial.kind == "repeat":
                before = first_time.pop(trial.cell_id)  # KeyError: repeated twice, or never shown
                assert before.trial_id == trial.repeat_of
                assert trial.position - before.position >= protocol.checks.repeat_gap
                assert (trial.left_image, trial.right_image) == (before.right_image, before.left_image)
            else:
                assert trial.kind == cell.kind
                assert trial.cell_id not in first_time
                first_time[trial.cell_id] = trial
    if protocol.quota.votes:
        for quota in quotas.values():
            # Votes in time and live leases never pass the quota; late votes may.
            assert quota.load - late[quota.id] <= protocol.quota.votes


# ---------------------------------------------------------------- one after another


PROTOCOLS = {
    "plain": Protocol(name="t", title="t", trials_per_voter=12),
    "checks": Protocol(
        name="t",
        title="t",
        trials_per_voter=14,
        prefetch=1,
        quota=Quota(votes=2, lease_minutes=10),
        checks=Checks(practice=1, golds=1, repeats=2, repeat_gap=3, nulls=1),
        page=Page(skip=True),
    ),
    "category": Protocol(
        name="t",
        title="t",
        trials_per_voter=8,
        prefetch=0,
        quota=Quota(votes=7, per="category"),
        prompts=Prompts(per_category=4),
        page=Page(skip=True),
    ),
}


@pytest.fixture(scope="module")
def prepared(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with an open study on SQLite for each of PROTOCOLS, to be copied."""
    folders = {}
    for name, protocol in PROTOCOLS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        store = open_store(folders[name])
        migrate(store)
        ingest(gallery, store)
        open_protocol(store, protocol)
        store.close()
    return folders


@pytest.fixture(autouse=True)
def ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voters have the same ids, and so the same scripts, every time."""
    chance = random.Random(0)
    monkeypatch.setattr(secrets, "token_hex", lambda size: chance.randbytes(size).hex())


@pytest.fixture
def copied(prepared: dict[str, Path]) -> Iterator[Callable[[str], Store]]:
    """Open a fresh copy of a prepared study."""
    made = []

    def copy(name: str) -> Store:
        made.append(open_copy(prepared[name]))
        return made[-1]

    yield copy
    for store in made:
        close_copy(store)


def open_copy(folder: Path) -> Store:
    copy = Path(mkdtemp(prefix="trials"))
    shutil.copyfile(folder / "study.db", copy / "study.db")
    store = open_store(copy)
    return Store(store.engine, folder / "served", store.turn)


def close_copy(store: Store) -> None:
    store.close()
    shutil.rmtree(Path(str(store.engine.url.database)).parent)


def plain_choice(quotas: list[QuotaRow], eligible: set[int], wanted: int, draw: float) -> int | None:
    """Which quota is next, by looking at all of them: what choose_cell finds through an index."""
    can = [quota for quota in quotas if quota.id in eligible and (not wanted or quota.load < wanted)]
    if not can:
        return None
    least = min(quota.load for quota in can)
    circle = sorted((quota.shuffle, quota.id) for quota in can if quota.load == least)
    return next((id_ for place, id_ in circle if place >= draw), circle[0][1])


@pytest.mark.parametrize("name", ["plain", "category"])
def test_the_choice_is_what_a_plain_search_of_all_quotas_finds(
    copied: Callable[[str], Store], name: str
) -> None:
    store, protocol, rng = copied(name), PROTOCOLS[name], random.Random(5)
    alone = protocol.model_copy(update={"prefetch": 0})  # one trial a time, so that its moment is known
    ballots.protocol_of, real = (lambda *_: alone), ballots.protocol_of
    try:
        voters, checked = [new(store) for _ in range(3)], 0
        for _ in range(60):
            voter = rng.choice(voters)
            with store.read() as session:
                quotas = list(session.scalars(select(QuotaRow)))
                seen = set(session.scalars(select(Assignment.cell_id).where(Assignment.voter_id == voter)))
                eligible = {cell.quota_id for cell in session.scalars(select(Cell)) if cell.id not in seen}
                last = session.scalars(
                    select(Event.id).where(Event.voter_id == voter).order_by(Event.id.desc()).limit(1)
                ).first()
            found = current(store, voter)
            with store.read() as session:
                events = session.scalars(
                    select(Event).where(
                        Event.voter_id == voter, Event.event == "assigned", Event.id > (last or 0)
                    )
                ).all()
                for event in events:
                    cell = session.get(Cell, event.body["cell"])
                    assert cell
                    assert cell.quota_id == plain_choice(
                        quotas, eligible - {None}, protocol.quota.votes, event.body["draws"][0]
                    )
                    checked += 1
            if not found.finished:
                with holding(store, voter) as (
                    session,
                    held,
                ):  # without a hand-out, which the next look makes
                    trial = found.trials[0].trial_id
                    answers = Answers(f"v-{trial}", (Answer("preference", "left", 1),))
                    ballots._store(session, held, ballots.own_trial(session, held, trial), answers)
        assert checked == 21 if name == "category" else checked > 30  # 3 quotas of 7 are full then
    finally:
        ballots.protocol_of = real
    verify(store)


@given(st.sampled_from(sorted(PROTOCOLS)), st.integers(0, 2**32), st.integers(1, 3))
@settings(max_examples=12)
def test_whole_sessions_keep_the_rules(prepared: dict[str, Path], name: str, seed: int, voters: int) -> None:
    store = open_copy(prepared[name])
    play(store, random.Random(seed), voters)
    check(store, PROTOCOLS[name])
    verify(store)
    close_copy(store)


def test_the_rules_hold_on_both_databases(store: Store, protocol: Protocol) -> None:
    play(store, random.Random(3), voters=3)
    check(store, protocol)
    verify(store)
    with store.read() as session:
        counts = session.scalars(select(QuotaRow.votes)).all()
    assert sum(counts) == 36
    assert max(counts) - min(counts) <= 2  # 3 voters × 12 trials on 18 cells, and nobody twice on one


def test_quotas_hold_under_voters_at_once(store: Store, protocol: Protocol) -> None:
    tight = protocol.model_copy(update={"quota": Quota(votes=2), "prefetch": 1})
    version = open_protocol(store, tight)

    voters = [new(store) for _ in range(6)]  # before the first of them can have filled all places
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: go_on(store, random.Random(number), [voters[number]]), range(6)))
    check(store, tight)
    verify(store)
    with store.read() as session:
        counts = session.scalars(select(QuotaRow.votes).where(QuotaRow.protocol == version.hash)).all()
    assert counts == [2] * 18  # 6 × 12 would be more: all places were found, none was overrun


def test_sides_of_a_quota_are_balanced_where_voters_leave_the_choice(
    copied: Callable[[str], Store],
) -> None:
    store = copied("plain")
    play(store, random.Random(1), voters=6)
    with store.read() as session:
        quotas = session.scalars(select(QuotaRow)).all()
        told = sides(session, PROTOCOLS["plain"].hash)
    lefts = [quota.lefts for quota in quotas]
    assert told == (sum(lefts), 72, max(abs(2 * quota.lefts - quota.votes) for quota in quotas))
    assert {quota.votes for quota in quotas} <= {3, 4, 5}  # nobody sees a pair twice, so not always 4
    assert sum(abs(2 * quota.lefts - quota.load) for quota in quotas) <= 18  # coins alone: 27


def test_one_after_another_fills_the_least_voted_cells_first(store: Store) -> None:
    levels = []
    for _ in range(3):
        play(store, random.Random(1))
        with store.read() as session:
            levels.append(sorted(session.scalars(select(QuotaRow.votes)).all()))
    assert levels == [[0] * 6 + [1] * 12, [1] * 12 + [2] * 6, [2] * 18]


def test_ties_between_cells_are_broken_at_random(copied: Callable[[str], Store]) -> None:
    store = copied("category")
    first: Counter[int] = Counter()
    for number in range(120):
        with store.write() as session:  # nothing is ever committed: each voter meets an empty study
            protocol = session.scalars(select(QuotaRow.protocol)).first()
            voter = Voter(id=f"{number:032}", judge=str(number), protocol=protocol, trials=8, given=0, seq=0)
            voter.head, voter.source, voter.created = "", "test", 0.0
            session.add(voter)
            session.flush()
            names = ("id", "protocol", "trials", "given", "seq", "head")
            held = Held(**{name: getattr(voter, name) for name in names})
            ballots.ballot_of(session, held, {}, fresh=True)
            first[session.scalars(select(Assignment.cell_id)).one()] += 1
            session.rollback()
    assert len(first) == 12  # 3 quotas × 4 prompts
    assert min(first.values()) >= 2


def test_an_assignment_can_be_replayed_and_explained(store: Store, protocol: Protocol) -> None:
    voter = new(store)
    current(store, voter)
    with store.read() as session:
        events = session.scalars(select(Event).where(Event.voter_id == voter).order_by(Event.seq)).all()
    assert len(events) == 4
    for event in events:
        assert replay(protocol, voter, 12, event.body) == ""
        assert "among the least filled quotas: 0 votes and leases" in explain(protocol, event.body)
        for name, value in (
            ("draws", [0.5, 0.5, 0.5]),
            ("planned", "gold"),
            ("kind", "gold"),
            ("first_left", not event.body["first_left"]),
            ("position", 12),
        ):
            assert replay(protocol, voter, 12, {**event.body, name: value}) != ""
        assert replay(protocol, "somebody else", 12, event.body) != ""


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 9), st.integers(0, 9))))
def test_a_voters_sides_never_differ_by_more_than_one(draws: list[tuple[float, int, int]]) -> None:
    left = right = 0
    for draw, lefts, rights in draws:
        if choose_side(left - right, lefts, lefts + rights, draw):
            left += 1
        else:
            right += 1
        assert abs(left - right) <= 1


# ---------------------------------------------------------------- any order of things


class Voting(RuleBasedStateMachine):
    """Voters come, answer, undo, resend and fall asleep in any order; the rules hold after each step."""

    folder: Path
    protocol: Protocol

    def __init__(self) -> None:
        super().__init__()
        self.now = 1e9
        self.store = open_copy(self.folder)
        self.real_time, ballots.time = ballots.time, SimpleNamespace(time=lambda: self.now)
        self.voters: list[str] = []
        self.votes: list[tuple[str, str, str]] = []  # voter, trial, vote id
        self.number = 0

    def teardown(self) -> None:
        ballots.time = self.real_time
        verify(self.store)
        close_copy(self.store)

    @precondition(lambda self: len(self.voters) < 4)
    @rule()
    def come(self) -> None:
        voter = add_voter(self.store, "key")
        if voter is not None:  # else the study is full
            self.voters.append(voter.id)

    @precondition(lambda self: self.voters)
    @rule(data=st.data(), side=st.sampled_from(("left", "right", "tie")))
    def vote(self, data: st.DataObject, side: str) -> None:
        voter = data.draw(st.sampled_from(self.voters))
        found = current(self.store, voter)
        if found.finished:
            return
        trial = data.draw(st.sampled_from(found.trials)).trial_id
        self.number += 1
        name = f"vote-{self.number}"
        after = say(self.store, voter, trial, side, name)
        assert after.done == found.done + 1
        self.votes.append((voter, trial, name))

    @precondition(lambda self: self.voters)
    @rule(data=st.data(), reported=st.booleans())
    def end(self, data: st.DataObject, reported: bool) -> None:
        voter = data.draw(st.sampled_from(self.voters))
        found = current(self.store, voter)
        if found.finished:
            return
        trial = data.draw(st.sampled_from(found.trials)).trial_id
        if reported:
            after = report(self.store, voter, trial, "a report", "left", "bad")
        else:
            after = skip(self.store, voter, trial, "a skip", "other")
        assert after.done == found.done + 1

    @precondition(lambda self: self.votes)
    @rule(data=st.data())
    def resend(self, data: st.DataObject) -> None:
        voter, trial, name = data.draw(st.sampled_from(self.votes))
        before = current(self.store, voter)
        assert say(self.store, voter, trial, "left", name) == before

    @precondition(lambda self: self.votes)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        voter, trial, name = data.draw(st.sampled_from(self.votes[-3:]))
        try:
            found = undo(self.store, voter, trial, name)
        except RefusedError as error:
            assert error.code == "too_late_to_undo"
            return
        with self.store.read() as session:
            vote = session.get(Vote, name)
            assert vote
            assert vote.undone_by is not None
            standing = session.scalars(
                select(Vote).where(Vote.trial_id == trial, Vote.undone_by.is_(None))
            ).all()
            ended = session.scalar(select(Assignment.state).where(Assignment.trial_id == trial))
        # An undo that is sent again opens nothing: there may be another vote, or the trial was ended.
        waits = not standing and ended not in ("skipped", "reported")
        assert (trial in {t.trial_id for t in found.trials}) == waits

    @precondition(lambda self: len(self.voters) > 1 and self.votes)
    @rule(data=st.data())
    def meddle(self, data: st.DataObject) -> None:
        voter, trial, _ = data.draw(st.sampled_from(self.votes))
        other = data.draw(st.sampled_from([v for v in self.voters if v != voter]))
        with pytest.raises(RefusedError, match="foreign_trial"):
            say(self.store, other, trial, "left", "meddled")

    @rule(minutes=st.sampled_from((1, 11)))
    def sleep(self, minutes: int) -> None:
        self.now += 60 * minutes

    @invariant()
    def the_rules_hold(self) -> None:
        check(self.store, self.protocol)


@pytest.mark.parametrize("name", ["checks", "category"])
def test_any_order_of_things(prepared: dict[str, Path], name: str) -> None:
    class Prepared(Voting):
        folder = prepared[name]
        protocol = PROTOCOLS[name]

    case = Prepared.TestCase
    case.settings = settings(max_examples=12, stateful_step_count=30)
    case("runTest").runTest()
