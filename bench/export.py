"""Peak memory and time of `study export` from SQLite: the memory must not grow with the votes.

    python bench/export.py            # at 100,000 and at 1,000,000 votes; about 1 GB of temporary files
    python bench/export.py 20000 40000

One vote is cast through the platform's own functions on the demo gallery. All others are copies of its
rows with other ids, sides and answers, because only their number matters here. Each export is a process of
its own.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from study.ballot import Answer, Answers, answer, current
from study.config import Protocol
from study.ingest import ingest
from study.participants import add_voter
from study.protocols import open_protocol
from study.schema import Assignment, Base, Cell, Event, Vote, Voter
from study.store import Store, migrate, open_store

GALLERY = Path(__file__).parents[1] / "demo" / "gallery"
EACH = 100  # votes of a voter
EXPORTS = [("parquet", None), ("jsonl", None), ("csv", None), ("csv", "lmarena"), ("jsonl", "hpd")]
RUN = """
import resource, sys, time
from study.export import export_votes
from study.store import open_store
folder, out, schema = sys.argv[1:]
start = time.perf_counter()
done = export_votes(open_store(folder), out, schema=schema or None)
print(done.votes, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def a_study(folder: Path) -> Store:
    """A study with one voter and one vote."""
    store = open_store(folder)
    migrate(store)
    protocol = Protocol(name="bench", title="bench")
    ingest(GALLERY, store)
    open_protocol(store, protocol)
    voter = add_voter(store, "a key for benchmarks")
    if voter is None:
        raise SystemExit(f"{GALLERY}: no pictures")
    (first, *_) = current(store, voter.id).trials
    answers = Answers("the-first-vote-of-all", (Answer("preference", "left", 900),), {"dpr": 2})
    answer(store, voter.id, first.trial_id, answers)
    return store


def copy_votes(store: Store, number: int) -> None:
    """Copy the one vote, with all rows that belong to it, until there are so many."""
    rng = random.Random(0)
    with store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        one = {table: dict(row(connection, table)) for table in (Voter, Assignment, Event, Vote)}
        cells = connection.execute(select(Cell.id, Cell.image_1, Cell.image_2)).all()
        for first in range(1, number, EACH):
            rows: dict[type[Base], list[dict[str, Any]]] = {table: [] for table in one}
            voter = f"{first:032x}"
            rows[Voter].append({**one[Voter], "id": voter, "judge": voter})
            for position, cell in enumerate(rng.sample(cells, min(EACH, number - first))):
                name = f"{first + position:032x}"
                left, right = rng.sample(cell[1:], 2)
                ids = {"voter_id": voter, "trial_id": name}
                place = {"cell_id": cell.id, "position": position, "left_image": left, "right_image": right}
                rows[Assignment].append({**one[Assignment], **ids, **place, "state": "voted"})
                event = {"id": 10**9 + first + position, "seq": position + 1, **ids}
                rows[Event].append({**one[Event], **event})
                outcome = rng.choice(["model_a", "model_b", "tie"])
                vote = {"vote_id": name, "trial_id": name, "event_id": event["id"], "winner": outcome}
                rows[Vote].append({**one[Vote], **vote, "at": one[Vote]["at"] + rng.random() * number})
            for table, values in rows.items():
                connection.execute(insert(table.__table__), values)


def row(connection: Connection, table: type[Base]) -> Any:
    """The row that belongs to the vote."""
    statement = select(table.__table__)
    if table in (Assignment, Event):
        statement = statement.where(table.__table__.c.trial_id == select(Vote.trial_id).scalar_subquery())
    if table is Event:
        statement = statement.where(Event.event == "voted")
    return connection.execute(statement).mappings().one()


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:]] or [100_000, 1_000_000]
    print(f"{'votes':>9}  {'export':20}{'seconds':>9}{'peak MiB':>10}{'file MiB':>10}")
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            start = time.perf_counter()
            store = a_study(folder)
            copy_votes(store, number)
            store.close()
            print(f"{number:9,}  made in {time.perf_counter() - start:.0f} s", flush=True)
            for kind, schema in EXPORTS:
                out = folder / f"votes.{kind}"
                command = [sys.executable, "-c", RUN, name, str(out), schema or ""]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                votes, seconds, peak = done.stdout.split()
                if schema is None and int(votes) != number:
                    raise SystemExit(f"{votes} votes in {out.name}, expected {number}")
                label = f"{kind}{f', {schema}' if schema else ''}"
                size = out.stat().st_size / 2**20
                print(
                    f"{'':9}  {label:20}{float(seconds):9.1f}{int(peak) / 2**10:10.0f}{size:10.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
