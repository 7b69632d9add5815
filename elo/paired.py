"""Ratings by maximum likelihood from counts: Bradley–Terry and its kin, one table or a thousand at once.

    P(i preferred to j) = σ(θ_i − θ_j),   σ(x) = 1 / (1 + e^−x)

(Bradley and Terry, Biometrika 39, 1952; Zermelo, Math. Z. 29, 1929), with ties as half wins or as
outcomes (`elo.ties`), and, if asked for, a side effect γ: the image on the left has θ_i + γ. Only
differences of θ mean anything, so θ has mean 0 until it is put on the Elo scale, where 400 points are
odds of 10 : 1.

All models are one problem, which one solver maximises (`elo.newton`); its gradient is checked here.
"""

import math
from dataclasses import dataclass

import numpy as np

from elo.counts import LEFT, RIGHT, TIE, Counts, half_wins
from elo.existence import NoMaximum, strongly_connected, why_no_maximum, why_not_with
from elo.newton import Tables, log_likelihood, maximise, tables
from elo.ties import TIE_MODELS, TieModel

# At the maximum, expected and counted wins of each method agree to this share of its votes.
GRADIENT_TOLERANCE = 1e-9
# Cells of a batch of tables that are fitted at once: an array of (r, m, m) stays below 128 KB, which a
# processor keeps in its cache and malloc hands out again without asking the system.
BATCH_CELLS = 48_000


@dataclass(frozen=True, eq=False)
class Fit:
    """A maximum-likelihood fit.

    log_strength    (m,) θ with mean 0
    tie             the parameter of the tie model (ν, ϑ); None for half wins
    side            γ, what standing on the left adds to θ; None if not fitted
    prior           votes that were added to every pair that met, half a win each
    gradient        the largest |expected − counted wins| / votes at the answer
    votes           what was fitted, without the prior
    parameters      (p,) θ, then c if there is a tie parameter, then γ if there is a side effect
    information     (p, p) −Hessian there (θ up to a constant: singular along (1, …, 1, 0, 0))
    """

    names: tuple[str, ...]
    model: str
    log_strength: np.ndarray
    tie: float | None
    side: float | None
    prior: float
    gradient: float
    votes: Tables
    parameters: np.ndarray
    information: np.ndarray

    @property
    def ties(self) -> TieModel:
        """The tie model in force: without any tie, all are Bradley–Terry."""
        has_tie = len(self.parameters) > len(self.names) + (self.side is not None)
        return TIE_MODELS[self.model if has_tie else "bradley-terry"]

    @property
    def log_likelihood(self) -> float:
        """Of the votes, without the prior."""
        return float(log_likelihood(self.votes, self.parameters[None])[0])


def fit(counts: Counts, model: str = "bradley-terry", *, side: bool = False, prior: float = 0) -> Fit:
    """Maximum-likelihood log-strengths.

    model  "bradley-terry" (ties as half wins), "davidson" or "rao-kupper"
    side   also fit the side effect γ
    prior  votes added to every pair that met, half a win for each: a finite answer exists then wherever
           all methods are compared with one another, at the price of ratings shrunk towards each other

    Raises NoMaximum, naming the methods, where no finite answer exists, and ArithmeticError should
    Newton's method not arrive (the gradient is checked, never assumed).
    """
    ties = TIE_MODELS[model]
    number = counts.number + prior_cells(counts, prior) if prior else counts.number
    wins = half_wins(number)
    reasons = why_no_maximum(counts.names, wins)
    has_tie = ties.tie is not None and bool(number[TIE].any())
    if not reasons and (has_tie or side):
        reasons = why_not_with(number, tie=has_tie, side=side)
    if reasons:
        raise NoMaximum(reasons)
    used = ties if has_tie else TIE_MODELS["bradley-terry"]
    votes = tables(number[None], used, side=side)
    start = np.zeros((1, len(counts.names) + has_tie + side))
    if has_tie:
        start[:, len(counts.names)] = ties.start(number[TIE].sum() / number.sum())
    elif not side:
        start = _near(wins)[None]
    parameters, gradient, converged, information = maximise(votes, start, used.bound)
    _assert(converged, gradient)
    m = len(counts.names)
    c = parameters[0, m] if has_tie else -math.inf
    return Fit(
        names=counts.names,
        model=model,
        log_strength=parameters[0, :m],
        # Without ties, ν = 0 and ϑ = 1.
        tie=None if ties.tie is None else ties.parameter(c if has_tie or model == "davidson" else 0.0),
        side=float(parameters[0, -1]) if side else None,
        prior=prior,
        gradient=float(gradient[0]),
        votes=tables(counts.number[None], used, side=side) if prior else votes,
        parameters=parameters[0],
        information=information[0],
    )


def fit_bradley_terry(counts: Counts) -> Fit:
    """Bradley–Terry with ties as half wins: `fit` with its defaults."""
    return fit(counts)


def fit_rounds(number: np.ndarray, like: Fit) -> np.ndarray:
    """Fit many tables of cells at once, as a bootstrap needs.

    number  (r, 3, m, m) cells of each round, prior included
    like    the fit to all votes: its model is fitted, starting at its answer

    Returns (r, m) log-strengths, mean 0 in each round; NaN in the rounds that have no finite maximum.
    """
    rounds, _, m, _ = number.shape
    side, ties = like.side is not None, like.ties
    theta, moves = np.full((rounds, m), np.nan), cell_moves(like)[:, :m]
    size = max(1, BATCH_CELLS // (3 * m * m))
    for first in range(0, rounds, size):
        batch = number[first : first + size]
        solvable = strongly_connected(half_wins(batch))
        if ties.tie is not None:
            solvable &= batch[:, TIE].any(axis=(1, 2))
        at = np.flatnonzero(solvable)
        if not len(at):
            continue
        chosen = batch if solvable.all() else batch[at]
        begin = np.repeat(like.parameters[None], len(at), axis=0)
        # To first order the answers are known; where they would be far away, the first order says nothing.
        begin[:, :m] += np.clip(chosen.reshape(len(at), -1) @ moves, -1, 1)
        found, gradient, converged, _ = maximise(tables(chosen, ties, side=side), begin, ties.bound)
        if ties.tie is not None or side:
            # Strong connection is not all that these need; what did not arrive must have a reason.
            lost = np.flatnonzero(~converged)
            has_reason = [bool(why_not_with(chosen[t], tie=ties.tie is not None, side=side)) for t in lost]
            at, keep = np.delete(at, lost[has_reason]), np.delete(np.arange(len(at)), lost[has_reason])
            found, gradient, converged = found[keep], gradient[keep], converged[keep]
        _assert(converged, gradient)
        theta[first + at] = found[:, :m]
    return theta


def prior_cells(counts: Counts, prior: float) -> np.ndarray:
    """(3, m, m) cells of `prior` votes on every pair that met, won by either on either side equally often."""
    met = half_wins(counts.number) > 0
    cells = np.zeros_like(counts.number, dtype=float)
    cells[[LEFT, RIGHT]] = prior / 4 * (met | met.T)
    return cells


def elo_scale(
    theta: np.ndarray,
    names: tuple[str, ...],
    *,
    base: float = 1000,
    scale: float = 400,
    anchor: dict[str, float] | None = None,
) -> np.ndarray:
    """Put log-strengths (…, m) on the Elo scale: scale / ln 10 · θ + constant.

    The constant makes the mean `base`, or, with an anchor such as {"FP16": 1000}, gives that method
    that rating (in every row of θ, so that bootstrap draws become differences to the anchor).
    """
    ratings = scale / math.log(10) * theta
    if anchor is None:
        return ratings - ratings.mean(axis=-1, keepdims=True) + base
    ((name, fixed),) = anchor.items()
    i = names.index(name)
    return ratings - ratings[..., i : i + 1] + fixed


def cell_scores(fitted: Fit) -> np.ndarray:
    """(3, m, m, p): gradient of ln P by the parameters of one vote in each cell."""
    m, ties = len(fitted.names), fitted.ties
    side = fitted.side is not None
    theta = fitted.log_strength
    x = theta[:, None] - theta[None, :] + (fitted.side or 0)
    c = fitted.parameters[m : m + 1] if ties.tie is not None else np.zeros(1)
    win, loss = ties.win(x, c), ties.win(-x, c)
    if ties.tie is None:
        along = np.array([win.x, -loss.x, (win.x - loss.x) / 2])
    else:
        tie = ties.tie(x, c)
        along = np.array([win.x, -loss.x, tie.x])
    unit = np.eye(m)
    parts = [along[..., None] * (unit[:, None, :] - unit[None, :, :])]
    if ties.tie is not None:
        parts.append(np.array([win.c, loss.c, tie.c])[..., None])
    if side:
        parts.append(along[..., None])
    return np.concatenate(parts, axis=-1)


def bread(fitted: Fit) -> np.ndarray:
    """(p, p) inverse of the information among θ of mean 0: what a unit of gradient moves the parameters."""
    m, p = len(fitted.names), len(fitted.parameters)
    filled = fitted.information.copy()
    filled[:m, :m] += np.trace(filled[:m, :m]) / (m * m)
    centre = np.eye(p)
    centre[:m, :m] -= 1 / m
    return centre @ np.linalg.solve(filled, centre)


def cell_moves(fitted: Fit) -> np.ndarray:
    """(3·m·m, p): by how much one more vote in a cell moves the parameters, to first order."""
    return cell_scores(fitted).reshape(-1, len(fitted.parameters)) @ bread(fitted)


def _near(wins: np.ndarray) -> np.ndarray:
    """(m, m) → (m,), where Newton's method starts: the mean log odds against all others.

    That is the least-squares answer where all pairs met equally often; two steps from there are enough.
    """
    log = np.log(wins + 0.5)
    return (log.sum(axis=1) - log.sum(axis=0)) / len(log)


def _assert(converged: np.ndarray, gradient: np.ndarray) -> None:
    if not (converged & (gradient <= GRADIENT_TOLERANCE)).all():
        raise ArithmeticError(f"Newton stopped short of the maximum (gradient {gradient.max():.1e})")
