"""Do these votes have a finite maximum-likelihood answer at all? If not: why, in plain words with names.

Ties as half wins: if and only if the methods cannot be split in two groups of which one never won (or
tied) against the other, that is, if the graph "i won or tied against j" is strongly connected (Ford,
Amer. Math. Monthly 64, 1957). With a tie parameter or a side effect more is needed: no direction in the
space of all parameters may exist along which no vote becomes less likely (Albert and Anderson,
Biometrika 71, 1984), which a linear programme decides.
"""

import numpy as np

from elo.counts import LEFT, RIGHT, TIE


class NoMaximum(ValueError):  # noqa: N818 (an answer about the votes, not a mistake of the caller)
    """The votes have no finite maximum-likelihood answer; `reasons` says why, naming methods."""

    def __init__(self, reasons: list[str]) -> None:
        """Take the reasons, one sentence each."""
        super().__init__(" ".join(reasons))
        self.reasons = reasons


def strongly_connected(wins: np.ndarray) -> np.ndarray:
    """(r, m, m) → (r,) bool: can every method be reached from the first, and the first from every one?"""
    forward = wins > 0
    from_first, to_first = _reached(forward), _reached(forward.transpose(0, 2, 1))
    return np.logical_and(from_first, to_first).all(axis=1)


def _reached(edges: np.ndarray) -> np.ndarray:
    """(r, m, m) edges i→j → (r, m) which methods a walk from method 0 reaches."""
    reached = edges[:, 0].copy()
    reached[:, 0] = True
    while not reached.all():
        further = reached | (reached[:, :, None] & edges).any(axis=1)
        if (further == reached).all():
            break
        reached = further
    return reached


def components(wins: np.ndarray) -> list[np.ndarray]:
    """Groups of methods that were compared with one another, directly or through others (bool masks)."""
    return _groups(_closure(wins + wins.T > 0))


def why_no_maximum(names: tuple[str, ...], wins: np.ndarray) -> list[str]:
    """Reasons why wins (m, m), ties as halves, have no finite maximum; empty if they have one."""
    reach = _closure(wins > 0)
    if reach.all():
        return []
    parts = components(wins)
    if len(parts) > 1:
        listed = "; ".join(f"{{{_named(names, part)}}}" for part in parts)
        return [
            f"Never compared with one another, directly or through others: {listed}. No common scale exists."
        ]
    reasons = []
    for group in _groups(reach & reach.T):
        others = ~group
        who = _named(names, group)
        if not wins[np.ix_(others, group)].any():
            reasons.append(f"{who} never lost or tied against the others: no finite rating is high enough.")
        elif not wins[np.ix_(group, others)].any():
            reasons.append(f"{who} never won or tied against the others: no finite rating is low enough.")
    return reasons


def why_not_with(number: np.ndarray, *, tie: bool, side: bool) -> list[str]:
    """Reasons why cells (3, m, m) that pass `why_no_maximum` still have none with more parameters.

    tie   a tie parameter is fitted, and some votes are ties
    side  a side effect is fitted
    """
    if _plainly_there(number, tie=tie, side=side):
        return []
    rows = _directions(number, tie=tie, side=side)
    # θ is known up to a constant, so one less than all parameters must be told apart.
    if np.linalg.matrix_rank(rows) < rows.shape[1] - 1:
        return ["The side effect cannot be told from the methods: too few pairs were shown both ways round."]
    if not _separable(rows):
        return []
    if side and not _separable(_directions(number, tie=tie, side=False)):
        return ["No finite side effect: side and strength together explain every decided vote."]
    return ["No finite tie parameter: ties and wins never contradict one another in these votes."]


def _plainly_there(number: np.ndarray, *, tie: bool, side: bool) -> bool:
    """Enough for a maximum, and nearly always met, so that the linear programme is rarely asked.

    A pair in which both won while standing on the left allows no 2γ − 2c < 0, one in which both won on
    the right no −2γ − 2c < 0; ties allow no c < 0. Together: c = γ = 0, and the rest is strong connection.
    """
    if side:
        return all((number[w] * number[w].T > 0).any() for w in (LEFT, RIGHT)) and (
            not tie or bool(number[TIE].any())
        )
    wins = number[LEFT] + number[RIGHT].T
    return bool((wins * wins.T > 0).any() and number[TIE].any())


def _directions(number: np.ndarray, *, tie: bool, side: bool) -> np.ndarray:
    """(q, m + tie + side): a step d keeps every vote as likely or better if and only if rows @ d ≥ 0."""
    m = number.shape[1]
    unit = np.eye(m)
    rows = []
    for outcome, i, j in zip(*np.nonzero(number), strict=True):
        shift = np.concatenate([unit[i] - unit[j], np.zeros(int(tie)), np.ones(int(side))])
        c = np.zeros(m + tie + side)
        if tie:
            c[m] = 1
        if outcome == LEFT:
            rows.append(shift - c)
        elif outcome == RIGHT:
            rows.append(-shift - c)
        elif outcome == TIE:
            rows += [c + shift, c - shift]
    return np.unique(np.array(rows), axis=0)


def _separable(rows: np.ndarray) -> bool:
    from scipy.optimize import linprog

    found = linprog(
        -rows.sum(axis=0),
        A_ub=np.vstack([-rows, rows]),
        b_ub=np.concatenate([np.zeros(len(rows)), np.ones(len(rows))]),
        bounds=(None, None),
        method="highs",
    )
    if found.status != 0:
        raise ArithmeticError(f"linear programme for the existence of a maximum: {found.message}")
    return bool(found.fun < -1e-6)


def _closure(edges: np.ndarray) -> np.ndarray:
    """Reflexive transitive closure (Warshall) of a relation (m, m)."""
    reach = edges | np.eye(len(edges), dtype=bool)
    for middle in range(len(edges)):
        if reach.all():
            break
        reach |= reach[:, middle, None] & reach[middle]
    return reach


def _groups(together: np.ndarray) -> list[np.ndarray]:
    """Classes of an equivalence relation (m, m), each as a bool mask, in the order of their first member."""
    return [together[i] for i in range(len(together)) if not together[i, :i].any()]


def _named(names: tuple[str, ...], group: np.ndarray) -> str:
    return ", ".join(name for name, inside in zip(names, group, strict=True) if inside)
