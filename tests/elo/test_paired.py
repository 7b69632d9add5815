import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import approx_fprime, minimize
from scipy.sparse.csgraph import connected_components

from elo import existence
from elo.counts import Counts, count, from_wins, half_wins
from elo.existence import NoMaximum, strongly_connected, why_no_maximum
from elo.paired import cell_scores, elo_scale, fit, fit_bradley_terry, fit_rounds
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
    return connected_components(half_wins(counts.number) > 0, directed=True, connection="strong")[0] == 1


def likelihood(theta, wins):
    """Obvious loop: Σ w_ij ln P(i preferred to j)."""
    return sum(
        wins[i, j] * -np.logaddexp(0, theta[j] - theta[i])
        for i in range(len(wins))
        for j in range(len(wins))
        if i != j
    )


@pytest.mark.parametrize("name", ["food", "simple", "quant"])
@pytest.mark.parametrize("model,symbol,tolerance", [("davidson", "nu", 1e-9), ("rao-kupper", "theta", 1e-6)])
def test_golden_tie_models(golden, name, model, symbol, tolerance):
    case, frame = golden(name)
    expected = case[model.replace("-", "_")]
    found = fit(count(read_votes(frame)), model)
    np.testing.assert_allclose(
        found.log_strength, [expected["log_strength_mean0"][n] for n in found.names], rtol=0, atol=tolerance
    )
    assert found.tie == pytest.approx(expected[symbol], abs=tolerance)
    assert found.gradient < 1e-12


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


@settings(max_examples=60)
@given(counts())
def test_agrees_with_a_plain_optimiser_or_refuses(counted):
    wins = half_wins(counted.number)
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


@settings(max_examples=40)
@given(st.lists(counts(fewest=5, most=5), min_size=1, max_size=8))
def test_a_batch_is_each_fit_alone(tables):
    wins = np.array([half_wins(counted.number) for counted in tables])
    like = next((fit(counted) for counted in tables if has_maximum(counted)), None)
    assert strongly_connected(wins).tolist() == [has_maximum(counted) for counted in tables]
    if like is None:
        return
    theta = fit_rounds(np.array([counted.number for counted in tables]), like)
    for row, counted in zip(theta, tables, strict=True):
        if has_maximum(counted):
            np.testing.assert_allclose(row, fit_bradley_terry(counted).log_strength, atol=1e-9)
        else:
            assert np.isnan(row).all()


@settings(max_examples=30)
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


def cells(draw, m):
    """Votes with sides: (3, m, m) cells."""
    number = draw(arrays(np.int64, (3, m, m), elements=st.integers(0, 4))).astype(float)
    number[:, range(m), range(m)] = 0
    return Counts(tuple("abcdefgh"[:m]), number)


@st.composite
def sided(draw):
    return cells(draw, draw(st.integers(2, 5)))


def probabilities(model, x, c):
    """P(left wins), P(right wins), P(tie) as the papers write them."""
    left, right = math.exp(x), 1.0
    if model == "davidson":
        total = left + right + math.exp(c) * math.sqrt(left * right)
        return left / total, right / total, math.exp(c) * math.sqrt(left * right) / total
    t = math.exp(c)
    win, loss = left / (left + t * right), right / (right + t * left)
    return win, loss, (t * t - 1) * left * right / ((left + t * right) * (right + t * left))


def plain_likelihood(parameters, counts, model, side):
    """Obvious loop over the cells."""
    m, total = len(counts.names), 0.0
    gamma = parameters[-1] if side else 0.0
    for i, j in itertools.permutations(range(m), 2):
        x = parameters[i] - parameters[j] + gamma
        if model == "bradley-terry":
            p = 1 / (1 + math.exp(-x))
            logs = math.log(p), math.log(1 - p), (math.log(p) + math.log(1 - p)) / 2
        else:
            logs = [math.log(max(p, 1e-300)) for p in probabilities(model, x, parameters[m])]
        total += sum(n * log for n, log in zip(counts.number[:, i, j], logs, strict=True))
    return total


@settings(max_examples=80)
@given(sided(), st.sampled_from(["bradley-terry", "davidson", "rao-kupper"]), st.booleans())
def test_every_model_agrees_with_a_plain_optimiser_or_says_why_not(counted, model, side):
    m = len(counted.names)
    has_tie = model != "bradley-terry" and counted.number[2].any()
    try:
        found = fit(counted, model, side=side)
    except NoMaximum as error:
        # There is a direction in which no vote gets less likely: the plain optimiser runs away along it.
        assert error.reasons
        return
    if model != "bradley-terry" and not has_tie:
        assert found.tie == (0 if model == "davidson" else 1)
        model = "bradley-terry"

    def loss(free):
        values = np.concatenate([[0], free])
        if model == "rao-kupper":
            values[m] = math.exp(values[m])  # c > 0
        return -plain_likelihood(values, counted, model, side)

    start = np.zeros(m - 1 + int(has_tie) + side)
    plain = minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    assert found.log_likelihood == pytest.approx(
        plain_likelihood(found.parameters, counted, model, side), abs=1e-9
    )
    assert found.log_likelihood >= -plain.fun - 1e-7
    if abs(plain.fun + found.log_likelihood) < 1e-9 and np.abs(found.parameters).max() < 8:
        theta = np.concatenate([[0], plain.x[: m - 1]])
        np.testing.assert_allclose(found.log_strength, theta - theta.mean(), atol=2e-3)
        if side:
            assert found.side == pytest.approx(plain.x[-1], abs=2e-3)


@settings(max_examples=40)
@given(sided(), st.sampled_from(["bradley-terry", "davidson", "rao-kupper"]))
def test_the_short_cut_to_existence_agrees_with_the_linear_programme(counted, model):
    number = counted.number
    if why_no_maximum(counted.names, half_wins(counted.number)):
        return
    for tie, side in ((True, False), (True, True), (False, True)):
        if tie and not number[2].any():
            continue
        rows = existence._directions(number, tie=tie, side=side)
        told_apart = np.linalg.matrix_rank(rows) == rows.shape[1] - 1
        if existence._plainly_there(number, tie=tie, side=side):
            assert told_apart
            assert not existence._separable(rows)


def test_cell_scores_are_the_slopes_of_the_likelihood():
    rng = np.random.default_rng(1)
    counted = Counts(tuple("abc"), rng.integers(1, 6, (3, 3, 3)) * (1 - np.eye(3)))
    for model, side in itertools.product(["bradley-terry", "davidson", "rao-kupper"], [False, True]):
        found = fit(counted, model, side=side)
        scores = cell_scores(found)
        for outcome, i, j in zip(*np.nonzero(counted.number), strict=True):
            one = np.zeros_like(counted.number)
            one[outcome, i, j] = 1
            slope = approx_fprime(
                found.parameters, plain_likelihood, 1e-7, Counts(counted.names, one), model, side
            )
            np.testing.assert_allclose(scores[outcome, i, j], slope, atol=1e-5)
        # at the maximum they cancel over the votes
        np.testing.assert_allclose(np.tensordot(counted.number, scores, 3), 0, atol=1e-8)


def test_side_effect_is_found_and_taken_out():
    """Left images win e^γ times more often than they should; ratings do not move, though sides are uneven."""
    theta, gamma, n = np.array([0.4, 0.1, -0.5]), 0.3, 10_000
    number = np.zeros((3, 3, 3))
    for i, j in itertools.permutations(range(3), 2):
        shown = n if i < j else n // 4
        p = 1 / (1 + math.exp(-(theta[i] - theta[j] + gamma)))
        number[0, i, j], number[1, i, j] = shown * p, shown * (1 - p)
    found = fit(Counts(tuple("abc"), number), side=True)
    assert found.side == pytest.approx(gamma, abs=1e-9)
    np.testing.assert_allclose(found.log_strength, theta, atol=1e-9)


def test_prior_makes_separable_finite_but_never_joins_what_never_met():
    found = fit(table([[0, 1, 1], [0, 0, 1], [0, 0, 0]]), prior=0.5)
    assert (np.diff(found.log_strength) < 0).all()
    # One pair, one vote and half a vote of prior: odds 1.25 : 0.25.
    two = fit(table([[0, 1], [0, 0]]), prior=0.5)
    assert two.log_strength[0] - two.log_strength[1] == pytest.approx(math.log(5), abs=1e-12)
    with pytest.raises(NoMaximum, match="No common scale"):
        fit(table([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]]), prior=0.5)


def test_why_tie_and_side_parameters_have_no_maximum():
    # a over b, b ties c, c ties a: wins never contradict one another more often than ties do.
    circle = from_wins("abc", [[0, 1, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    assert fit(circle).gradient < 1e-9
    for model in ("davidson", "rao-kupper"):
        with pytest.raises(NoMaximum, match="No finite tie parameter"):
            fit(circle, model)
    shown_one_way = from_wins("abc", [[0, 3, 2], [1, 0, 2], [1, 1, 0]])
    one_tree = Counts(("a", "b"), shown_one_way.number[:, :2, :2].copy())
    one_tree.number[0, 1, 0], one_tree.number[1, 0, 1] = 0, 1
    with pytest.raises(NoMaximum, match="cannot be told from the methods"):
        fit(one_tree, side=True)


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
