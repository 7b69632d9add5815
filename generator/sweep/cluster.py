"""Shards on many devices, in one machine or many, by Ray. A shard whose node dies goes to another one."""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from generator.methods import Method
from generator.models import BaseModel
from generator.sweep.artist import Artist, Shard, Sheet
from generator.sweep.conditions import Conditions
from generator.sweep.ledger import SweepError

LOCAL = "local"


def draw_on_ray(
    base: BaseModel,
    methods: Sequence[Method],
    shards: Sequence[Shard],
    address: str,
    texts: Path,
    say: Callable[[str], None],
) -> Iterator[Sheet]:
    """The shards as they are drawn, in whatever order: an artist on each GPU, or CPU if there is none.

    First the texts of each batch are encoded, once for all methods, and kept in the folder `texts`. `address`
    is that of a cluster ("auto", "ray://…"), or "local" for one on this machine. The model must be to be had
    on every node. Raises SweepError if there is no such cluster, and when no node is left.
    """
    if not shards:
        return
    started = not ray.is_initialized()
    if started:
        _connect(address)
    try:
        crew, conditions = Crew(base, methods, shards, say), Conditions(texts)
        batches = {shard.prompts: shard for shard in shards if not conditions.kept(shard.prompts)}
        for encoded in crew.work(batches.values(), crew.encode):
            for name, data in encoded.items():
                conditions.keep(name, data)
        yield from crew.work(shards, lambda artist, shard: crew.draw(artist, shard, conditions))
    finally:
        if started:
            ray.shutdown()


def _connect(address: str) -> None:
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    try:
        if colon:  # asked first, since Ray itself would go on trying for a long time
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            address=None if address == LOCAL else address, log_to_driver=False, logging_level=logging.ERROR
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise SweepError(f"--ray {address}: no cluster to be had: {str(error).splitlines()[0]}") from error


class Crew:
    """The artists of a cluster, each of which holds the pipeline of one method; fewer when nodes are lost."""

    def __init__(
        self,
        base: BaseModel,
        methods: Sequence[Method],
        shards: Sequence[Shard],
        say: Callable[[str], None],
    ) -> None:
        """One on each device, but no more than there are shards; `say` tells of lost ones."""
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") else "CPU"
        count = max(1, min(len(shards), int(resources.get(kind, 0))))
        options: dict[str, Any] = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        artist, wanted = ray.remote(Artist), list(dict.fromkeys(shard.method for shard in shards))
        self.holds = {
            artist.options(**options).remote(base, methods, None): wanted[i % len(wanted)]
            for i in range(count)
        }
        self.say = say

    def work(self, shards: Iterable[Shard], begin: Callable[[Any, Shard], Any]) -> Iterator[Any]:
        """What `begin(artist, shard)` promises, for all shards, as it comes. SweepError if nobody is left."""
        waiting, busy, idle = deque(shards), dict[Any, tuple[Any, Shard]](), list(self.holds)
        reason = "all were lost before"
        while waiting or busy:
            while idle and waiting:
                artist = idle.pop()
                shard = self._next(waiting, self.holds[artist])
                busy[begin(artist, shard)] = (artist, shard)
            if not busy:
                raise SweepError(
                    f"no node is left; what is recorded is kept: give the same command again ({reason})"
                )
            (ready, *_), _ = ray.wait(list(busy))
            artist, shard = busy.pop(ready)
            try:
                result = ray.get(ready)
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:  # the node, the process or the object is gone
                waiting.appendleft(shard)
                if isinstance(error, RayActorError):
                    reason = " ".join(str(error).split())
                    self.say(f"a node is lost; its batch of {shard.method} goes to another one")
                    del self.holds[artist]
                    continue
                idle.append(artist)
                continue
            idle.append(artist)
            yield result

    def encode(self, artist: Any, shard: Shard) -> Any:
        """Begin to encode the texts of a shard, with the pipeline that the artist holds."""
        return artist.encode.remote(self.holds[artist], shard.prompts)

    def draw(self, artist: Any, shard: Shard, conditions: Conditions) -> Any:
        """Begin to draw a shard."""
        self.holds[artist] = shard.method
        return artist.draw.remote(shard, conditions.kept(shard.prompts))

    def _next(self, waiting: deque[Shard], held: str) -> Shard:
        """A shard of the method that an artist holds, else of one that nobody holds, else the first."""
        taken = set(self.holds.values())
        for fits in (lambda shard: shard.method == held, lambda shard: shard.method not in taken):
            for shard in waiting:
                if fits(shard):
                    waiting.remove(shard)
                    return shard
        return waiting.popleft()
