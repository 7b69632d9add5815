"""The run: prompts × methods to a gallery. Stopped at any point, the same command goes on."""

from generator.sweep.ledger import SweepError
from generator.sweep.plan import Plan, plan
from generator.sweep.render import Drawn, counted, draw, render, render_in_batches
from generator.sweep.run import Outcome, checked, run, software_versions

__all__ = [
    "Drawn",
    "Outcome",
    "Plan",
    "SweepError",
    "checked",
    "counted",
    "draw",
    "plan",
    "render",
    "render_in_batches",
    "run",
    "software_versions",
]
