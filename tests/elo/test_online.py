import itertools

import numpy as np
import pandas as pd
import pytest

from elo import online
from elo.counts import count
from elo.online import elo_over_orders, sequential_elo
from elo.votes import read_votes


@pytest.mark.parametrize("name", ["tiny", "food", "simple", "quant"])
def test_golden(golden, name):
    case, frame = golden(name)
    votes = read_votes(frame)
    for settings, expected in case["elo_in_listed_order"]["values"].items():
        k, base, scale = (float(part.split("=")[1]) for part in settings.split(", "))
        elo = sequential_elo(votes, k=k, base=base, scale=scale)
        assert (elo.k, elo.base, elo.scale) == (k, base, scale)
        np.testing.assert_allclose(elo.ratings, [expected[n] for n in elo.names], rtol=0, atol=1e-8)


def test_order_counts_and_follows_tstamp(golden):
    _, frame = golden("quant")
    forward = sequential_elo(read_votes(frame)).ratings
    backward = sequential_elo(read_votes(frame[::-1])).ratings
    assert np.abs(forward - backward).max() > 1
    timed = frame.assign(tstamp=range(len(frame)))
    np.testing.assert_array_equal(sequential_elo(read_votes(timed[::-1])).ratings, forward)


def test_the_sum_is_kept_and_nothing_overflows(five):
    for k, scale in itertools.product((1, 32, 1e6), (1e-3, 400)):
        ratings = sequential_elo(read_votes(five), k=k, scale=scale).ratings
        assert np.isfinite(ratings).all()
        assert ratings.sum() == pytest.approx(5000, rel=1e-6 * k)


@pytest.mark.parametrize("name", ["food", "quant"])
def test_golden_over_random_orders(golden, name):
    case, frame = golden(name)
    spread = elo_over_orders(count(read_votes(frame)), orders=2000)
    expected = case["elo_mean_over_4000_random_orders_K32"]
    for i, method in enumerate(spread.names):
        want = expected[method]
        assert spread.mean[i] == pytest.approx(want["mean"], abs=4 * np.hypot(1, 2**0.5) * want["mean_se"])
        assert spread.sd[i] == pytest.approx(want["sd"], rel=0.08)


def test_orders_side_by_side_are_each_order_alone(five):
    counts = count(read_votes(five[:60]))
    expanded = [
        {"left": counts.names[i], "right": counts.names[j], "winner": ("left", "right", "tie")[w]}
        for (w, i, j), number in np.ndenumerate(counts.number)
        for _ in range(int(number))
    ]
    drawn = np.random.default_rng(3).permutation(60)
    alone = sequential_elo(read_votes(pd.DataFrame(expanded).iloc[drawn]))
    spread = elo_over_orders(counts, orders=1, seed=3)
    np.testing.assert_allclose(spread.mean, alone.ratings, atol=1e-9)
    assert (spread.sd == 0).all()


def plain_elo(votes, k, scale):
    ratings = [1000.0] * len(votes.names)
    for i, j, won in zip(votes.a, votes.b, votes.winner, strict=True):
        expected = 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / scale))
        change = k * ((1, 0, 0.5)[won] - expected)
        ratings[i] += change
        ratings[j] -= change
    return ratings


def random_votes(n, names, rng):
    a = rng.integers(0, len(names), n)
    b = (a + rng.integers(1, len(names), n)) % len(names)
    winner = rng.choice(["left", "right", "tie"], n, p=[0.5, 0.3, 0.2])
    return pd.DataFrame({"left": np.array(names)[a], "right": np.array(names)[b], "winner": winner})


@pytest.mark.parametrize("k", [100, 400])
def test_many_votes_side_by_side_are_those_votes_one_by_one(k, monkeypatch):
    monkeypatch.setattr(online, "_one_by_one", unless_few(online._one_by_one))
    votes = read_votes(random_votes(50_000, ["a", "b", "c"], np.random.default_rng(0)))
    found = sequential_elo(votes, k=k).ratings
    np.testing.assert_allclose(found, plain_elo(votes, k, 400), rtol=0, atol=1e-8)


def unless_few(one_by_one):
    def only_the_rest(u, a, b, winner, step, gains):
        assert len(winner) < 2_000
        return one_by_one(u, a, b, winner, step, gains)

    return only_the_rest


def test_methods_that_left_early_keep_what_they_had_then():
    rng = np.random.default_rng(0)
    frames = [random_votes(20_000, names, rng) for names in (["a", "b", "c"], ["c", "d", "e"])]
    votes = read_votes(pd.concat(frames))
    found = sequential_elo(votes, k=400).ratings
    np.testing.assert_allclose(found, plain_elo(votes, 400, 400), rtol=0, atol=1e-8)
