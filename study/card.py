"""The dataset card beside a dump: what was asked, how often, what is not rated and why.

All its numbers are counted in the transaction that writes the dump. Nothing in a card is about a person:
it says how many judges there were, never who.
"""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy import Connection, select

from study import files
from study.layouts import OURS
from study.rated import Choice, Extent, Group, reasons
from study.schema import GalleryRow, ProtocolRow

MARK = "<!-- written by `study export`, which may write it again -->"
PAYS = "completion"  # its codes are worth money to whoever has not taken part
SIZES = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", 1e7: "1M<n<10M"}


def card_path(dump: Path) -> Path:
    """Where the card of a dump goes: README.md beside it, but never over somebody else's README.md."""
    card = dump.with_name("README.md")
    if not card.exists() or MARK in card.read_text(encoding="utf-8", errors="replace"):
        return card
    return dump.with_name(f"{dump.name}.README.md")


def make_card(
    connection: Connection,
    choice: Choice,
    groups: list[Group],
    extent: Extent,
    rows: int,
    file: str,
    license: str | None,  # noqa: A002
) -> str:
    """The card of a dump called `file`, which has so many rows."""
    environment = Environment(
        loader=FileSystemLoader(files("templates")),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    protocols = _protocols(connection, groups)
    rated = [group for group in groups if group.unrated is None]
    return environment.get_template("card.md").render(
        mark=MARK,
        title=protocols[-1]["body"].get("title", "Votes") if protocols else "Votes",
        studies=sorted({protocol["study"] for protocol in protocols}),
        galleries=list(connection.scalars(select(GalleryRow.name).order_by(GalleryRow.name))),
        file=file,
        license=license,
        size=next((name for most, name in SIZES.items() if rows < most), "10M<n<100M"),
        ours=choice.layout is OURS,
        layout=choice.layout,
        lost=[name for name in OURS.columns if name not in choice.layout.holds],
        question=choice.question,
        questions=sorted({group.question for group in rated if group.question}),
        rows=rows,
        votes=sum(extent.judges),
        rated=sum(group.votes for group in rated),
        left_out=reasons(choice, groups),
        unrated=_count((group.unrated, group.votes) for group in groups if group.unrated),
        pairs=_pairs(rated),
        kinds=_count(((group.kind or "", group.question or ""), group.votes) for group in groups),
        categories=_count((group.category or "none", group.votes) for group in rated),
        sources=_count((group.source or "unknown", group.votes) for group in rated),
        judges=len(extent.judges),
        per_judge=[extent.judges[0], median(extent.judges), extent.judges[-1]] if extent.judges else [],
        prompts=len(extent.of_prompt),
        dates=[_date(time) for time in (extent.first, extent.last) if time is not None],
        protocols=protocols,
    )


def _count(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    counted: Counter[Any] = Counter()
    for key, votes in pairs:
        counted[key] += votes
    return dict(sorted(counted.items()))


def _pairs(groups: list[Group]) -> list[dict[str, Any]]:
    """A row for each method pair and question: the answers, and how often the first was left."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for group in groups:
        first, other = sorted((group.model_a, group.model_b))
        row = rows.setdefault((first, other, group.question or ""), Counter())
        preferred = {"model_a": group.model_a, "model_b": group.model_b}.get(group.winner, group.winner)
        row["votes"] += group.votes
        row["first" if preferred == first else "other" if preferred == other else preferred] += group.votes
        row["left"] += group.votes * (group.model_a == first)
    return [
        {
            "methods": key[:2],
            "question": key[2],
            **{name: row[name] for name in ("votes", "first", "other", "tie", "left")},
            "both_bad": row["tie (bothbad)"],
        }
        for key, row in sorted(rows.items())
    ]


def _protocols(connection: Connection, groups: list[Group]) -> list[dict[str, Any]]:
    """The protocols under which there are votes, oldest first; where there are none, all of them."""
    votes = _count((group.protocol, group.votes) for group in groups)
    rows = connection.execute(
        select(ProtocolRow.hash, ProtocolRow.study, ProtocolRow.body).order_by(ProtocolRow.created)
    )
    return [
        {
            "hash": row.hash,
            "study": row.study,
            "votes": votes.get(row.hash, 0),
            "body": json.loads(row.body),
            "text": json.dumps(_public(json.loads(row.body)), indent=2, ensure_ascii=False),
        }
        for row in rows
        if row.hash in votes or not votes
    ]


def _public(body: dict[str, Any]) -> dict[str, Any]:
    codes = {outcome: "withheld" if code else code for outcome, code in body.get(PAYS, {}).items()}
    return {**body, PAYS: codes} if codes else body


def _date(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def _cell(value: Any) -> str:
    """Text that stays in its cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")
