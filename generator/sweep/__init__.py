"""The run: prompts × methods to a gallery. Stopped at any point, the same command goes on."""

from generator.sweep.ledger import SweepError
from generator.sweep.plan import Plan, plan
from generator.sweep.render import Drawn, counted, draw, render
from generator.sweep.run import Outcome, run, software_versions

__all__ = [
    "Drawn",
    "Outcome",
    "Plan",
    "SweepError",
    "counted",
    "draw",
    "plan",
    "render",
    "run",
    "software_versions",
]
