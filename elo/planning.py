"""How many votes a claim needs, and what a number of votes can show.

A pair of methods d Elo points apart is told from a coin by n decided votes with the power (normal
approximation of the one-sample binomial test; Fleiss, Levin and Paik, Statistical Methods for Rates and
Proportions, 3rd ed., §2.5)

    Φ((√n (p − ½) − z_{α/2} / 2) / √(p (1 − p))),   p = 1 / (1 + 10^(−d / 400)).

Ties carry nothing of who is better: n of N votes are decided, n = N (1 − ties). Votes of one judge repeat
one another: N votes are worth N / design effect. In a study of m methods with all pairs alike the others
tell of the pair too: a difference is known as well as from m / 2 times the votes on the pair itself.
"""

import math
from dataclasses import dataclass

from elo.errors import SettingsError


@dataclass(frozen=True)
class Plan:
    """A claim and its price.

    gap            points by which the methods differ
    votes          votes on each pair
    total          votes on all m (m − 1) / 2 pairs
    power          chance that the difference is found
    alpha          two-sided chance to find one where there is none
    ties           share of votes that are ties
    design_effect  how many times larger the variance is than with independent votes
    methods        how many methods are compared, all pairs alike
    """

    gap: float
    votes: int
    total: int
    power: float
    alpha: float
    ties: float
    design_effect: float
    methods: int

    def sentence(self) -> str:
        """The plan in words."""
        return (
            f"{self.votes} votes on each pair ({self.total} in all, {self.methods} methods) find a gap of "
            f"{self.gap:.4g} Elo points with power {self.power:.3g} at alpha {self.alpha:g}, two-sided; "
            f"{100 * self.ties:.0f} % ties, design effect {self.design_effect:g}."
        )


def plan(
    *,
    gap: float | None = None,
    votes: int | None = None,
    power: float | None = None,
    alpha: float = 0.05,
    ties: float = 0.0,
    design_effect: float = 1.0,
    methods: int = 2,
) -> Plan:
    """Solve for the one of gap, votes (on each pair) and power that is not given; power is 0.8 unless given.

    >>> plan(gap=30).votes
    1056

    Raises SettingsError where nothing or everything is left to solve for, or a setting is out of range.
    """
    if power is None and (gap is None) != (votes is None):
        power = 0.8
    if sum(value is None for value in (gap, votes, power)) != 1:
        raise SettingsError("plan: give two of gap, votes and power (or gap or votes alone, power 0.8)")
    _check(gap, votes, power, alpha, ties, design_effect, methods)
    # decided, independent votes that one vote on the pair is worth
    worth = (1 - ties) / design_effect * methods / 2
    if votes is None:
        assert gap is not None and power is not None  # noqa: S101 (for mypy; checked above)
        votes = math.ceil(_decided_votes(gap, power, alpha) / worth - 1e-9)
    elif gap is None:
        assert power is not None  # noqa: S101
        gap = _gap(votes * worth, power, alpha)
    else:
        power = _power(votes * worth, gap, alpha)
    assert power is not None  # noqa: S101
    pairs = methods * (methods - 1) // 2
    return Plan(gap, votes, votes * pairs, power, alpha, ties, design_effect, methods)


def win_rate(gap: float) -> float:
    """P(preferred) among decided votes of a method that is `gap` Elo points better."""
    return 1 / (1 + 10 ** (-gap / 400))


def _decided_votes(gap: float, power: float, alpha: float) -> float:
    p = win_rate(abs(gap))
    return ((_z(1 - alpha / 2) / 2 + _z(power) * math.sqrt(p * (1 - p))) / (p - 0.5)) ** 2


def _power(n: float, gap: float, alpha: float) -> float:
    from scipy.special import ndtr

    p = win_rate(abs(gap))
    return float(ndtr((math.sqrt(n) * (p - 0.5) - _z(1 - alpha / 2) / 2) / math.sqrt(p * (1 - p))))


def _gap(n: float, power: float, alpha: float) -> float:
    """The positive root d = p − ½ of √n d − z_a / 2 = z_b √(¼ − d²), on the Elo scale."""
    a, b = _z(1 - alpha / 2), _z(power)
    d = (math.sqrt(n) * a + b * math.sqrt(max(n + b * b - a * a, 0))) / (2 * (n + b * b))
    if n <= 0 or d >= 0.5:
        raise SettingsError("plan: so few votes cannot show any difference with that power")
    return 400 * math.log10((0.5 + d) / (0.5 - d))


def _z(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def _check(
    gap: float | None,
    votes: int | None,
    power: float | None,
    alpha: float,
    ties: float,
    design_effect: float,
    methods: int,
) -> None:
    if gap is not None and not (math.isfinite(gap) and gap != 0):
        raise SettingsError(f"gap {gap!r}: expected Elo points other than 0")
    if votes is not None and votes < 1:
        raise SettingsError(f"votes {votes!r}: expected 1 or more")
    if not 0 < alpha < 1:
        raise SettingsError(f"alpha {alpha!r}: expected a share between 0 and 1")
    if power is not None and not alpha < power < 1:
        raise SettingsError(f"power {power!r}: expected a share between alpha and 1")
    if not 0 <= ties < 1:
        raise SettingsError(f"ties {ties!r}: expected a share from 0 to below 1")
    if not (math.isfinite(design_effect) and design_effect > 0):
        raise SettingsError(f"design effect {design_effect!r}: expected a number above 0")
    if methods < 2:
        raise SettingsError(f"methods {methods!r}: expected 2 or more")
