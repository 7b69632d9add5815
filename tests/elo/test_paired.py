import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components

from elo.counts import count, from_wins
from elo.paired import NoMaximum, elo_scale, fit_bradley_terry, fit_rounds, half_wins, strongly_connected
from elo.votes import read_votes


def table(wins, ties=None, names="abcdefgh"):
    return from_wins(names[: len(wins)], wins, ties)


@st.composite
def counts(draw, fewest=2, most=6):
    m = draw(st.integers(fewest, most))
    wins = draw(arrays(np.int64, (m, m), elements=st.integers(0, 5)))
    ties = np.triu(draw(arrays(np.int64, (m, m), elements=st.integers(0, 3))), 1)
    np.fill_diagonal(wins, 0)
    return table(wins, ties + ties.T)


def has_maximum(counts):
    return connected_components(half_wins(counts) > 0, directed=True, connection="strong")[0] == 1


def likelihood(theta, wins):
    """Obvious loop: Σ w_ij ln P(i preferred to j)."""
    return sum(
        wins[i, j] * -np.logaddexp(0, theta[j] - theta[i])
        for i in range(len(wins))
        for j in range(len(wins))
        if i != j
    )


@pytest.mark.parametrize("name", ["food", "simple", "quant"])
def test_golden(golden, name):
    case, frame = golden(name)
    counted = count(read_votes(frame))
    np.testing.assert_array_equal(counted.wins, case["wins"])
    np.testing.assert_array_equal(counted.ties, case["ties"])
    fit = fit_bradley_terry(counted)
    expected = case["bradley_terry_ties_half"]
    np.testing.assert_allclose(
        fit.log_strength, [expected["log_strength_mean0"][n] for n in fit.names], rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(
        elo_scale(fit.log_strength, fit.names),
        [expected["elo_scale_mean1000"][n] for n in fit.names],
        rtol=0,
        atol=1e-6,
    )
    assert fit.gradient < 1e-12


def test_tiny_has_no_maximum_and_says_who(golden):
    _, frame = golden("tiny")
    with pytest.raises(NoMaximum) as caught:
        fit_bradley_terry(count(read_votes(frame)))
    assert caught.value.reasons == [
        "burger never won or tied against the others: no finite rating is low enough.",
        "pizza, sushi never lost or tied against the others: no finite rating is high enough.",
    ]


def test_disconnected_groups_are_named():
    with pytest.raises(NoMaximum, match=r"Never compared.*: \{a, b\}; \{c, d\}\. No common scale"):
        fit_bradley_terry(table([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]]))


def test_a_full_ranking_is_separable():
    with pytest.raises(NoMaximum) as caught:
        fit_bradley_terry(table([[0, 1, 1], [0, 0, 1], [0, 0, 0]]))
    assert [reason.split()[0] for reason in caught.value.reasons] == ["a", "c"]


@settings(max_examples=60, deadline=None)
@given(counts())
def test_agrees_with_a_plain_optimiser_or_refuses(counted):
    wins = half_wins(counted)
    if not has_maximum(counted):
        with pytest.raises(NoMaximum):
            fit_bradley_terry(counted)
        return
    theta = fit_bradley_terry(counted).log_strength
    plain = minimize(
        lambda x: -likelihood(x, wins), np.zeros(len(wins)), method="BFGS", options={"gtol": 1e-7}
    )
    assert likelihood(theta, wins) >= -plain.fun - 1e-9
    np.testing.assert_allclose(theta, plain.x - plain.x.mean(), atol=2e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(counts(fewest=5, most=5), min_size=1, max_size=8))
def test_a_batch_is_each_fit_alone(tables):
    wins = np.array([half_wins(counted) for counted in tables])
    assert strongly_connected(wins).tolist() == [has_maximum(counted) for counted in tables]
    theta = fit_rounds(wins, np.arange(5.0))
    for row, counted in zip(theta, tables, strict=True):
        if has_maximum(counted):
            np.testing.assert_allclose(row, fit_bradley_terry(counted).log_strength, atol=1e-9)
        else:
            assert np.isnan(row).all()


@settings(max_examples=30, deadline=None)
@given(counts().filter(has_maximum), st.randoms())
def test_invariances(counted, random):
    theta = fit_bradley_terry(counted).log_strength
    order = list(range(len(theta)))
    random.shuffle(order)
    shuffled = table(counted.wins[np.ix_(order, order)], counted.ties[np.ix_(order, order)])
    np.testing.assert_allclose(fit_bradley_terry(shuffled).log_strength, theta[order], atol=1e-9)
    doubled = table(2 * counted.wins, 2 * counted.ties)
    np.testing.assert_allclose(fit_bradley_terry(doubled).log_strength, theta, atol=1e-9)
    mirrored = table(counted.wins.T, counted.ties)
    np.testing.assert_allclose(fit_bradley_terry(mirrored).log_strength, -theta, atol=1e-9)


def test_two_methods_have_a_closed_form():
    fit = fit_bradley_terry(table([[0, 70], [30, 0]]))
    assert fit.log_strength[0] - fit.log_strength[1] == pytest.approx(np.log(7 / 3), abs=1e-12)


def test_a_long_chain_and_lopsided_counts_are_solved():
    """Where others stop too early: 40 methods in a row, each winning 3 of 4 against the next (gap ln 3)."""
    chain = np.diag([3] * 39, 1) + np.diag([1] * 39, -1)
    theta = fit_bradley_terry(from_wins((str(i) for i in range(40)), chain)).log_strength
    np.testing.assert_allclose(theta[:-1] - theta[1:], np.log(3), atol=1e-9)
    steep = np.diag([10**6] * 9, 1) + np.diag([1] * 9, -1)
    theta = fit_bradley_terry(from_wins((str(i) for i in range(10)), steep)).log_strength
    np.testing.assert_allclose(theta[:-1] - theta[1:], np.log(10**6), rtol=1e-6)


def test_elo_scale_and_anchor():
    theta = np.array([[0.0, np.log(10)], [0.5, 0.5]])
    np.testing.assert_allclose(elo_scale(theta, ("a", "b")), [[800, 1200], [1000, 1000]])
    np.testing.assert_allclose(elo_scale(theta, ("a", "b"), anchor={"a": 1000}), [[1000, 1400], [1000, 1000]])
    np.testing.assert_allclose(elo_scale(theta, ("a", "b"), base=0, scale=100)[0], [-50, 50])
