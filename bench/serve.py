"""How many voters `study serve` carries, beside a bare Flask route that makes one INSERT.

    python bench/serve.py                          # SQLite, then PostgreSQL (from the wheel pgserver)
    python bench/serve.py --databases postgresql --memory 100000

Robots vote in whole sessions on demo/gallery: welcome page, start with the CSRF token, voting page, for each
trial both pictures and the vote as the page posts it; then the robot is a new voter. Nobody asks for static
files. Two scenes, or three: robots that never wait, robots that think about each pair, and, with `--memory
VOTES`, robots that never wait until there are so many votes, with the workers' memory on the way.

The bare route has the same gunicorn and database, gets the same bytes, and uses the database's driver without
SQLAlchemy. Robots and server share the machine: `CPU ms` is what the workers needed for one trial or INSERT,
`robots` how many cores the robots took, `rest` how many everything else did (the database server, the system,
other programs). Counting begins after a warm-up; errors are counted from the start. The last lines hold what
was measured against the goals.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import numpy as np
import psutil
from flask import Flask, Response, jsonify, request
from robots import Robot, Tally
from sqlalchemy import text

from study.server import Server, address_of, listen
from study.store import open_store

REPOSITORY = Path(__file__).parents[1]
WARM_UP = 5  # seconds
EVERY = 10_000  # votes from one look at the memory to the next
RATIO, P99_MS, GROWTH = 0.3, 50.0, 0.05  # the goals: of the bare route; with robots that think; of memory
HEADER = (
    "database   robots                     votes   per s  p50 ms  p95 ms  p99 ms  CPU ms  robots  rest  ratio"
    " errors  cores of the workers, their MiB at begin → end"
)


def bare_app(folder: str) -> Flask:
    """One route, one INSERT; each thread keeps its connection, set up as the study's own."""
    app, mine = Flask("bare"), threading.local()
    store = open_store(folder, os.environ.get("DATABASE_URL"))
    value = "?" if store.engine.dialect.name == "sqlite" else "%s"

    @app.post("/insert")
    def one_insert() -> Response:
        body = request.get_json()
        with store.turn:
            if not hasattr(mine, "connection"):
                mine.connection = store.engine.raw_connection()
            cursor = mine.connection.cursor()
            cursor.execute(f"INSERT INTO bare VALUES ({value})", (body["vote_id"],))  # noqa: S608
            mine.connection.commit()
        return jsonify(stored=True)

    return app


async def drive(
    server: psutil.Process, robots: list[Robot], act: Any, seconds: float, votes: int = 0
) -> dict[str, Any]:
    """Let the robots live for so many seconds, or until so many votes, and say what came of it."""
    tally = robots[0].tally
    tasks = [asyncio.create_task(robot.live(act)) for robot in robots]
    await asyncio.sleep(WARM_UP)
    workers = server.children()
    begin, first, before = memory(workers), cores(workers), cpu_seconds(workers)
    start = time.perf_counter()
    tally.counting = True
    samples = await sampled(tally, workers, votes) if votes else []
    if not votes:
        await asyncio.sleep(seconds)
    tally.counting = False
    wall = time.perf_counter() - start
    cpu, own, busy = cpu_seconds(workers) - before
    end, shares = memory(workers), (cores(workers) - first) / wall
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    p50, p95, p99 = np.percentile(tally.times, (50, 95, 99)) if tally.times else (np.nan,) * 3
    return {
        "votes": len(tally.times), "rate": len(tally.times) / wall, "p50": p50, "p95": p95, "p99": p99,
        "cpu": 1000 * cpu / max(1, len(tally.times)), "robots": own / wall, "rest": (busy - cpu - own) / wall,
        "errors": tally.errors, "rss": f"{in_mib(begin)} → {in_mib(end)}", "samples": samples,
        "shares": " + ".join(f"{share:.2f}" for share in shares),
    }  # fmt: skip


async def sampled(tally: Tally, workers: list[psutil.Process], votes: int) -> list[tuple[int, float]]:
    """Votes so far, and what the workers hold together in MiB then: after every 10,000, and at the end."""
    samples, marks = [], [*range(EVERY, votes, EVERY), votes]
    for mark in marks:
        while len(tally.times) < mark:
            await asyncio.sleep(0.2)
        held = memory(workers)
        samples.append((len(tally.times), sum(held)))
        print(f"{'':11}{len(tally.times):8} votes: {in_mib(held)} MiB", flush=True)
    return samples


def memory(workers: list[psutil.Process]) -> list[float]:
    return [worker.memory_info().rss / 2**20 for worker in workers]


def in_mib(held: list[float]) -> str:
    return " + ".join(f"{mib:.1f}" for mib in held)


def cores(workers: list[psutil.Process]) -> Any:
    return np.array([sum(worker.cpu_times()[:2]) for worker in workers])


def cpu_seconds(workers: list[psutil.Process]) -> Any:
    """Used so far: by the workers, by the robots, by all there is."""
    system = psutil.cpu_times()
    return np.array(
        (
            cores(workers).sum(),
            time.process_time(),
            sum(getattr(system, kind, 0) for kind in ("user", "nice", "system", "irq", "softirq")),
        )
    )


@contextmanager
def serving(*command: str) -> Iterator[tuple[psutil.Process, str, int]]:
    """A server of its own process: the process, its host and port."""
    line = ""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            while not (found := re.search(r"http://[^/\s]+", line)):
                if not (line := process.stdout.readline()):
                    raise SystemExit("the server did not start")
            address = urlsplit(found[0])
            yield psutil.Process(process.pid), address.hostname or "", address.port or 80
        finally:
            process.terminate()


@contextmanager
def database(name: str, folder: str) -> Iterator[None]:
    """DATABASE_URL for the servers; PostgreSQL as it comes, with fsync."""
    with ExitStack() as stack:
        os.environ.pop("DATABASE_URL", None)
        if name == "postgresql":
            stack.enter_context(mock.patch.dict(os.environ, XDG_RUNTIME_DIR=folder))
            import pgserver

            server = pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
            stack.callback(server.cleanup)
            stack.enter_context(mock.patch.dict(os.environ, DATABASE_URL=server.get_uri()))
        yield


def measure(name: str, options: argparse.Namespace) -> list[str]:
    """All scenes on one database; returns what they say about the goals, a line each."""
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp", ignore_cleanup_errors=True) as place:
        folder, cli, workers = f"{place}/study", ("-m", "study.cli"), str(options.workers)
        with database(name, place):
            for command in (["init", folder], ["ingest", "demo/gallery", "--study", folder]):
                subprocess.run([sys.executable, *cli, *command], check=True, cwd=REPOSITORY, stdout=-3)
            store = open_store(folder, os.environ.get("DATABASE_URL"))
            with store.write() as session:
                session.execute(text("CREATE TABLE bare (vote_id TEXT)"))
            store.close()

            def scene(
                what: str,
                server: Any,
                number: int,
                act: Any,
                think: float = 0,
                bare: float = 0,
                votes: int = 0,
            ) -> dict[str, Any]:
                process, host, port = server
                tally = Tally()
                robots = [Robot(host, port, tally, think, options.pictures) for _ in range(number)]
                got = asyncio.run(drive(process, robots, act, options.seconds, votes))
                ratio = f"{got['rate'] / bare:.2f}" if bare else ""
                line = (
                    "{votes:8}{rate:8.0f}{p50:8.1f}{p95:8.1f}{p99:8.1f}{cpu:8.2f}{robots:8.2f}{rest:6.2f}"
                ).format_map(got)
                errors = sum(got["errors"].values())
                print(
                    f"{name:11}{what:24}{line}{ratio:>7}{errors:7}  {got['shares']}, {got['rss']}", flush=True
                )
                for error, times in got["errors"].items():
                    print(f"{'':11}{times} × {error}")
                return got

            goals = []
            with serving(__file__, "--bare", folder, "--workers", workers) as server:
                bare = scene("one INSERT", server, options.eager, lambda robot: robot.timed("/insert"))[
                    "rate"
                ]
            with serving(*cli, "serve", "--study", folder, "--port", "0", "--workers", workers) as server:
                eager = scene(
                    f"{options.eager} without a pause", server, options.eager, Robot.session, bare=bare
                )
                goals.append(goal(eager["rate"] / bare, RATIO, "{:.2f} of the bare route", "≥"))
                if options.robots:
                    what = f"{options.robots}, {options.think:g} s a pair"
                    calm = scene(what, server, options.robots, Robot.session, think=options.think)
                    goals.append(goal(calm["p99"], P99_MS, f"p99 {{:.1f}} ms with {what}", "≤"))
                if options.memory:
                    what = f"{options.memory} votes"
                    long = scene(what, server, options.eager, Robot.session, votes=options.memory)
                    (early, low), (late, high) = long["samples"][0], long["samples"][-1]
                    what = f"memory {low:.0f} → {high:.0f} MiB ({{:+.1%}}) from vote {early} to vote {late}"
                    goals.append(goal(high / low - 1, GROWTH, what, "≤"))
    return [f"{name:11}{line}" for line in goals]


def goal(found: float, wanted: float, words: str, sign: str) -> str:
    met = found >= wanted if sign == "≥" else found <= wanted
    return f"{words.format(found)}: goal {sign} {wanted:g} {'met' if met else 'missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgresql"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--eager", type=int, default=16, help="robots that never wait")
    parser.add_argument("--robots", type=int, default=64, help="robots that think; 0: without that scene")
    parser.add_argument("--think", type=float, default=1.0, help="seconds they think about a pair")
    parser.add_argument("--seconds", type=float, default=20, help="of each scene but the last")
    parser.add_argument(
        "--memory",
        type=int,
        default=0,
        metavar="VOTES",
        help=f"a last scene of so many votes, more than {EVERY}; 0: without it",
    )
    parser.add_argument("--pictures", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--bare", metavar="FOLDER", help=argparse.SUPPRESS)  # be the bare server
    options = parser.parse_args()
    if 0 < options.memory <= EVERY:
        parser.error(
            f"--memory: found {options.memory}, expected more than {EVERY}: it is compared with then"
        )
    if options.bare:
        bound = listen("127.0.0.1", 0)
        address = address_of(bound)
        Server(
            lambda: bare_app(options.bare), bound, options.workers, lambda: print(address, flush=True)
        ).run()
    print(HEADER)
    goals = [
        line for name in options.databases or ["sqlite", "postgresql"] for line in measure(name, options)
    ]
    print("\n".join(goals))


if __name__ == "__main__":
    main()
