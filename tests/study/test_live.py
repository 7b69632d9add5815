import math
import time
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from study import live
from study.live import Live


class Made:
    """Counts how often it was made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> int:
        self.times += 1
        return self.times


def test_what_is_quick_is_made_again_when_there_is_something_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "QUICK", math.inf)
    looks, make = Live(), Made()
    assert [looks.look("a", mark, make).value for mark in (1, 1, 2, 2, 1)] == [1, 1, 2, 2, 3]
    assert looks.look("b", 1, make).value == 4


def test_what_takes_long_rests_ten_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, make = Live(), Made()
    clock = SimpleNamespace(now=1000.0, time=lambda: clock.now)
    clock.perf_counter = lambda: 5.0 * make.times  # five seconds each
    monkeypatch.setattr(live, "time", clock)
    assert looks.look("a", 1, make).value == 1
    for after, value in ((0.0, 1), (49.0, 1), (51.0, 2)):
        clock.now = 1000 + after
        assert looks.look("a", 2 + after, make).value == value


def test_who_asks_meanwhile_gets_the_one_before() -> None:
    looks, began, go = Live(), Event(), Event()

    def slow() -> str:
        began.set()
        go.wait(60)
        return "new"

    looks.look("a", 1, lambda: "old")
    found: list[Any] = []
    thread = Thread(target=lambda: found.append(looks.look("a", 2, slow).value))
    thread.start()
    assert began.wait(60)
    assert looks.look("a", 2, slow).value == "old"
    go.set()
    thread.join()
    assert found == ["new"]
    assert looks.look("a", 2, slow).value == "new"


def test_a_failure_leaves_the_next_one_free() -> None:
    looks = Live()
    with pytest.raises(ZeroDivisionError):
        looks.look("a", 1, lambda: 1 / 0)
    assert looks.look("a", 1, time.time).value > 0
