"""Ratings by maximum likelihood from counts: Bradley–Terry and its kin, one table or a thousand at once.

    P(i preferred to j) = σ(θ_i − θ_j),   σ(x) = 1 / (1 + e^−x)

(Bradley and Terry, Biometrika 39, 1952; Zermelo, Math. Z. 29, 1929), with ties as half wins or as
outcomes (`elo.ties`), and, if asked for, a side effect γ: the image on the left has θ_i + γ. Only
differences of θ mean anything, so θ has mean 0 until it is put on the Elo scale, where 400 points are
odds of 10 : 1.

All models are one problem: maximise Σ y ℓ(x, c) over planes of cells, where x = θ_i − θ_j ± γ for the
winner i and c is the tie parameter; and one Newton solver, which checks its gradient, does it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from elo.counts import LEFT, RIGHT, TIE, Counts
from elo.existence import NoMaximum, strongly_connected, why_no_maximum, why_not_with
from elo.ties import TIE_MODELS, TieModel

# At the maximum, expected and counted wins of each method agree to this share of its votes.
GRADIENT_TOLERANCE = 1e-9
ITERATIONS = 200
# Cells of a batch worked on at once: bounds memory at some tens of MB whatever the number of rounds.
BATCH_CELLS = 1_000_000


@dataclass(frozen=True, eq=False)
class Fit:
    """A maximum-likelihood fit.

    log_strength    (m,) θ with mean 0
    tie             the parameter of the tie model (ν, ϑ); None for half wins
    side            γ, what standing on the left adds to θ; None if not fitted
    prior           votes that were added to every pair that met, half a win each
    gradient        the largest |expected − counted wins| / votes at the answer
    log_likelihood  of the votes (without the prior)
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
    log_likelihood: float
    parameters: np.ndarray
    information: np.ndarray

    @property
    def ties(self) -> TieModel:
        """The tie model in force: without any tie, all are Bradley–Terry."""
        has_tie = len(self.parameters) > len(self.names) + (self.side is not None)
        return TIE_MODELS[self.model if has_tie else "bradley-terry"]


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
    reasons = why_no_maximum(counts.names, _half_wins(number))
    has_tie = ties.tie is not None and bool(number[TIE].any())
    if not reasons and (has_tie or side):
        reasons = why_not_with(number, tie=has_tie, side=side)
    if reasons:
        raise NoMaximum(reasons)
    used = ties if has_tie else TIE_MODELS["bradley-terry"]
    planes = _planes(number[None], used, side)
    start = np.zeros((1, len(counts.names) + has_tie + side))
    if has_tie:
        start[:, len(counts.names)] = ties.start(number[TIE].sum() / number.sum())
    elif not side:
        start = _near(planes[0][2])
    parameters, gradient, converged, information = _newton(planes, used, start, side)
    _assert(converged, gradient)
    m = len(counts.names)
    of_votes = _planes(counts.number[None], used, side) if prior else planes
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
        log_likelihood=_log_likelihood(of_votes, used, parameters, side),
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
    theta = np.full((rounds, m), np.nan)
    for first in range(0, rounds, max(1, BATCH_CELLS // (3 * m * m))):
        batch = number[first : first + max(1, BATCH_CELLS // (3 * m * m))]
        solvable = strongly_connected(_half_wins(batch))
        if ties.tie is not None:
            solvable &= batch[:, TIE].any(axis=(1, 2))
        at = np.flatnonzero(solvable)
        if not len(at):
            continue
        chosen = batch if solvable.all() else batch[at]
        begin = np.repeat(like.parameters[None], len(at), axis=0)
        found, gradient, converged, _ = _newton(_planes(chosen, ties, side), ties, begin, side)
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
    met = _half_wins(counts.number) > 0
    cells = np.zeros_like(counts.number, dtype=float)
    cells[[LEFT, RIGHT]] = prior / 4 * (met | met.T)
    return cells


def half_wins(counts: Counts) -> np.ndarray:
    """(m, m) wins of i over j with each tie as half a win for both."""
    return _half_wins(counts.number)


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
    theta, c, gamma = _split(fitted.parameters[None], m, ties, side)
    x = (theta[:, :, None] - theta[:, None, :] + gamma)[0]
    c = c[0, 0]
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


# The planes of cells: kind of outcome, sign of γ for the winner, cells (r, m, m) winner × loser.
Planes = list[tuple[str, int, np.ndarray]]


def _half_wins(number: np.ndarray) -> np.ndarray:
    """(…, 3, m, m) → (…, m, m)."""
    half = number[..., TIE, :, :] / 2
    return number[..., LEFT, :, :] + half + (number[..., RIGHT, :, :] + half).swapaxes(-1, -2)


def _planes(number: np.ndarray, ties: TieModel, side: bool) -> Planes:
    """Fold cells (r, 3, m, m) into as few planes as the model tells apart."""
    left, right = number[:, LEFT], number[:, RIGHT].swapaxes(1, 2)
    tied = number[:, TIE]
    if not side:
        if ties.tie is None:
            return [("win", 0, _half_wins(number))]
        return [("win", 0, left + right), ("tie", 0, tied)]
    if ties.tie is None:
        return [("win", 1, left + tied / 2), ("win", -1, right + tied.swapaxes(1, 2) / 2)]
    return [("win", 1, left), ("win", -1, right), ("tie", 1, tied)]


def _split(
    parameters: np.ndarray, m: int, ties: TieModel, side: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(r, p) → θ (r, m), c (r, 1, 1), γ (r, 1, 1), zeros where not fitted."""
    zero = np.zeros((len(parameters), 1, 1))
    c = parameters[:, m, None, None] if ties.tie is not None else zero
    gamma = parameters[:, -1, None, None] if side else zero
    return parameters[:, :m], c, gamma


def _slopes(
    planes: Planes, ties: TieModel, parameters: np.ndarray, side: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (r, p) and −Hessian (r, p, p) of Σ y ℓ(x, c).

    A cell (i, j) sees θ through x = θ_i − θ_j alone, so with s = Σ y ℓ_x and v = −Σ y ℓ_xx over planes,
    g_i = Σ_j (s_ij − s_ji) and H = diag(Σ_j (v_ij + v_ji)) − v − vᵀ; c and γ border H.
    """
    m = planes[0][2].shape[1]
    r, p = parameters.shape
    has_tie = ties.tie is not None
    theta, c, gamma = _split(parameters, m, ties, side)
    x = theta[:, :, None] - theta[:, None, :]
    s: Any = 0
    v: Any = 0
    with_c: Any = 0
    with_gamma: Any = 0
    g, H = np.zeros((r, p)), np.zeros((r, p, p))
    for kind, sign, y in planes:
        slope = (ties.win if kind == "win" else ties.tie)(x + sign * gamma if sign else x, c)  # type: ignore[misc]
        ys, yv = y * slope.x, y * slope.xx
        s, v = s + ys, v + yv
        if has_tie:
            yc = y * slope.xc
            with_c = with_c + yc
            g[:, m] += (y * slope.c).sum(axis=(1, 2))
            H[:, m, m] += (y * slope.cc).sum(axis=(1, 2))
        if side:
            with_gamma = with_gamma + sign * yv
            g[:, -1] += sign * ys.sum(axis=(1, 2))
            H[:, -1, -1] += yv.sum(axis=(1, 2))
            if has_tie:
                H[:, m, -1] += sign * yc.sum(axis=(1, 2))
    g[:, :m] = s.sum(axis=2) - s.sum(axis=1)
    v = v + v.swapaxes(1, 2)
    H[:, :m, :m] = -v
    diagonal = np.arange(m)
    H[:, diagonal, diagonal] += v.sum(axis=2)
    if has_tie:
        H[:, :m, m] = H[:, m, :m] = with_c.sum(axis=2) - with_c.sum(axis=1)
    if side:
        H[:, :m, -1] = H[:, -1, :m] = with_gamma.sum(axis=2) - with_gamma.sum(axis=1)
        if has_tie:
            H[:, -1, m] = H[:, m, -1]
    return g, H


def _newton(
    planes: Planes, ties: TieModel, start: np.ndarray, side: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Maximise Σ y ℓ for each of r tables, from parameters `start` (r, p).

    Step length: along the Newton direction δ, |φ‴| ≤ d φ″, where d is the largest change of x over
    compared pairs plus what the tie parameter adds (`TieModel.bound`). Minimising the bound this gives
    on φ yields t = ln(1 + d) / d, which always ascends and tends to the full step (Sun and Tran-Dinh,
    Math. Program. 178, 2019).

    Returns parameters (r, p) with θ of mean 0, the largest |g_i| / votes_i (r,), which tables arrived (r,)
    (with θ alone all do, as strong connection is all it takes), and −Hessian (r, p, p) there.
    """
    m, more = planes[0][2].shape[1], start.shape[1] - planes[0][2].shape[1]
    found = np.array(start, dtype=float)
    met = planes[0][2] > 0
    for _, _, y in planes[1:]:
        met = met | (y > 0)
    met = met | met.swapaxes(1, 2)
    votes = sum((y.sum(axis=2) + y.sum(axis=1) for _, _, y in planes), np.zeros(found[:, :m].shape))
    active, arrived = np.arange(len(found)), np.zeros(len(found), dtype=bool)
    for _ in range(ITERATIONS):
        part = planes if len(active) == len(found) else [(kind, sign, y[active]) for kind, sign, y in planes]
        g, H = _slopes(part, ties, found[active], side)
        # H is singular along (1, …, 1), the direction that means nothing; a constant fills it in.
        diagonal = np.arange(m)
        H[:, :m, :m] += (H[:, diagonal, diagonal].sum(axis=1) / (m * m))[:, None, None]
        if more:
            # Far out on a table without maximum H is singular for a computer; the answer is not moved.
            H[:, np.arange(m + more), np.arange(m + more)] += 1e-13 * votes[active].sum(axis=1)[:, None]
        delta = np.linalg.solve(H, g[:, :, None])[:, :, 0]
        change = delta[:, :m]
        d = np.where(met[active], np.abs(change[:, :, None] - change[:, None, :]), 0).max(axis=(1, 2))
        longest = np.ones(len(active))
        if side:
            d = d + np.abs(delta[:, -1])
        if ties.tie is not None:
            by_tie, longest = ties.bound(found[active, m], delta[:, m])
            d = d + by_tie
        step = np.where(d > 1e-8, np.log1p(d) / np.maximum(d, 1e-8), 1)
        found[active] += delta * np.minimum(step, longest)[:, None]
        # Convergence is quadratic: after a step of 1e-6 the next would be near 1e-12.
        done = d <= 1e-6
        arrived[active[done]] = True
        away = np.abs(found[active]).max(axis=1) > 60 if more else False
        active = active[~(done | away)]
        if not len(active):
            break
    found[:, :m] -= found[:, :m].mean(axis=1, keepdims=True)
    per = votes if not more else np.column_stack([votes, np.repeat(votes.sum(axis=1)[:, None], more, axis=1)])
    g, H = _slopes(planes, ties, found, side)
    if not more:
        arrived[:] = True
    return found, (np.abs(g) / per).max(axis=1), arrived, H


def _near(wins: np.ndarray) -> np.ndarray:
    """(r, m, m) → (r, m), where Newton's method starts: the mean log odds against all others.

    That is the least-squares answer where all pairs met equally often; two steps from there are enough.
    """
    log = np.log(wins + 0.5)
    return log.mean(axis=2) - log.mean(axis=1)


def _assert(converged: np.ndarray, gradient: np.ndarray) -> None:
    if not (converged & (gradient <= GRADIENT_TOLERANCE)).all():
        raise ArithmeticError(f"Newton stopped short of the maximum (gradient {gradient.max():.1e})")


def _log_likelihood(planes: Planes, ties: TieModel, parameters: np.ndarray, side: bool) -> float:
    m = planes[0][2].shape[1]
    theta, c, gamma = _split(parameters, m, ties, side)
    x = theta[:, :, None] - theta[:, None, :]
    logs = {"win": ties.log_win, "tie": ties.log_tie}
    return float(sum((y * logs[kind](x + sign * gamma, c)).sum() for kind, sign, y in planes))
