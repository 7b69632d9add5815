"""The counts of requests, against the memory storage of `limits` itself."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

from study import windows
from study.windows import Windows


class Clock:
    now = 1e9

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(windows, "time", clock)
    return clock


def test_a_window_ends_and_begins_again(clock: Clock) -> None:
    limiter = FixedWindowRateLimiter(storage_from_string("windows://"))
    three = parse("3 per minute")
    assert [limiter.hit(three, "ada") for _ in range(5)] == [True] * 3 + [False] * 2
    assert limiter.hit(three, "bob")
    assert not limiter.test(three, "ada")
    assert limiter.get_window_stats(three, "ada").reset_time == clock.now + 60
    clock.now += 60
    assert limiter.test(three, "ada")
    assert limiter.hit(three, "ada")


def test_what_has_ended_is_forgotten_without_a_thread(clock: Clock) -> None:
    storage, threads = Windows(), set(threading.enumerate())
    for number in range(1000):
        storage.incr(f"voter {number}", 60)
    assert set(threading.enumerate()) <= threads
    clock.now += 61
    storage.incr("somebody else", 60)
    assert storage.reset() == 1


def test_nothing_is_lost_under_threads() -> None:
    storage = Windows()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.incr("all", 600), range(4000)))
    assert storage.get("all") == 4000
    storage.clear("all")
    assert storage.get("all") == 0


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_it_counts_as_the_memory_of_limits_does(keys: list[str]) -> None:
    ours, theirs = (FixedWindowRateLimiter(storage_from_string(uri)) for uri in ("windows://", "memory://"))
    limit = parse("4 per hour")
    for key in keys:
        assert ours.hit(limit, key) == theirs.hit(limit, key)
