"""Real public votes against the answers of other libraries; only where the files are at hand."""

import json
from pathlib import Path

import pytest

import elo

FOLDER = Path(__file__).parents[3] / "shared" / "votes"
SETS = sorted(path.stem for path in FOLDER.glob("*.csv"))

pytestmark = pytest.mark.skipif(not SETS, reason=f"no real votes in {FOLDER} (they may not be redistributed)")


@pytest.fixture(scope="module")
def expected():
    return json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", SETS or ["absent"])
def test_agrees_with_other_libraries(name, expected):
    want = expected[name]
    votes = elo.read_votes(FOLDER / f"{name}.csv", column_map={"prompt_id": "group"})
    assert len(votes) == want["rows"]
    assert len(votes.names) == want["items"]
    assert (votes.winner == 2).mean() == pytest.approx(want["ties"])
    for k in (4, 32):
        ratings = elo.compute(votes, k=k, bootstrap=0).ratings.set_index("method")["elo"]
        for method, rating in want[f"elo_K{k}_1000_file_order (evalica)"].items():
            assert ratings[method] == pytest.approx(rating, abs=1e-6)
    strengths = elo.compute(votes, bootstrap=0, base=0, scale=2.302585092994046).ratings.set_index("method")[
        "rating"
    ]
    for method, strength in want["bradley_terry_log_strength_mean0 (statsmodels GLM)"].items():
        assert strengths[method] == pytest.approx(strength, abs=1e-8)
