"""From pictures to a verdict on metrics: `generator measure`, votes, `elo compare --metrics`.

The votes are drawn here: voters who mostly go by one of the numbers. They tell nothing of people.
"""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import kendalltau

from elo.cli import cli as elo
from generator.cli import cli as generator

DEMO = Path(__file__).parents[3] / "demo" / "gallery"
FOLLOWED = "clip-iqa-judge"


def run(command, *arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    path = tmp_path_factory.mktemp("measured") / "metrics.parquet"
    run(generator, "measure", DEMO, "-o", path, "--metrics", "clip,judge,psnr")
    return path


@pytest.fixture(scope="module")
def votes(metrics):
    """Every ordered pair of methods once on each prompt, so that the ratings rank as the wins do."""
    table = pd.read_parquet(metrics).query("metric == @FOLLOWED")
    value = table.set_index(["method", "prompt_id"])["value"]
    random, rows = np.random.default_rng(0), []
    for prompt in table["prompt_id"].unique():
        for a, b in permutations(table["method"].unique(), 2):
            better = value[a, prompt] > value[b, prompt]
            followed = random.random() < 0.8
            left = better if followed else random.random() < 0.5
            judge = f"judge {random.integers(24)}"
            rows.append([judge, a, b, "model_a" if left else "model_b", prompt])
    return pd.DataFrame(rows, columns=["judge", "model_a", "model_b", "winner", "prompt_id"])


def test_the_metric_that_voters_go_by_comes_first_and_all_are_counted_right(metrics, votes, tmp_path):
    votes.to_csv(tmp_path / "votes.csv", index=False)
    found = json.loads(
        run(elo, "compare", tmp_path / "votes.csv", "--metrics", metrics, "--bootstrap", 50, "--json")
    )
    rows = {row["metric"]: row for row in found["metrics"]}
    measured = pd.read_parquet(metrics)
    assert set(rows) == set(measured["metric"])
    assert found["metrics"][0]["metric"] == FOLLOWED
    chosen_left = votes["winner"] == "model_a"
    wins = pd.concat([votes["model_a"][chosen_left], votes["model_b"][~chosen_left]]).value_counts()
    for metric, row in rows.items():
        value = measured[measured["metric"] == metric].set_index(["method", "prompt_id"])["value"]
        left, right = (
            value.reindex(pd.MultiIndex.from_frame(votes[[side, "prompt_id"]])).to_numpy()
            for side in ("model_a", "model_b")
        )
        known = ~np.isnan(left - right)
        agrees = np.where(left == right, 0.5, (left > right) == chosen_left)[known]
        assert row["votes"] == known.sum()
        assert row["accuracy"] == pytest.approx(agrees.mean())
        mean = value.groupby("method").mean()
        assert row["methods"] == len(mean)
        assert row["kendall"] == pytest.approx(kendalltau(wins[mean.index], mean).statistic)
    assert rows["psnr_to_fp16"]["methods"] == votes["model_a"].nunique() - 1
    assert rows[FOLLOWED]["accuracy_low"] > 0.8 > rows["psnr_to_fp16"]["accuracy_high"]
