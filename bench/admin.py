"""What a look at the researcher's pages costs: the first one, and the next one after a single further vote.

    python bench/admin.py             # 100,000 votes on SQLite, about 100 MB of temporary files
    python bench/admin.py 1000000

Seconds of processor time in this process. At the end the rating table alone, from votes that the database
counts, as the page has it, beside the same table from all votes read as rows: the one is for the memory, not
for the time. The votes are those of bench/export.py.
"""

import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export import a_study, copy_votes
from flask.testing import FlaskClient

import elo
from study.app import create_app
from study.ballot import Answer, Answers, answer, current
from study.logins import new_password
from study.participants import add_voter
from study.store import Store

PAGES = ("", "voters", "answers", "ratings", "votes.csv")


def spent(act: Callable[[], Any]) -> float:
    """Processor seconds of an act."""
    start = time.process_time()
    act()
    return time.process_time() - start


def signed_in(store: Store, folder: Path) -> FlaskClient:
    """A browser that is signed in."""
    client = create_app({"STUDY": folder, "SECRET_KEY": "a key for benchmarks"}).test_client()
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/admin/login").text)
    if token is None:
        raise SystemExit("the login page has no token")
    client.post("/admin/login", data={"csrf_token": token[1], "password": new_password(store)})
    return client


def vote(store: Store) -> None:
    """One more vote, by somebody new."""
    voter = add_voter(store, "a key for benchmarks")
    if voter is None:
        raise SystemExit("the study lets nobody in")
    trial = current(store, voter.id).trials[0].trial_id
    answer(store, voter.id, trial, Answers("one-more-vote-of-all", (Answer("preference", "left", 900),)))


def main(number: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = a_study(folder)
        copy_votes(store, number)
        client = signed_in(store, folder)
        first = {page: spent(lambda page=page: client.get(f"/admin/{page}").data) for page in PAGES}
        vote(store)
        again = {page: spent(lambda page=page: client.get(f"/admin/{page}").data) for page in PAGES}
        url = store.engine.url.render_as_string()
        counts = spent(lambda: elo.compute(elo.read_tally(url), bootstrap=200))
        rows = spent(lambda: elo.compute(elo.read_votes(url), bootstrap=200))
        print(f"{number} votes, seconds of processor time\n{'page':12}{'first':>8}{'again':>8}")
        for page in PAGES:
            print(f"{page or 'overview':12}{first[page]:8.2f}{again[page]:8.2f}")
        print(f"a table from counts {counts:.2f}, from rows {rows:.2f}: ratio {counts / rows:.2f}")
        store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
