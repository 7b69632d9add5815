import pytest

from qsched.coefficients import CoefficientsFile, Scores
from qsched.jaq import PairedGain


@pytest.fixture
def file():
    """The content of a small coefficients file."""
    return CoefficientsFile(
        base_model="shapes",
        method="w4a8",
        weight_bits=4,
        act_bits=8,
        scheduler="LCMScheduler",
        steps=2,
        c_x=(1.0, 0.975),
        c_eps=(1.05, 1.0),
        jaq_variant="clip",
        k=2.0,
        calibration_prompts=("a", "b"),
        search={"grid": [0.95, 1.0, 1.05], "refine": True},
        scores=Scores(
            calibration=PairedGain(1.5, 1.6, 0.1, 0.05, 0.15, 20),
            held_out=PairedGain(1.5, 1.55, 0.05, 0.03, 0.07, 300),
            control=PairedGain(1.6, 1.62, 0.02, 0.01, 0.03, 300),
        ),
        versions={"torch": "2.15.0"},
    )
