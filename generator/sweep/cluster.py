"""Shards on many devices, in one machine or many, by Ray. A shard whose node dies goes to another one."""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from generator.methods import Method
from generator.models import BaseModel
from generator.sweep.artist import Artist, Shard, Sheet
from generator.sweep.ledger import SweepError

LOCAL = "local"


def draw_on_ray(
    base: BaseModel,
    methods: Sequence[Method],
    shards: Sequence[Shard],
    address: str,
    say: Callable[[str], None],
) -> Iterator[Sheet]:
    """The shards as they are drawn, in whatever order: an artist on each GPU, or CPU if there is none.

    `address` is that of a cluster ("auto", "ray://…"), or "local" for one on this machine. The model must be
    to be had on every node. Raises SweepError when no node is left.
    """
    started = not ray.is_initialized()
    if started:
        ray.init(
            address=None if address == LOCAL else address, log_to_driver=False, logging_level=logging.ERROR
        )
    try:
        yield from _drawn(base, methods, shards, say)
    finally:
        if started:
            ray.shutdown()


def _drawn(
    base: BaseModel, methods: Sequence[Method], shards: Sequence[Shard], say: Callable[[str], None]
) -> Iterator[Sheet]:
    artists = _artists(base, methods, len(shards))
    waiting, busy = deque(shards), dict[Any, tuple[Any, Shard]]()
    holds: dict[Any, str] = {}
    idle = list(artists)
    while waiting or busy:
        while idle and waiting:
            artist = idle.pop()
            shard = _next(waiting, holds.get(artist), set(holds.values()))
            holds[artist] = shard.method
            busy[artist.draw.remote(shard)] = (artist, shard)
        if not busy:
            raise SweepError("no node is left; what is recorded is kept: give the same command again")
        (ready, *_), _ = ray.wait(list(busy))
        artist, shard = busy.pop(ready)
        try:
            sheet = ray.get(ready)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:  # the node, the process or the object is gone
            waiting.appendleft(shard)
            if isinstance(error, RayActorError):
                say(f"a node is lost; {len(shard.missing)} pictures of {shard.method} go to another one")
                holds.pop(artist, None)
                continue
            idle.append(artist)
            continue
        idle.append(artist)
        yield sheet


def _artists(base: BaseModel, methods: Sequence[Method], most: int) -> list[Any]:
    resources = ray.cluster_resources()
    kind = "GPU" if resources.get("GPU") else "CPU"
    count = max(1, min(most, int(resources.get(kind, 0))))
    options: dict[str, Any] = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
    texts = Path(tempfile.gettempdir()) / f"pairstudy-texts-{ray.get_runtime_context().get_job_id()}"
    remote = ray.remote(Artist)
    return [remote.options(**options).remote(base, methods, texts) for _ in range(count)]


def _next(waiting: deque[Shard], held: str | None, taken: set[str]) -> Shard:
    """A shard of the method that an artist holds, else of one that nobody holds, else the first."""
    for fits in (lambda shard: shard.method == held, lambda shard: shard.method not in taken):
        for shard in waiting:
            if fits(shard):
                waiting.remove(shard)
                return shard
    return waiting.popleft()
