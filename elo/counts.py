"""Counts: everything that a rating needs to know of the votes, whatever their number.

A cell says how often a method on the left met a method on the right and how that ended. Counts can be
added (two days, two dumps), subtracted (one judge, one prompt) and resampled: the cells of a bootstrap
round are the multinomial weights of the clusters times the table clusters × cells.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from elo.errors import SettingsError

if TYPE_CHECKING:
    from scipy import sparse

    from elo.votes import Votes

LEFT, RIGHT, TIE = 0, 1, 2
GROUPS = ("judge", "prompt")


@dataclass(frozen=True, eq=False)
class Clusters:
    """Cells by judge or by prompt, one row each.

    labels  their names; "" for a vote whose judge (or prompt) is unknown, which is a cluster of its own
    table   (g, 3·m·m) sparse, columns as in `Counts.number.ravel()`
    """

    labels: tuple[str, ...]
    table: "sparse.csr_array"


@dataclass(frozen=True, eq=False)
class Counts:
    """Votes as cells.

    names   m method names
    number  (3, m, m): number[w, i, j] = votes with i on the left and j on the right that ended w
            (0 the left one won, 1 the right one won, 2 tie)
    by      "judge" or "prompt" → the same cells, cluster by cluster
    """

    names: tuple[str, ...]
    number: np.ndarray
    by: Mapping[str, Clusters] = field(default_factory=dict)

    @property
    def wins(self) -> np.ndarray:
        """(m, m): how often i was preferred to j, on whichever side it stood."""
        return self.number[LEFT] + self.number[RIGHT].T

    @property
    def ties(self) -> np.ndarray:
        """(m, m), symmetric: how often neither of i and j was preferred."""
        return self.number[TIE] + self.number[TIE].T

    @property
    def total(self) -> float:
        """The number of votes."""
        return float(self.number.sum())

    def __add__(self, other: "Counts") -> "Counts":
        """Votes of both; the methods are those of either, and judges of one name are one judge."""
        return _combine(self, other, 1)

    def __sub__(self, other: "Counts") -> "Counts":
        """Votes of the first without those of the second, which must be among them."""
        left = _combine(self, other, -1)
        if left.names != self.names or left.number.min(initial=0) < 0:
            raise ValueError("subtracting votes that are not there")
        return left

    def resample(self, group: str, weights: np.ndarray) -> np.ndarray:
        """(r, g) weights of the clusters of a group → (r, 3, m, m) cells of each round."""
        cells = weights @ self.by[group].table
        return np.asarray(cells, dtype=float).reshape(len(weights), *self.number.shape)

    def one(self, group: str, index: int) -> "Counts":
        """The votes of one cluster alone."""
        weights = np.zeros((1, len(self.by[group].labels)))
        weights[0, index] = 1
        return Counts(self.names, self.resample(group, weights)[0])


def from_wins(names: Iterable[str], wins: np.ndarray, ties: np.ndarray | None = None) -> Counts:
    """Counts from (m, m) wins of row over column and symmetric ties, where nobody noted the sides."""
    wins = np.asarray(wins, dtype=float)
    tied = np.zeros_like(wins) if ties is None else np.triu(np.asarray(ties, dtype=float))
    return Counts(tuple(names), np.array([wins, np.zeros_like(wins), tied]))


def half_wins(number: np.ndarray) -> np.ndarray:
    """Cells (…, 3, m, m) → (…, m, m) wins of i over j, each tie as half a win for both."""
    half = number[..., TIE, :, :] / 2
    return number[..., LEFT, :, :] + half + (number[..., RIGHT, :, :] + half).swapaxes(-1, -2)


def count(votes: "Votes", by: Iterable[str] = ()) -> Counts:
    """Count votes into cells in one pass; `by` names the groups ("judge", "prompt") to keep apart too.

    Raises SettingsError where the votes do not say the judge or the prompt.
    """
    m = len(votes.names)
    cell = votes.winner.astype(np.min_scalar_type(3 * m * m))  # the narrower, the faster
    for code in (votes.a, votes.b):
        cell *= m
        np.add(cell, code, out=cell, casting="unsafe")
    number = np.bincount(cell, minlength=3 * m * m).astype(float)
    groups = {group: clusters(codes_of(votes, group), votes.labels[group], cell, number.size) for group in by}
    return Counts(votes.names, number.reshape(3, m, m), groups)


def codes_of(votes: "Votes", group: str) -> np.ndarray:
    """(n,) code of each vote's judge or prompt, -1 where unknown; SettingsError if none is known."""
    codes = votes.judge if group == "judge" else votes.prompt
    if codes is None:
        raise SettingsError(f"cluster {group!r}: {votes.source} does not say the {group} of its votes")
    return codes


def own_cluster_if_unknown(codes: np.ndarray, known: int) -> np.ndarray:
    """Codes without −1: a vote of an unknown judge is a judge of its own, after the `known` ones."""
    unknown = codes < 0
    return np.where(unknown, known - 1 + np.cumsum(unknown), codes) if unknown.any() else codes


def clusters(
    codes: np.ndarray, labels: Iterable[str], cell: np.ndarray, width: int, weight: np.ndarray | None = None
) -> Clusters:
    """Cells (n,) of `width` in all, by cluster.

    codes   (n,) which of the labels; −1 is nobody known, and each of these votes is a cluster of its own
    weight  (n,) how many votes each of the n stands for; None: one each
    """
    from scipy import sparse

    if weight is not None:
        times = np.where(codes < 0, weight, 1)
        weight = np.repeat(np.where(codes < 0, 1, weight), times).astype(float)
        codes, cell = np.repeat(codes, times), np.repeat(cell, times)
    labels = [*labels]
    codes = own_cluster_if_unknown(codes, len(labels))
    size = max(int(codes.max(initial=-1)) + 1, len(labels))
    labels += [""] * (size - len(labels))
    if size * width <= 1 << 22:
        place = codes.astype(np.intp)
        place *= width  # in place: of ten million votes each copy is 80 MB
        place += cell
        dense = np.bincount(place, weights=weight, minlength=size * width)
        table = sparse.csr_array(dense.reshape(size, width).astype(float))
    else:
        ones = np.ones(len(cell)) if weight is None else weight
        table = sparse.csr_array((ones, (codes, cell)), shape=(size, width))
        table.sum_duplicates()
    return Clusters(tuple(labels), table)


def _combine(one: Counts, two: Counts, sign: int) -> Counts:
    names = one.names if one.names == two.names else tuple(sorted({*one.names, *two.names}))
    groups = {}
    for group in one.by:
        if group not in two.by:
            raise ValueError(f"one has votes by {group}, the other has not")
        groups[group] = _combine_clusters(_renamed(one, names, group), _renamed(two, names, group), sign)
    number = _spread(one, names) + sign * _spread(two, names)
    return Counts(names, number, groups)


def _spread(counts: Counts, names: tuple[str, ...]) -> np.ndarray:
    """The cells among a larger set of methods."""
    at = [names.index(name) for name in counts.names]
    number = np.zeros((3, len(names), len(names)))
    number[np.ix_(range(3), at, at)] = counts.number
    return number


def _renamed(counts: Counts, names: tuple[str, ...], group: str) -> Clusters:
    from scipy import sparse

    clusters = counts.by[group]
    if names == counts.names:
        return clusters
    m, old = len(names), len(counts.names)
    at = np.array([names.index(name) for name in counts.names])
    table = clusters.table.tocoo()
    rows, columns = table.coords
    outcome, i, j = columns // (old * old), columns // old % old, columns % old
    moved = (outcome * m + at[i]) * m + at[j]
    shape = (len(clusters.labels), 3 * m * m)
    return Clusters(clusters.labels, sparse.csr_array((table.data, (rows, moved)), shape=shape))


def _combine_clusters(one: Clusters, two: Clusters, sign: int) -> Clusters:
    from scipy import sparse

    labels: list[str] = list(one.labels)
    place = {label: row for row, label in enumerate(labels) if label}
    rows = []
    for label in two.labels:
        if label and label in place:
            rows.append(place[label])
        elif sign < 0:
            raise ValueError("subtracting votes that are not there")
        else:
            rows.append(len(labels))
            labels.append(label)
    shape = (len(labels), one.table.shape[1])
    first, second = one.table.tocoo(), two.table.tocoo()
    table = sparse.csr_array(
        (
            np.concatenate([first.data, sign * second.data]),
            (
                np.concatenate([first.coords[0], np.array(rows, dtype=int)[second.coords[0]]]),
                np.concatenate([first.coords[1], second.coords[1]]),
            ),
        ),
        shape=shape,
    )
    table.sum_duplicates()
    return Clusters(tuple(labels), table)
