"""How often each asked within a minute: what `limits` counts in, in the memory of a process.

The memory that comes with it starts a thread for sweeping, up to a hundred times a second, which costs more
than all else that a picture takes. Here whoever comes first after a minute sweeps.
"""

import time
from threading import Lock
from typing import Any

from limits.storage import Storage

SWEEP_SECONDS = 60


class Windows(Storage):
    """Counts that end: key → how many, and the unix time from which it counts from zero again."""

    STORAGE_SCHEME = ["windows"]  # noqa: RUF012 - so in the base class; as a URI it is windows://

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        """The arguments are those that `limits` gives; none is needed."""
        super().__init__(uri, wrap_exceptions, **options)
        self._lock = Lock()
        self._counts: dict[str, tuple[int, float]] = {}
        self._swept = 0.0

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What may be raised here: nothing."""
        return ()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count, in a window of `expiry` seconds from the first time; returns how many there are."""
        now = time.time()
        with self._lock:
            if now >= self._swept + SWEEP_SECONDS:
                self._counts = {key: count for key, count in self._counts.items() if count[1] > now}
                self._swept = now
            number, end = self._counts.get(key, (0, 0.0))
            if end <= now:
                number, end = 0, now + expiry
            self._counts[key] = number + amount, end
            return number + amount

    def get(self, key: str) -> int:
        """How many there are in the window that lasts."""
        number, end = self._counts.get(key, (0, 0.0))
        return number if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends, in unix seconds; now if there is none."""
        return self._counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forget all counts; returns how many there were."""
        number, self._counts = len(self._counts), {}
        return number

    def clear(self, key: str) -> None:
        """Forget one count."""
        self._counts.pop(key, None)
