"""Q-Sched: few-step samplers with two coefficients per step that make up for a quantized backbone.

The schedulers are in `qsched.schedulers`; they need diffusers, everything else does not.
"""

from qsched.coefficients import Coefficients

__all__ = ["Coefficients"]
