"""`study serve`: gunicorn inside this process, and the words that greet the researcher."""

import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from flask import Flask
from gunicorn.app.base import BaseApplication

THREADS = 8


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
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(512)
    except OSError as error:
        server.close()
        raise ServerError(f"{host}:{port}: {error.strerror}; choose another with --port") from None
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
        self.make_app, self.bound, self.workers, self.greet = make_app, bound, workers, greet
        super().__init__()

    def load_config(self) -> None:
        """Settings that are ours to choose."""
        settings = {
            "bind": f"fd://{self.bound.fileno()}",
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
        return self.make_app()


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
