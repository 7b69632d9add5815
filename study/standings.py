"""The ratings so far: for each question a table and, where sizes are known, rating against size.

Rated is what `elo` rates of the view `votes_v1`: main trials, not excluded. The database counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from study.protocols import parse_stored
from study.schema import MethodRow, ProtocolRow
from study.store import Store

ROUNDS = 200  # of the bootstrap: for a look, not for a paper
GRAPHIC = ("ci_low", "rating", "ci_high")


@dataclass(frozen=True)
class Panel:
    """Methods that were compared with one another: the columns of their table, and their intervals.

    columns  as `elo` prints them
    places   for each row (low, rating, high) on a common axis from 0 to 100; None where there is none
    notes    what a reader must know
    """

    columns: list[Any]
    places: list[tuple[float, float, float] | None]
    notes: list[str]


@dataclass(frozen=True)
class Standing:
    """The ratings on one question; `plot` is an SVG, None where there is nothing to draw."""

    question: str
    text: str
    panels: list[Panel] = field(default_factory=list)
    plot: bytes | None = None
    notes: list[str] = field(default_factory=list)


def questions(store: Store) -> dict[str, str]:
    """The questions of all versions, id → text; where the text changed, the latest."""
    with store.read() as session:
        bodies = session.scalars(select(ProtocolRow.body).order_by(ProtocolRow.version)).all()
    return {question.id: question.text for body in bodies for question in parse_stored(body).questions}


def standings(store: Store) -> list[Standing]:
    """Rate the methods on each question."""
    with store.read() as session:
        methods = session.execute(select(MethodRow.id, MethodRow.size_bytes))
        sizes = {method: float(size) for method, size in methods if size}
    return [_standing(store, id_, text, sizes) for id_, text in questions(store).items()]


def _standing(store: Store, question: str, text: str, sizes: Mapping[str, float]) -> Standing:
    import elo  # heavy, and only this needs it
    from elo.panels import split_counts

    url = store.engine.url.render_as_string(hide_password=False)
    try:
        votes: Any = elo.read_tally(url, question=question)
        parts = [votes]
        if len(split_counts(votes.counts)) > 1:  # base models that never met
            parts = elo.components(elo.read_votes(url, question=question))
        tables = [elo.compute(part, bootstrap=ROUNDS, seed=0, sizes=_of(part.names, sizes)) for part in parts]
    except elo.InputError as error:
        said = str(error).replace(store.engine.url.render_as_string(), "this study")
        return Standing(question, text, notes=[said])
    plot, why = _plot(tables, sizes)
    return Standing(question, text, [_panel(table) for table in tables], plot, why)


def _of(names: Any, sizes: Mapping[str, float]) -> dict[str, float] | None:
    return {name: sizes[name] for name in names if name in sizes} or None


def _panel(table: Any) -> Panel:
    import elo
    from elo.cells import columns

    rows = [tuple(map(float, row)) for row in table.ratings[list(GRAPHIC)].to_numpy(float)]
    ends = [end for row in rows for end in row if end == end]  # not the unknown, which is no number
    low, span = min(ends, default=0), max(max(ends, default=0) - min(ends, default=0), 1e-9)
    places = [
        tuple(round(2 + 96 * (end - low) / span, 2) for end in row) if all(e == e for e in row) else None
        for row in rows
    ]
    settings = elo.settings_lines({**table.settings, "source": "this study"})
    return Panel(columns(table), places, [*table.notes, *settings])  # type: ignore[arg-type]


def _plot(tables: list[Any], sizes: Mapping[str, float]) -> tuple[bytes | None, list[str]]:
    """The figure, or why there is none."""
    import elo
    from elo.plots import plot_bytes

    if not sizes:
        return None, ["No method of the gallery has a size, so there is no plot of rating against size."]
    try:
        axes = elo.pareto_panels(tables, sizes)
    except elo.InputError as error:
        return None, [f"No plot of rating against size: {error}"]
    return plot_bytes(axes[0], ".svg", {"panels": [table.settings for table in tables]}), []
