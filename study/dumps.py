"""What was made of a study before, held against it: a dump, row by row, and a rating table, made again."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select

from study.schema import MethodRow, votes_v1
from study.store import Store
from study.verify import VerifyError

# What was voted; exclusions and flags may have changed since.
EVIDENCE = (
    "vote_id", "study", "trial_id", "judge", "model_a", "model_b", "winner", "question", "prompt_id",
    "category", "prompt", "image_a", "image_b", "served_a", "served_b", "tstamp", "rt_ms", "kind",
    "repeat_of", "late", "supersedes", "source", "display", "protocol", "expected",
    "bot_check",
)  # fmt: skip

# The settings of a rating table that `elo.compute` takes back as they are.
SETTINGS = ("method", "side", "prior", "k", "base", "scale", "anchor", "seed")
SAME_POINTS = 0.001  # Elo points: what another machine's arithmetic may differ by, and nobody can read


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
    missing = [name for name in (*EVIDENCE, "excluded") if name not in source.columns]
    if missing:
        raise VerifyError(f"{path}: no column {missing[0]}; is it a dump of `study export`?")
    columns = [*EVIDENCE, "excluded"]
    rows = source.read(columns).to_pylist()
    twice = [vote for vote, number in Counter(row["vote_id"] for row in rows).items() if number > 1]
    if twice:
        raise VerifyError(f"{path}: vote {twice[0]} is in it twice")
    dump = {row["vote_id"]: row for row in rows}
    last = max((float(row["tstamp"]) for row in rows), default=0.0)
    found, later, decided = set(), 0, 0
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
            found.add(row["vote_id"])
            for name in EVIDENCE:
                if _plain(told[name], name) != _plain(row[name], name):
                    raise VerifyError(
                        f"{path}: vote {row['vote_id']}: {name} is {told[name]!r}, "
                        f"the study has {row[name]!r}"
                    )
            decided += _plain(told["excluded"], "excluded") != _plain(row["excluded"], "excluded")
    for vote in dump:
        if vote not in found:
            raise VerifyError(f"{path}: vote {vote} is not in this study")
    return (
        f"{len(dump)} rows of {path} are as they were voted; {later} votes came later"
        + f"; of {decided} it was decided since whether they count" * (decided > 0)
    )


def _plain(value: Any, name: str) -> Any:
    """A value whatever the format it was in: nothing is nothing, times are numbers, truths are truths."""
    if value is None or value == "":
        return None
    if name == "tstamp":
        return float(value)
    if name in ("late", "excluded"):
        return str(value).lower() in ("true", "1")
    return json.loads(value) if name == "display" else str(value)


# ---------------------------------------------------------------- rating tables


def verify_table(store: Store, path: Path, dump: Path | None = None) -> str:
    """Rate again with the settings of a table that `elo compute --out` wrote, and compare what comes out.

    dump  what the table was made of; None: the study as it is. What is drawn by the bootstrap is not
          compared.

    Raises
    ------
    VerifyError
        Naming the first thing that does not fit.
    elo.InputError
        If the file is no such table.
    """
    import elo
    from elo.formats import record

    told = _read_table(path)
    settings = told["settings"]
    url = store.engine.url.render_as_string(hide_password=False)
    votes = elo.read_tally(url if dump is None else dump, question=settings.get("question"))
    if len(votes) != settings["n"]:
        where = "the study has" if dump is None else f"{dump} has"
        advice = "; --dump FILE names what it was made of" if dump is None else ""
        raise VerifyError(f"{path}: made of {settings['n']} votes, {where} {len(votes)}{advice}")
    with store.read() as session:
        methods = session.execute(select(MethodRow.id, MethodRow.size_bytes)).all()
    sizes = {method: size for method, size in methods if size and method in votes.names}
    again = elo.compute(
        votes,
        **{name: settings[name] for name in SETTINGS},
        cluster=settings["cluster"] or "auto",
        bootstrap=0,
        sizes=sizes or None,
    )
    _compare_tables(path, told, record(again))
    return f"{path} is what its settings make of {len(votes)} votes"


def _read_table(path: Path) -> dict[str, Any]:
    import elo

    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        named = {*SETTINGS, "n", "cluster"} - set(told["settings"])
        rows = [row["method"] for row in told["ratings"]]
    except OSError as error:
        raise elo.InputError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise elo.InputError(
            f"{path}: expected one rating table, as `elo compute --out x.json` writes"
        ) from None
    if named or not rows:
        raise elo.InputError(
            f"{path}: its settings lack {min(named)}" if named else f"{path}: no ratings in it"
        )
    return told


def _compare_tables(path: Path, told: Mapping[str, Any], again: Mapping[str, Any]) -> None:
    for name in ("n", "question", "order", "clusters", "tie_parameter", "design_effect"):
        _compare(f"{path}: {name}", told["settings"].get(name), again["settings"][name])
    made = {row["method"]: row for row in again["ratings"]}
    rows = {row["method"]: row for row in told["ratings"]}
    if len(rows) < len(told["ratings"]):
        raise VerifyError(f"{path}: a method is in it twice")
    for method in [*rows, *made]:
        if method not in made:
            raise VerifyError(f"{path}: {method}: nobody voted on it")
        if method not in rows:
            raise VerifyError(f"{path}: {method} is missing")
    for method, row in rows.items():
        for name, value in made[method].items():
            if name == "size_gb" and row.get(name) is None:
                continue  # made without --sizes
            _compare(f"{path}: {method}: {name}", row.get(name), value)


def _compare(place: str, told: Any, again: Any) -> None:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (told, again))
    if not (math.isclose(told, again, rel_tol=0, abs_tol=SAME_POINTS) if numbers else told == again):
        raise VerifyError(f"{place} is {told!r}, its settings make {again!r}")
