from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sqlalchemy import select, update

from study.schema import Vote, votes_v1
from study.store import Store
from study.timing import EDGES, Timing, bars, share_interval, ticks, timing


def of(times: list[int]) -> Timing:
    """The bins as numpy counts them."""
    number, _ = np.histogram(times, bins=[-inf, *EDGES, inf])
    return Timing({}, tuple(number.tolist()), 0)


def test_bins_have_equal_factors_from_a_tenth_of_a_second_to_a_hundred() -> None:
    assert (EDGES[0], EDGES[10], EDGES[-1]) == (100, 1000, 100_000)
    factors = np.divide(EDGES[1:], EDGES[:-1])
    assert factors == pytest.approx(np.full(30, 10**0.1), rel=0.01)


def test_answers_are_counted_where_they_fall(store: Store, robot: Callable[[], Any]) -> None:
    for side in ("left", "right", "tie"):
        voter = robot()
        for _ in range(12):
            voter.answer(side)
    times = [0, 99, 100, 101, 125, 126, 999, 1000, 1001, 99_999, 100_000, 10**7, 2500, 2500, 2500, None]
    rng = np.random.default_rng(0)
    with store.write() as session:
        ids = session.scalars(select(Vote.vote_id).order_by(Vote.at)).all()
        for vote in ids:
            rt_ms = times.pop() if times else int(rng.lognormal(7.5, 1))
            session.execute(update(Vote).where(Vote.vote_id == vote).values(rt_ms=rt_ms))
    with store.read() as session:
        rows = session.execute(select(votes_v1)).mappings().all()
        found = timing(session, "preference")
        assert found.winners == {"model_a": 12, "model_b": 12, "tie": 12}
        assert (found.untimed, found.timed) == (1, 35)
        assert found.bins == of([row["rt_ms"] for row in rows if row["rt_ms"] is not None]).bins
        pair = ("fp16", "qsched-w4a8")
        theirs = [row for row in rows if {row["model_a"], row["model_b"]} == set(pair)]
        of_pair = timing(session, "preference", pair)
        assert sum(of_pair.winners.values()) == len(theirs) == 12
        assert of_pair.bins == of([row["rt_ms"] for row in theirs if row["rt_ms"] is not None]).bins
        assert timing(session, "another").timed == 0


@given(st.lists(st.integers(100, 99_999), min_size=1, max_size=50), st.sampled_from([0.25, 0.5, 0.75]))
def test_quantiles_are_right_to_the_bin(times: list[int], share: float) -> None:
    found = of(times).quantile(share)
    exact = np.quantile(times, share, method="inverted_cdf")
    assert found is not None
    assert exact / 10**0.101 <= found <= exact * 10**0.101


def test_there_is_no_quantile_of_nothing_and_none_beyond_the_edges() -> None:
    assert of([]).quantile(0.5) is None
    assert of([5, 5, 2000]).quantile(0.5) is None
    assert of([5, 5, 2000]).quantile(0.9) is not None
    assert of([10**6]).quantile(0.5) is None


def test_the_picture() -> None:
    found = bars(of([150, 1500, 1500, 10**6]), 320, 100)
    assert [bar.height for bar in found] == [50, 100, 50]
    assert all(bar.y + bar.height == pytest.approx(100) for bar in found)
    assert [bar.says for bar in found] == ["1: 0.126 to 0.158 s", "2: 1.259 to 1.585 s", "1: 100 s or more"]
    assert {told: x for x, told in ticks(320)}["1 s"] == pytest.approx(110)
    assert found[1].x == pytest.approx(120.5)  # the bin from 10^3.1 ms on


@pytest.mark.parametrize(("k", "n"), [(0, 7), (5, 10), (636, 1268), (3, 3)])
def test_the_interval_is_wilsons(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert share_interval(k, n) == pytest.approx((k / n, expected.low, expected.high))
    assert share_interval(0, 0) is None
