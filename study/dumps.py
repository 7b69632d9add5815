"""A dump that was exported before, held against the study it came from."""

from pathlib import Path
from typing import Any

from sqlalchemy import select

from study.schema import votes_v1
from study.store import Store
from study.verify import VerifyError

# What was voted; exclusions and labels of categories may have changed since.
EVIDENCE = (
    "vote_id", "trial_id", "judge", "model_a", "model_b", "winner", "question", "prompt_id",
    "image_a", "image_b", "served_a", "served_b", "tstamp", "kind", "repeat_of", "supersedes", "protocol",
)  # fmt: skip


def verify_dump(store: Store, path: Path) -> str:
    """Compare each row of a dump with the study's votes.

    Votes that came after the dump's last one may be missing from it.

    Raises
    ------
    VerifyError
        Naming the first thing that does not fit.
    elo.InputError
        If the file is no dump.
    """
    from elo.sources import open_source  # heavy, and only this needs it

    source = open_source(path)
    missing = [name for name in EVIDENCE if name not in source.columns]
    if missing:
        raise VerifyError(f"{path}: no column {missing[0]}; is it a dump of `study export`?")
    columns = list(EVIDENCE)
    dump = {row["vote_id"]: row for row in source.read(columns).to_pylist()}
    last = max((float(row["tstamp"]) for row in dump.values()), default=0.0)
    ids, later = set(), 0
    with store.read() as session:
        replaced = set(session.scalars(select(votes_v1.c.supersedes)))
        for row in session.execute(select(*(votes_v1.c[name] for name in columns))).mappings():
            told = dump.get(row["vote_id"])
            if told is None:
                if row["vote_id"] in replaced:
                    continue  # goes out with --all only
                if row["tstamp"] <= last:
                    raise VerifyError(f"{path}: vote {row['vote_id']} is missing")
                later += 1
                continue
            ids.add(row["vote_id"])
            for name in columns:
                if _plain(told[name], name) != _plain(row[name], name):
                    raise VerifyError(
                        f"{path}: vote {row['vote_id']}: {name} is {told[name]!r}, "
                        f"the study has {row[name]!r}"
                    )
    for vote in dump:
        if vote not in ids:
            raise VerifyError(f"{path}: vote {vote} is not in this study")
    return f"{len(dump)} rows of {path} are as they were voted; {later} votes came later"


def _plain(value: Any, name: str) -> Any:
    """A value as CSV would have it: nothing is nothing, times are numbers."""
    if value is None or value == "":
        return None
    return float(value) if name == "tstamp" else str(value)
