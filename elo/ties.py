"""Three ways to speak of ties: half wins, Davidson, Rao–Kupper.

Each gives the log-probability ℓ of an outcome by x = θ_i − θ_j (what i has over j) and a tie parameter
c, and its slopes. With π = e^θ:

    half wins   P(i over j) = σ(x); a tie is half a win for each (Bradley and Terry, Biometrika 39, 1952)
    Davidson    P(i over j) = π_i / (π_i + π_j + ν √(π_i π_j)),  P(tie) = ν √(π_i π_j) / (…),  c = ln ν
                (Davidson, J. Amer. Statist. Assoc. 65, 1970)
    Rao–Kupper  P(i over j) = π_i / (π_i + ϑ π_j),  P(tie) = (ϑ² − 1) π_i π_j / ((π_i + ϑ π_j)(π_j + ϑ π_i)),
                c = ln ϑ > 0  (Rao and Kupper, J. Amer. Statist. Assoc. 62, 1967)

ℓ is concave in (x, c) in all of them, so that one Newton solver serves all (`elo.paired`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Slopes(NamedTuple):
    """ℓ_x, ℓ_c and −ℓ_xx, −ℓ_xc, −ℓ_cc; those by c are None where there is no c."""

    x: np.ndarray
    c: Any
    xx: np.ndarray
    xc: Any
    cc: Any


@dataclass(frozen=True)
class TieModel:
    """A model of ties.

    win, tie       slopes of ln P(i over j) and of ln P(tie) by (x, c); tie None: half wins
    log_win, …     these logarithms themselves
    start          share of ties → c, as if all methods were equal
    parameter      c → the parameter of the paper (ν, ϑ), which is called `symbol`
    bound          (c, change of c) → what c adds to the bound on |φ‴| / φ″ along the step, and the longest
                   step (as a share of the change) for which that holds
    """

    name: str
    told: str
    symbol: str
    win: Callable[[np.ndarray, np.ndarray], Slopes]
    tie: Callable[[np.ndarray, np.ndarray], Slopes] | None
    log_win: Callable[[np.ndarray, np.ndarray], np.ndarray]
    log_tie: Callable[[np.ndarray, np.ndarray], np.ndarray]
    start: Callable[[np.ndarray], np.ndarray]
    parameter: Callable[[float], float]
    bound: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−x), which cannot overflow."""
    return 0.5 + 0.5 * np.tanh(x / 2)


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    """ln σ(x)."""
    return -np.logaddexp(0, -x)


def _bt_win(x: np.ndarray, _: np.ndarray) -> Slopes:
    q = sigmoid(-x)
    return Slopes(q, None, q - q * q, None, None)


def _davidson(x: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, Slopes]:
    """p − q and t of P = (p, q, t), and the second slopes, which all outcomes share."""
    top = np.maximum(np.abs(x) / 2, c)
    p, q, t = np.exp(x / 2 - top), np.exp(-x / 2 - top), np.exp(c - top)
    total = p + q + t
    p, q, t = p / total, q / total, t / total
    e = p - q
    return e, t, Slopes(e, t, (p + q - e * e) / 4, -t * e / 2, t * (1 - t))


def _davidson_win(x: np.ndarray, c: np.ndarray) -> Slopes:
    e, t, second = _davidson(x, c)
    return Slopes((1 - e) / 2, -t, *second[2:])


def _davidson_tie(x: np.ndarray, c: np.ndarray) -> Slopes:
    e, t, second = _davidson(x, c)
    return Slopes(-e / 2, 1 - t, *second[2:])


def _davidson_log_total(x: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.logaddexp(np.logaddexp(x / 2, -x / 2), c)


def _rao_kupper_win(x: np.ndarray, c: np.ndarray) -> Slopes:
    p = sigmoid(x - c)
    v = p * (1 - p)
    return Slopes(1 - p, p - 1, v, -v, v)


def _rao_kupper_tie(x: np.ndarray, c: np.ndarray) -> Slopes:
    # P(tie) = σ(x + c) σ(c − x) (1 − e^−2c)
    a, b = sigmoid(-x - c), sigmoid(x - c)
    va, vb = a * (1 - a), b * (1 - b)
    growth = 1 / np.expm1(2 * c)
    return Slopes(a - b, a + b + 2 * growth, va + vb, va - vb, va + vb + 4 * growth * (1 + growth))


def _davidson_bound(c: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # ℓ is a log-partition: |φ‴| ≤ φ″ times the range of the change among x/2, −x/2 and c.
    return np.abs(change), np.ones_like(c)


def _rao_kupper_bound(c: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The logistic terms add |change|; ln(1 − e^−2c) has |f‴| = 2 coth(c) f″, and coth(c) ≤ 1 + 2/c₀
    # while c stays above half of its value c₀ at the start of the step.
    size = np.abs(change)
    return size * (3 + 4 / c), 0.5 * c / np.maximum(size, 1e-300)


def _nothing(c: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros_like(c), np.ones_like(c)


TIE_MODELS = {
    model.name: model
    for model in (
        TieModel(
            "bradley-terry",
            "half a win for each side",
            "",
            _bt_win,
            None,
            lambda x, c: log_sigmoid(x),
            lambda x, c: (log_sigmoid(x) + log_sigmoid(-x)) / 2,
            lambda share: 0 * share,
            lambda c: 0.0,
            _nothing,
        ),
        TieModel(
            "davidson",
            "an outcome of its own (Davidson)",
            "ν",
            _davidson_win,
            _davidson_tie,
            lambda x, c: x / 2 - _davidson_log_total(x, c),
            lambda x, c: c - _davidson_log_total(x, c),
            lambda share: np.log(2 * share / (1 - share)),
            lambda c: float(np.exp(c)),
            _davidson_bound,
        ),
        TieModel(
            "rao-kupper",
            "an outcome of its own (Rao–Kupper)",
            "ϑ",
            _rao_kupper_win,
            _rao_kupper_tie,
            lambda x, c: log_sigmoid(x - c),
            lambda x, c: log_sigmoid(x + c) + log_sigmoid(c - x) + np.log(-np.expm1(-2 * c)),
            lambda share: 2 * np.arctanh(share),
            lambda c: float(np.exp(c)),
            _rao_kupper_bound,
        ),
    )
}
