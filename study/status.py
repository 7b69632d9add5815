"""`study status`: the numbers of the researcher's first page, for a terminal and for scripts."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from study.leases import sides
from study.progress import Fill, progress
from study.protocols import count_cells
from study.quality import voter_flags
from study.telling import told_hours, told_number, told_share


def status(session: Session) -> dict[str, Any]:
    """How far the study is, ready for JSON; of the newest version where nothing else is said."""
    found = progress(session)
    hash_ = found.version.hash if found.version else ""
    lefts, load, worst = sides(session, hash_)
    return {
        "standing": found.standing,
        "version": found.version.number if found.version else None,
        **_record(found.total()),
        "older_votes": found.older,
        "voters": found.voters,
        "finished": found.finished,
        "leases": found.leases,
        "reports": found.reports,
        "bot_checks": found.bot_checks,
        "votes_last_hour": found.per_hour[0],
        "votes_an_hour_over_24_hours": found.per_hour[1],
        "hours_left": found.hours_left,
        "cells": count_cells(session, hash_),
        "methods": found.methods,
        "pairs": {" | ".join(pair): _record(fill) for pair, fill in found.pairs().items()},
        "categories": {name: _record(fill) for name, fill in found.categories().items()},
        "sides": {"first_left": lefts, "given": load, "worst_quota": worst},
        "flags": {judge: [asdict(flag) for flag in flags] for judge, flags in voter_flags(session).items()},
    }


def _record(fill: Fill) -> dict[str, int]:
    return {"votes": fill.votes, "wanted": fill.wanted, "missing": fill.missing}


def status_lines(told: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    if told["version"] is None:
        yield "not open yet: `study ingest GALLERY`, then `study open` or `study serve`"
        return
    total, given = Fill(told["votes"], told["wanted"], told["missing"]), told["sides"]
    yield f"{told['standing']}, version {told['version']}"
    yield ""
    yield f"votes       {_of(told)}" + (f", {told_share(total.share)}" if total.wanted else ", no end is set")
    if told["older_votes"]:
        yield f"            {told_number(told['older_votes'])} more under older versions"
    hour, day = (told_number(told[name]) for name in ("votes_last_hour", "votes_an_hour_over_24_hours"))
    yield f"pace        {hour} in the last hour; {day} an hour over 24 hours"
    yield f"time left   {told_hours(told['hours_left'])}"
    yield f"voters      {told_number(told['voters'])}, of whom {told_number(told['finished'])} finished"
    yield f"leases      {told_number(told['leases'])} open"
    if told["reports"]:
        yield f"reports     {told_number(told['reports'])} not seen"
    if told["bot_checks"]:
        said = ", ".join(f"{told_number(number)} {verdict}" for verdict, number in told["bot_checks"].items())
        yield f"bot check   {said}"
    yield f"sides       first method left in {given['first_left']} of {given['given']} trials"
    yield f"            in one quota they differ by {given['worst_quota']} at most"
    for name in ("pairs", "categories"):
        wide = max(map(len, told[name]), default=0)
        if wide:
            yield ""
            yield f"{name}, of {told['cells']} cells" if name == "pairs" else name
            yield from (f"  {key or 'none':{wide}}  {_of(record)}" for key, record in told[name].items())
    if told["flags"]:
        yield ""
        yield "flagged (value found, limit)"
        for judge, flags in told["flags"].items():
            yield f"  {judge}  " + ", ".join(map(_flag, flags))


def _flag(flag: dict[str, Any]) -> str:
    return flag["name"] if flag["value"] is None else f"{flag['name']} {flag['value']:g} ({flag['limit']:g})"


def _of(record: dict[str, int]) -> str:
    votes = f"{told_number(record['votes']):>6}"
    return f"{votes} of {told_number(record['wanted'])}" if record["wanted"] else votes
