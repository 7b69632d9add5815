"""Milliseconds to hand out a trial, with few and with many votes stored.

    python bench/trials.py [--votes 1000 1000000] [--prompts 5000] [--methods 6] [--rounds 300]

A study of 5,000 prompts × 15 method pairs = 75,000 cells on SQLite (or DATABASE_URL, an empty database).
Votes are put in by bulk INSERTs, spread as least-filled-first spreads them: the same number on each cell,
give or take one. Then new voters come and answer, and three things are timed: handing out one trial (in a
transaction that is rolled back), a whole answer with its commit, and for comparison one INSERT with its
commit.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import func, insert, select, text

from study.ballot import Answer, Answers, answer, current
from study.chain import holding
from study.config import Protocol
from study.config import Quota as Wanted
from study.design import Material, main_cells
from study.participants import add_voter
from study.protocols import Version, _add_cells, _add_version, newest, protocol_of
from study.schema import (
    Assignment,
    Cell,
    Event,
    GalleryRow,
    ImageRow,
    MethodRow,
    PromptRow,
    Vote,
    Voter,
)
from study.store import Store, migrate, open_store
from study.trials import hand_out

A_VOTER = 100
BODY = {"as": "long as such a body is " * 8}
BATCH = 20_000


def make_study(store: Store, prompts: int, methods: int) -> None:
    """A gallery without files, and an open protocol."""
    names = [f"m{number}" for number in range(methods)]
    with store.write() as session:
        session.add(GalleryRow(digest="g", name="bench", body={}, ingested=0.0))
        session.flush()
        session.execute(insert(MethodRow), [{"id": name, "gallery": "g", "body": {}} for name in names])
        session.execute(
            insert(PromptRow),
            [{"id": f"p{n:05}", "text": f"prompt {n}", "category": f"c{n % 10}"} for n in range(prompts)],
        )
        session.execute(
            insert(ImageRow),
            [
                {
                    "method_id": name,
                    "prompt_id": f"p{n:05}",
                    "replicate": 0,
                    "variant": "",
                    "sha256": "0" * 64,
                    "served_key": f"{name}-{n}",
                    "served_sha256": "0" * 64,
                    "width": 1024,
                    "height": 1024,
                    "body": {},
                }
                for name in names
                for n in range(prompts)
            ],
        )
    protocol = Protocol(name="bench", title="bench", trials_per_voter=A_VOTER, quota=Wanted(votes=1000))
    with store.read() as session:
        material = Material.of(session, protocol)
    with store.write() as session:
        _add_version(session, Version(1, protocol.hash, protocol), "g")
        _add_cells(session, protocol, *main_cells(material, protocol), [])


def add_votes(store: Store, first: int, last: int) -> None:
    """Votes number `first` to `last`, each with its trial and its two events, in the order of the shuffle."""
    with store.read() as session:
        version = newest(session)
        cells = session.execute(
            select(Cell.id, Cell.quota_id, Cell.image_1, Cell.image_2).order_by(Cell.shuffle)
        ).all()
        free = (session.scalar(select(func.max(Event.id))) or 0) + 1  # what was measured has events too
    if version is None:
        raise SystemExit("nothing is open")
    for start in range(first, last, BATCH):
        voters, trials, events, votes, counted = [], [], [], [], {}
        for number in range(start, min(start + BATCH, last)):
            cell = cells[number % len(cells)]
            judge, position = divmod(number, A_VOTER)
            trial = {"trial_id": f"t{number}", "voter_id": f"v{judge}"}
            if position == 0:
                voters.append(
                    {
                        "id": f"v{judge}",
                        "judge": f"j{judge}",
                        "protocol": version.hash,
                        "source": "bench",
                        "trials": A_VOTER,
                        "given": A_VOTER,
                        "seq": 2 * A_VOTER,
                        "head": "",
                        "created": 0.0,
                    }
                )
            trials.append(
                {
                    **trial,
                    "cell_id": cell.id,
                    "position": position,
                    "kind": "main",
                    "state": "voted",
                    "left_image": cell.image_1,
                    "right_image": cell.image_2,
                    "first_left": True,
                    "expires": None,
                    "protocol": version.hash,
                    "created": 0.0,
                }
            )
            for step, event in enumerate(("assigned", "voted")):
                events.append(
                    {
                        **trial,
                        "id": free + 2 * (number - first) + step,
                        "seq": 2 * position + step + 1,
                        "event": event,
                        "at": 0.0,
                        "previous": "0" * 64,
                        "body": BODY,
                    }
                )
            votes.append(
                {
                    "vote_id": f"b{number}",
                    "trial_id": f"t{number}",
                    "event_id": free + 2 * (number - first) + 1,
                    "question": "preference",
                    "winner": "tie",
                    "rt_ms": 900,
                    "at": float(number),
                    "late": False,
                }
            )
            counted[cell.quota_id] = number // len(cells) + 1
        with store.write() as session:
            if voters:
                session.execute(insert(Voter), voters)
            session.execute(insert(Assignment), trials)
            session.execute(insert(Event), events)
            session.execute(insert(Vote), votes)
            session.connection().execute(
                text("UPDATE quotas SET votes = :n, load = :n, lefts = :n WHERE id = :id"),
                [{"id": quota, "n": n} for quota, n in counted.items()],
            )
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if store.engine.dialect.name == "postgresql":
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence('events', 'id'), :n)"),
                {"n": free + 2 * (last - first)},
            )
            connection.execute(text("VACUUM ANALYZE"))


def timed(rounds: int, act: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - start))
    return sorted(times)


def measure(store: Store, rounds: int) -> dict[str, list[float]]:
    """Sorted milliseconds of each thing that is timed."""
    with store.write() as session:
        session.execute(text("CREATE TABLE IF NOT EXISTS one_insert (a TEXT)"))
    who = newcomer(store)
    current(store, who)
    ballot = {"voter": who, "open": current(store, who)}

    def whole_answer() -> None:
        if ballot["open"].finished:
            ballot["voter"] = newcomer(store)
            ballot["open"] = current(store, ballot["voter"])
        trial = ballot["open"].trials[0].trial_id
        answers = Answers(f"m-{trial}", (Answer("preference", "left", 900),))
        ballot["open"] = answer(store, ballot["voter"], trial, answers)

    def one_insert() -> None:
        with store.write() as session:
            session.execute(text("INSERT INTO one_insert VALUES ('a vote')"))

    return {
        "hand out": sorted(one_hand_out(store, who) for _ in range(rounds)),
        "whole answer": timed(rounds, whole_answer),
        "one INSERT": timed(rounds, one_insert),
    }


def newcomer(store: Store) -> str:
    voter = add_voter(store, "key")
    if voter is None:
        raise SystemExit("the study is full")
    return voter.id


class RollBackError(Exception):
    """What is timed shall not happen."""


def one_hand_out(store: Store, who: str) -> float:
    with suppress(RollBackError), holding(store, who) as (session, voter):
        protocol = protocol_of(session, voter.protocol)
        start = time.perf_counter()
        hand_out(session, voter, protocol, time.time())
        spent = 1000 * (time.perf_counter() - start)
        raise RollBackError
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--votes", type=int, nargs="+", default=[1_000, 1_000_000])
    parser.add_argument("--prompts", type=int, default=5_000)
    parser.add_argument("--methods", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder, os.environ.get("DATABASE_URL"))
        migrate(store)
        make_study(store, arguments.prompts, arguments.methods)
        stored = 0
        for wanted in sorted(arguments.votes):
            add_votes(store, stored, wanted)
            stored = wanted
            for what, times in measure(store, arguments.rounds).items():
                line = {
                    "database": store.engine.dialect.name,
                    "votes": stored,
                    "what": what,
                    "median_ms": round(statistics.median(times), 3),
                    "p99_ms": round(times[int(0.99 * len(times))], 3),
                }
                print(json.dumps(line), flush=True)
        store.close()


if __name__ == "__main__":
    main()
