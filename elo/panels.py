"""Votes that were never compared, directly or through others, belong on separate panels."""

from collections.abc import Sequence

from elo import existence
from elo.counts import Counts, count
from elo.subsets import only
from elo.votes import Votes


def components(votes: Votes) -> list[Votes]:
    """Split votes into groups of methods that no vote connects, in the order of their names.

    Each has its own methods only; one group, the usual case, is returned as it is.
    """
    found = existence.components(count(votes).number.sum(axis=0))
    if len(found) == 1:
        return [votes]
    return [only(votes, inside[votes.a], "methods of another panel") for inside in found]


def split_counts(counts: Counts) -> list[Counts]:
    """Split counts in the same way; clusters are not kept."""
    return [
        Counts(
            tuple(name for name, kept in zip(counts.names, inside, strict=True) if kept),
            counts.number[:, inside][:, :, inside],
        )
        for inside in existence.components(counts.number.sum(axis=0))
    ]


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
