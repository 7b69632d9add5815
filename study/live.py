"""What takes long to work out from the votes is kept until they change, and then not made all the time."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from study.schema import Decision, Event

QUICK = 1.0  # seconds: what takes less is made again as soon as there is a new vote
REST = 10  # what takes longer rests for so many times as long, so that voters are served meanwhile


@dataclass(frozen=True)
class Look:
    """A value, what the votes were like when it was made (`mark`), when that was, and how long it took."""

    value: Any
    mark: Hashable
    at: float
    took: float

    def still_good(self, mark: Hashable, now: float) -> bool:
        """Whether it need not be made again."""
        return mark == self.mark or (self.took > QUICK and now - self.at < REST * self.took)


class Live:
    """Values by name, of one process. Who asks while one is being made gets the one before it."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._looks: dict[Hashable, Look] = {}
        self._making = Lock()

    def look(self, name: Hashable, mark: Hashable, make: Callable[[], Any]) -> Look:
        """The value of a name, from `make` unless the one before is still good."""
        last = self._looks.get(name)
        if last is not None and last.still_good(mark, time.time()):
            return last
        mine = self._making.acquire(blocking=last is None)
        if last is not None and not mine:
            return last
        try:
            last = self._looks.get(name)
            if last is None or not last.still_good(mark, time.time()):
                start = time.perf_counter()
                value = make()
                last = self._looks[name] = Look(value, mark, time.time(), time.perf_counter() - start)
            return last
        finally:
            self._making.release()


def mark_of(session: Session) -> tuple[int, int]:
    """The last event and the last decision: while both stay, so does all that is made of votes."""
    event = session.scalar(select(func.max(Event.id))) or 0
    return event, session.scalar(select(func.max(Decision.seq))) or 0
