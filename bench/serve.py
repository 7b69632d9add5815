"""How many voters `study serve` carries, beside a bare Flask route that makes one INSERT.

    python bench/serve.py                         # SQLite, then PostgreSQL (from the wheel pgserver)
    python bench/serve.py --databases postgresql --seconds 400 --robots 0       # memory over many votes

Robots vote in whole sessions on demo/gallery: welcome page, start with the CSRF token, voting page, for each
trial both pictures and the vote as the page posts it; then the robot is a new voter. Nobody asks for static
files. Two scenes: robots that never wait, and robots that think about each pair.

The bare route has the same gunicorn and database, gets the same bytes, and uses the database's driver without
SQLAlchemy. Robots and server share the machine: `CPU ms` is what the workers needed for one trial or INSERT,
`robots` how many cores the robots took, `rest` how many everything else did (the database server, the system,
other programs). Counting begins after a warm-up; errors are counted from the start.
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


async def drive(server: psutil.Process, robots: list[Robot], act: Any, seconds: float) -> dict[str, Any]:
    """Let the robots live for so many seconds, and say what came of it."""
    tally = robots[0].tally
    tasks = [asyncio.create_task(robot.live(act)) for robot in robots]
    await asyncio.sleep(WARM_UP)
    workers = server.children()
    begin, first, before = memory(workers), cores(workers), cpu_seconds(workers)
    start = time.perf_counter()
    tally.counting = True
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
        "errors": tally.errors, "rss": f"{begin} → {end}",
        "shares": " + ".join(f"{share:.2f}" for share in shares),
    }  # fmt: skip


def memory(workers: list[psutil.Process]) -> str:
    return " + ".join(f"{worker.memory_info().rss / 2**20:.1f}" for worker in workers)


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


def measure(name: str, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp", ignore_cleanup_errors=True) as place:
        folder, cli, workers = f"{place}/study", ("-m", "study.cli"), str(options.workers)
        with database(name, place):
            for command in (["init", folder], ["ingest", "demo/gallery", "--study", folder]):
                subprocess.run([sys.executable, *cli, *command], check=True, cwd=REPOSITORY, stdout=-3)
            store = open_store(folder, os.environ.get("DATABASE_URL"))
            with store.write() as session:
                session.execute(text("CREATE TABLE bare (vote_id TEXT)"))
            store.close()

            def scene(what: str, server: Any, number: int, think: float, act: Any, bare: float = 0) -> float:
                process, host, port = server
                tally = Tally()
                robots = [Robot(host, port, tally, think, options.pictures) for _ in range(number)]
                got = asyncio.run(drive(process, robots, act, options.seconds))
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
                return float(got["rate"])

            with serving(__file__, "--bare", folder, "--workers", workers) as server:
                bare = scene("one INSERT", server, options.eager, 0, lambda robot: robot.timed("/insert"))
            with serving(*cli, "serve", "--study", folder, "--port", "0", "--workers", workers) as server:
                scene(f"{options.eager} without a pause", server, options.eager, 0, Robot.session, bare)
                if options.robots:
                    scene(f"{options.robots}, {options.think:g} s a pair", server, options.robots,
                          options.think, Robot.session)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgresql"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--eager", type=int, default=16, help="robots that never wait")
    parser.add_argument("--robots", type=int, default=64, help="robots that think")
    parser.add_argument("--think", type=float, default=1.0, help="seconds they think about a pair")
    parser.add_argument("--seconds", type=float, default=20, help="of each scene")
    parser.add_argument("--pictures", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--bare", metavar="FOLDER", help=argparse.SUPPRESS)  # be the bare server
    options = parser.parse_args()
    if options.bare:
        bound = listen("127.0.0.1", 0)
        address = address_of(bound)
        Server(
            lambda: bare_app(options.bare), bound, options.workers, lambda: print(address, flush=True)
        ).run()
    print(HEADER)
    for name in options.databases or ["sqlite", "postgresql"]:
        measure(name, options)


if __name__ == "__main__":
    main()
