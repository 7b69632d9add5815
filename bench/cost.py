"""What one vote costs the server itself: SQL statements and milliseconds of CPU, with no network between.

    python bench/cost.py [--voters 40] [--profile vote]

One client in the server's own process votes through whole sessions on demo/gallery, on SQLite and on
PostgreSQL (from the wheel pgserver). CPU time is that of this process, so other programs disturb it little;
beside it, for scale, a bare Flask route on the same database that makes one INSERT. What PostgreSQL's own
processes took stands in the last line. `--profile` prints where the time of that kind of request goes.
"""

import argparse
import cProfile
import json
import os
import pstats
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from serve import REPOSITORY, bare_app, database
from sqlalchemy import event, text

from study.app import create_app
from study.store import Store, open_store

DISPLAY = {"dpr": 2, "scale": 1.5, "viewport": [1440, 900], "layout": "row", "input": "key", "hidden_ms": 0}


class Meter:
    """CPU seconds, statements and requests of each kind, and the profile of one kind."""

    def __init__(self, store: Store, profiled: str) -> None:
        self.cpu: Counter[str] = Counter()
        self.statements: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.kind, self.profiled, self.profile = "", profiled, cProfile.Profile(time.process_time)

        @event.listens_for(store.engine, "before_cursor_execute")
        def count(*_: Any) -> None:
            self.statements[self.kind] += 1

    def request(self, kind: str, ask: Callable[[], Any]) -> Any:
        self.kind = kind
        self.requests[kind] += 1
        start = time.process_time()
        response = self.profile.runcall(ask) if kind == self.profiled else ask()
        self.cpu[kind] += time.process_time() - start
        assert response.status_code in (200, 302, 303), response.data  # noqa: S101 - nothing else is measured
        return response


def session(client: Any, meter: Meter) -> None:
    """One voter from the welcome page to the last trial, as the page does it."""
    token = _token(meter.request("welcome", lambda: client.get("/")))
    meter.request("start", lambda: client.post("/start", data={"csrf_token": token}))
    page = meter.request("page", lambda: client.get("/vote"))
    token = _token(page)
    ballot = json.loads(re.findall(r'id="ballot">(.*?)</script>', page.text, re.DOTALL)[0])
    loaded: set[str] = set()
    while not ballot["finished"]:
        new = [trial for trial in ballot["trials"] if trial["id"] not in loaded]
        for address in (trial[side] for trial in new for side in ("left", "right")):
            meter.request("picture", partial(client.get, address))
        loaded.update(trial["id"] for trial in new)
        trial = ballot["trials"][0]
        answers = [{"question": "preference", "answer": "left", "rt_ms": 1234}]
        body = {"vote_id": f"vote-{trial['id']}", "answers": answers, "display": DISPLAY}
        headers = {"X-CSRFToken": token}
        vote = partial(client.post, trial["vote"], json=body, headers=headers)
        ballot = meter.request("vote", vote).json


def _token(response: Any) -> str:
    return re.findall(r'name="csrf[-_]token" (?:value|content)="([^"]+)"', response.text)[0]


def postgres_cpu(place: str) -> float:
    """CPU seconds that PostgreSQL has used so far; none where it does not run."""
    file = Path(place, "data", "postmaster.pid")
    if not file.exists():
        return 0.0
    server = psutil.Process(int(file.read_text().split()[0]))
    return float(sum(sum(process.cpu_times()[:2]) for process in (server, *server.children())))


def measure(name: str, voters: int, profiled: str) -> None:
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp", ignore_cleanup_errors=True) as place:
        folder = f"{place}/study"
        with database(name, place):
            for command in (
                ["init", folder],
                ["ingest", "demo/gallery", "--study", folder],
                ["open", "--study", folder],
            ):
                subprocess.run(
                    [sys.executable, "-m", "study.cli", *command], check=True, cwd=REPOSITORY, stdout=-3
                )
            url = os.environ.get("DATABASE_URL")
            config = {"STUDY": folder, "SECRET_KEY": "a key for measuring", "DATABASE_URL": url}
            app = create_app(config)
            meter = Meter(app.config["STORE"], profiled)
            session(app.test_client(), Meter(open_store(folder, url), ""))  # fills the caches
            for counter in (meter.cpu, meter.statements, meter.requests):
                counter.clear()
            begin = postgres_cpu(place)
            for _ in range(voters):
                session(app.test_client(), meter)
            beside = 1000 * (postgres_cpu(place) - begin) / meter.requests["vote"]
            with app.config["STORE"].write() as db:
                db.execute(text("CREATE TABLE bare (vote_id TEXT)"))
            client = bare_app(folder).test_client()
            for number in range(meter.requests["vote"]):
                body = {"vote_id": str(number), "answers": [], "display": DISPLAY}
                meter.request("bare", partial(client.post, "/insert", json=body))
            for kind, number in meter.requests.items():
                cost = f"{meter.statements[kind] / number:9.1f}{1000 * meter.cpu[kind] / number:9.3f}"
                print(f"{name:11}{kind:9}{number:9}{cost}", flush=True)
            trial = sum(meter.cpu[kind] for kind in ("vote", "picture")) / meter.requests["vote"]
            print(f"{name:11}a vote with its pictures: {1000 * trial:.3f} ms of CPU", flush=True)
            if name == "postgresql":
                print(f"{name:11}PostgreSQL itself, whole sessions: {beside:.3f} ms a vote", flush=True)
            app.config["STORE"].close()
            if profiled:
                pstats.Stats(meter.profile).sort_stats("tottime").print_stats(40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--voters", type=int, default=40)
    parser.add_argument("--profile", default="", metavar="KIND", help="vote, picture, page …")
    options = parser.parse_args()
    print("database   request    number   SQL/req   ms CPU")
    for name in options.databases:
        measure(name, options.voters, options.profile)


if __name__ == "__main__":
    main()
