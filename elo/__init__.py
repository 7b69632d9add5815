"""Ratings from pairwise votes, with honest uncertainty.

>>> votes = elo.read_votes("votes.csv")
>>> table = elo.compute(votes)
>>> table.ratings, table.settings, table.notes

Names are resolved on first use, so that `import elo` (and `elo --help`) costs no pandas and no matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elo.bars import bars_plot, preferences
    from elo.cells import settings_lines
    from elo.compare import Comparison
    from elo.errors import InputError, MetricsError, SettingsError, SizesError, VotesError
    from elo.formats import write_table
    from elo.metric_agreement import MetricAgreement, compare_metrics
    from elo.metrics import Metrics, read_metrics
    from elo.panels import components
    from elo.pareto import pareto_front, read_costs, read_sizes
    from elo.plots import pareto_panels, pareto_plot, save_plot
    from elo.tables import RatingTable, compute
    from elo.tally import Tally, count_votes, read_tally
    from elo.votes import Votes, read_votes

__all__ = [
    "Comparison",
    "InputError",
    "MetricAgreement",
    "Metrics",
    "MetricsError",
    "RatingTable",
    "SettingsError",
    "SizesError",
    "Tally",
    "Votes",
    "VotesError",
    "bars_plot",
    "compare_metrics",
    "components",
    "compute",
    "count_votes",
    "pareto_front",
    "pareto_panels",
    "pareto_plot",
    "preferences",
    "read_costs",
    "read_metrics",
    "read_sizes",
    "read_tally",
    "read_votes",
    "save_plot",
    "settings_lines",
    "write_table",
]

_HOME = {
    "Comparison": "elo.compare",
    "InputError": "elo.errors",
    "MetricAgreement": "elo.metric_agreement",
    "Metrics": "elo.metrics",
    "MetricsError": "elo.errors",
    "RatingTable": "elo.tables",
    "SettingsError": "elo.errors",
    "SizesError": "elo.errors",
    "Tally": "elo.tally",
    "Votes": "elo.votes",
    "VotesError": "elo.errors",
    "bars_plot": "elo.bars",
    "compare_metrics": "elo.metric_agreement",
    "components": "elo.panels",
    "compute": "elo.tables",
    "count_votes": "elo.tally",
    "pareto_front": "elo.pareto",
    "pareto_panels": "elo.plots",
    "pareto_plot": "elo.plots",
    "preferences": "elo.bars",
    "read_costs": "elo.pareto",
    "read_metrics": "elo.metrics",
    "read_sizes": "elo.pareto",
    "read_tally": "elo.tally",
    "read_votes": "elo.votes",
    "save_plot": "elo.plots",
    "settings_lines": "elo.cells",
    "write_table": "elo.formats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'elo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
