"""`study serve`: gunicorn inside this process, and the words that greet the researcher."""

import gc
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

THREADS = 8
SWITCH_SECONDS = 0.0005
BACKLOG = 512
# Linux deals connections out evenly among sockets of one address. Workers that share a socket do not share
# the work: the one that wakes first takes whatever there is, and keeps it.
SOCKET_EACH = sys.platform == "linux"


class ServerError(RuntimeError):
    """A server that cannot start; one line."""


def listen(host: str, port: int) -> socket.socket:
    """Bind the address before anything else happens, so that a port in use is told at once.

    Raises
    ------
    ServerError
        If the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port:  # a shared one would join another server's
            _bind(family, (host, port), shared=False).close()
        return _bind(family, (host, port))
    except OSError as error:
        raise ServerError(f"{host}:{port}: {error.strerror}; choose another with --port") from None


def _bind(family: int, address: Any, shared: bool = SOCKET_EACH) -> socket.socket:
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(address)
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    return server


class Server(BaseApplication):
    """Gunicorn with threads, on a socket that is bound already."""

    def __init__(
        self,
        make_app: Callable[[], Flask],
        bound: socket.socket,
        workers: int,
        greet: Callable[[], None],
    ) -> None:
        """`make_app` runs in each worker; `greet` once, when the server listens."""
        self.make_app, self.workers, self.greet = make_app, workers, greet
        more = workers - 1 if SOCKET_EACH else 0
        self.sockets = [bound, *(_bind(bound.family, bound.getsockname()) for _ in range(more))]
        super().__init__()

    def load_config(self) -> None:
        """Settings that are ours to choose."""
        settings = {
            "bind": [f"fd://{one.fileno()}" for one in self.sockets],
            "pre_fork": _give_socket,
            "workers": self.workers,
            "worker_class": "gthread",
            "threads": THREADS,
            "loglevel": "warning",
            "graceful_timeout": 10,
            "when_ready": lambda _arbiter: self.greet(),
            "control_socket_disable": True,  # newer versions open one; nobody asked for it
            "forwarded_allow_ips": "",  # study.security decides which proxies are believed
        }
        for name, value in settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        """Make the application, in a worker."""
        # A vote is a dozen short waits for the database; after each its thread asks for the interpreter,
        # which a thread that computes would keep for 5 ms.
        sys.setswitchinterval(SWITCH_SECONDS)
        app = self.make_app()
        # What is there now stays: the collector, which stops all threads, need not walk through it each time.
        gc.collect()
        gc.freeze()
        return app


def _give_socket(arbiter: Any, worker: Any) -> None:
    """Give a worker the socket that no other one has: the next one, or that of the worker it replaces."""
    taken = {other.place for other in arbiter.WORKERS.values()}
    worker.place = next(place for place in count() if place not in taken)
    worker.sockets = [arbiter.LISTENERS[worker.place % len(arbiter.LISTENERS)]]


def greeting(folder: Path, title: str, address: str, password: str, environ: Mapping[str, str]) -> str:
    """What a researcher needs now: where voters go, how to sign in, what to type next."""
    votes, plot = _near(folder / "votes.parquet"), _near(folder / "pareto.svg")
    sizes, here = _near(folder / "gallery.json"), _near(folder)
    commands = [
        [_program("study", environ), "export", "--study", here, "-o", votes],
        [_program("elo", environ), "compute", votes, "--sizes", sizes],
        [_program("elo", environ), "plot", "pareto", votes, "--sizes", sizes, "-o", plot],
    ]
    lines = [
        "",
        f"  {title}",
        "",
        f"  Voters    {address}/",
        f"  Admin     {address}/admin/   one-time password: {password}",
        "",
        "  After some votes, in another terminal:",
        *(f"    {shlex.join(command)}" for command in commands),
        "",
        "  Ctrl-C stops the server; votes are safe.",
        "",
    ]
    return "\n".join(lines)


def _program(name: str, environ: Mapping[str, str]) -> str:
    """The command as the reader can type it: its bare name if the shell would find it."""
    beside = Path(sys.argv[0]).absolute().with_name(name)
    found = shutil.which(name, path=environ.get("PATH"))
    return _near(beside) if beside.exists() and found is None else name


def _near(path: Path) -> str:
    """A path as seen from here, if it is below."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def address_of(bound: socket.socket) -> str:
    """The http address that a browser on this machine can open."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
