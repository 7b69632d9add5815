"""Workers of `study serve`: each has its share of the voters, and one that dies is replaced."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest

from study.server import SOCKET_EACH, ServerError, listen

PROGRAM = """
import gc, os
from flask import Flask
from study.server import Server, address_of, listen

def make_app():
    app = Flask("pids")
    app.add_url_rule("/", view_func=lambda: {"pid": os.getpid(), "frozen": gc.get_freeze_count()})
    return app

bound = listen("127.0.0.1", 0)
address = address_of(bound)
Server(make_app, bound, 2, lambda: print(address, flush=True)).run()
"""


@pytest.fixture
def address() -> Iterator[str]:
    """A server with two workers whose page tells which of them answers."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


def ask(address: str, what: str = "pid") -> int:
    """The worker that answers on a new connection, or what else it tells."""
    with urllib.request.urlopen(address, timeout=60) as page:  # noqa: S310 - http
        return int(json.load(page)[what])


@pytest.mark.skipif(not SOCKET_EACH, reason="only Linux deals connections out")
def test_workers_share_the_connections_evenly(address: str) -> None:
    counts = Counter(ask(address) for _ in range(80))
    assert len(counts) == 2
    assert min(counts.values()) >= 16  # by chance in one of 10⁷ runs


def test_a_worker_that_dies_is_replaced(address: str) -> None:
    first = ask(address)
    os.kill(first, signal.SIGKILL)
    after = {ask(address) for _ in range(40)}  # nobody is turned away meanwhile
    assert first not in after
    assert len(after) <= 2


def test_the_garbage_collector_leaves_alone_what_a_worker_loaded(address: str) -> None:
    assert ask(address, "frozen") > 10_000


def test_a_port_in_use_is_told_also_of_our_own_servers() -> None:
    with listen("127.0.0.1", 0) as one, pytest.raises(ServerError, match="in use"):
        listen("127.0.0.1", one.getsockname()[1])
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServerError, match="in use"):
            listen("127.0.0.1", other.getsockname()[1])
