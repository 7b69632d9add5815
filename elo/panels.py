"""Votes that were never compared, directly or through others, belong on separate panels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from elo.counts import Counts, count
from elo.votes import Votes


def components(votes: Votes) -> list[Votes]:
    """Split votes into groups of methods that no vote connects, in the order of their names.

    Each has its own methods only; one group, the usual case, is returned as it is.
    """
    found = _groups(count(votes).number)
    return [votes] if len(found) == 1 else [_among(votes, inside) for inside in found]


def split_counts(counts: Counts) -> list[Counts]:
    """Split counts in the same way; clusters are not kept."""
    return [
        Counts(
            tuple(name for name, kept in zip(counts.names, inside, strict=True) if kept),
            counts.number[:, inside][:, :, inside],
        )
        for inside in _groups(counts.number)
    ]


def _groups(number: np.ndarray) -> list[np.ndarray]:
    """(3, m, m) cells → a mask (m,) for each group of methods that votes connect."""
    met = number.sum(axis=0) > 0
    group = np.arange(len(met))
    for i, j in np.argwhere(met):
        group[group == group[j]] = group[i]
    return [group == g for g in dict.fromkeys(group.tolist())]


def base_model(names: Sequence[str]) -> tuple[str, list[str]]:
    """The base model that all names begin with ("" if none), and the names without it.

    >>> base_model(["sdxl-turbo/fp16", "sdxl-turbo/qsched-w4a8"])
    ('sdxl-turbo', ['fp16', 'qsched-w4a8'])
    >>> base_model(["fp16", "flux/w4a8"])
    ('', ['fp16', 'flux/w4a8'])
    """
    bases = {name.rpartition("/")[0] for name in names}
    if len(bases) != 1 or "" in bases:
        return "", list(names)
    (base,) = bases
    return base, [name[len(base) + 1 :] for name in names]


def _among(votes: Votes, inside: np.ndarray) -> Votes:
    """The votes between the methods of the mask."""
    rows = inside[votes.a]
    index = np.cumsum(inside) - 1
    return replace(
        votes,
        names=tuple(name for name, kept in zip(votes.names, inside, strict=True) if kept),
        a=index[votes.a[rows]],
        b=index[votes.b[rows]],
        winner=votes.winner[rows],
        judge=None if votes.judge is None else votes.judge[rows],
        prompt=None if votes.prompt is None else votes.prompt[rows],
        category=None if votes.category is None else votes.category[rows],
    )
