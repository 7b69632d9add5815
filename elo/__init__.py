"""Ratings from pairwise votes, with honest uncertainty.

>>> votes = elo.read_votes("votes.csv")
>>> table = elo.compute(votes)
>>> table.ratings, table.settings, table.notes

Names are resolved on first use, so that `import elo` (and `elo --help`) costs no pandas and no matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elo.errors import InputError, SettingsError, SizesError, VotesError
    from elo.formats import write_table
    from elo.pareto import read_sizes
    from elo.plots import pareto_plot, save_plot
    from elo.tables import RatingTable, compute
    from elo.votes import Votes, read_votes

__all__ = [
    "InputError",
    "RatingTable",
    "SettingsError",
    "SizesError",
    "Votes",
    "VotesError",
    "compute",
    "pareto_plot",
    "read_sizes",
    "read_votes",
    "save_plot",
    "write_table",
]

_HOME = {
    "InputError": "elo.errors",
    "RatingTable": "elo.tables",
    "SettingsError": "elo.errors",
    "SizesError": "elo.errors",
    "Votes": "elo.votes",
    "VotesError": "elo.errors",
    "compute": "elo.tables",
    "pareto_plot": "elo.plots",
    "read_sizes": "elo.pareto",
    "read_votes": "elo.votes",
    "save_plot": "elo.plots",
    "write_table": "elo.formats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'elo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
