"""Parts of the votes, encoded anew as if nothing else had been read."""

from dataclasses import replace
from typing import Any

import numpy as np

from elo.votes import Votes


def only(votes: Votes, kept: np.ndarray, why: str) -> Votes:
    """The votes where `kept` (n,) is true; `why` names in `left_out` what the others are.

    Methods, judges and prompts that no kept vote has are gone, so that their numbers are those of the part.
    """
    methods = np.unique(np.concatenate([votes.a[kept], votes.b[kept]]))
    place = np.zeros(len(votes.names), dtype=int)
    place[methods] = np.arange(len(methods))
    labels = {name: votes.labels[name] for name in votes.more if name in votes.labels}
    codes: dict[str, Any] = {}
    for group in ("judge", "prompt", "category"):
        column = getattr(votes, group)
        if column is None:
            codes[group] = None
            continue
        there, recoded = np.unique(column[kept], return_inverse=True)
        unknown = int(len(there) > 0 and there[0] < 0)
        if len(there) == unknown:
            codes[group] = None
            continue
        codes[group] = recoded - unknown
        if group in votes.labels:
            labels[group] = tuple(votes.labels[group][code] for code in there[unknown:])
    left_out = dict(votes.left_out)
    if not kept.all():
        left_out[why] = left_out.get(why, 0) + int((~kept).sum())
    return replace(
        votes,
        names=tuple(votes.names[i] for i in methods),
        a=place[votes.a[kept]],
        b=place[votes.b[kept]],
        winner=votes.winner[kept],
        labels=labels,
        left_out=left_out,
        more={name: column[kept] for name, column in votes.more.items()},
        **codes,
    )
