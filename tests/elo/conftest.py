import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
SIDES = {"left": "model_a", "right": "model_b", "tie": "tie"}


@pytest.fixture(scope="session")
def golden():
    """Name → golden case and its votes as a frame."""
    return _golden


def _golden(name):
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    frame = pd.DataFrame(case["votes"], columns=["model_a", "model_b", "winner"])
    return case, frame.replace({"winner": SIDES})


@pytest.fixture(scope="session")
def simulated():
    """Votes of people who know what the truth is: see _simulated."""
    return _simulated


def _simulated(ratings, n, *, judges=40, prompts=30, judge_sd=0.0, ties=0.15, seed=0):
    """n votes drawn from planted Elo ratings; each judge shifts every rating by N(0, judge_sd)."""
    rng = np.random.default_rng(seed)
    names, strength = np.array(list(ratings)), np.array(list(ratings.values()), dtype=float)
    judge = rng.integers(0, judges, n)
    taste = rng.normal(0, judge_sd, (judges, len(names)))
    a = rng.integers(0, len(names), n)
    b = (a + rng.integers(1, len(names), n)) % len(names)
    gap = strength[a] + taste[judge, a] - strength[b] - taste[judge, b]
    left = rng.random(n) < 1 / (1 + 10 ** (-gap / 400))
    winner = np.where(rng.random(n) < ties, "tie", np.where(left, "model_a", "model_b"))
    return pd.DataFrame(
        {
            "model_a": names[a],
            "model_b": names[b],
            "winner": winner,
            "judge": [f"j{j}" for j in judge],
            "prompt_id": [f"p{p}" for p in rng.integers(0, prompts, n)],
            "tstamp": np.arange(n) + 1.7e9,
        }
    )


@pytest.fixture
def five():
    return _simulated({"fp16": 1060, "w8a8": 1050, "qsched": 1030, "w4a8": 980, "w4a4": 880}, 800)


@pytest.fixture
def sizes():
    return {
        "fp16": 5_140_000_000,
        "w8a8": 2_570_000_000,
        "qsched": 1_310_000_000,
        "w4a8": 1_300_000_000,
        "w4a4": 1_290_000_000,
    }
