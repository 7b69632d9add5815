import numpy as np
import pandas as pd
import pytest

from elo.errors import InputError, MetricsError
from elo.metrics import read_metrics

WIDE = pd.DataFrame(
    {
        "method": ["w4a8", "fp16", "w4a8", "fp16"],
        "prompt_id": ["0001", "0001", "0002", "0002"],
        "file": ["a.png", "b.png", "c.png", "d.png"],
        "clipscore": [31.5, 30.25, 28.0, None],
        "lpips-vgg": [0.5, 0.0, 0.25, 0.0],
    }
)
LONG = WIDE.melt(["method", "prompt_id"], ["clipscore", "lpips-vgg"], var_name="metric").dropna()


def same(one, other):
    assert (one.names, one.methods, one.prompts) == (other.names, other.methods, other.prompts)
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.lower, other.lower)


def test_a_column_a_metric():
    found = read_metrics(WIDE)
    assert found.names == ("clipscore", "lpips-vgg")
    assert (found.methods, found.prompts) == (("fp16", "w4a8"), ("0001", "0002"))
    np.testing.assert_array_equal(found.value[0], [[30.25, np.nan], [31.5, 28.0]])
    np.testing.assert_array_equal(found.value[1], [[0, 0], [0.5, 0.25]])
    assert found.lower.tolist() == [False, True]


def test_all_layouts_and_formats_say_the_same(tmp_path):
    expected = read_metrics(WIDE)
    for layout, frame in (("wide", WIDE), ("long", LONG)):
        same(read_metrics(frame.sample(frac=1, random_state=1).sort_index()), expected)
        frame.to_csv(tmp_path / f"{layout}.csv", index=False)
        frame.to_parquet(tmp_path / f"{layout}.parquet")
        frame.to_json(tmp_path / f"{layout}.jsonl", orient="records", lines=True)
        for suffix in ("csv", "parquet", "jsonl"):
            same(read_metrics(tmp_path / f"{layout}.{suffix}"), expected)


def test_further_seeds_are_methods_of_their_own():
    again = LONG.assign(replicate=1, value=LONG["value"] + 1)
    found = read_metrics(pd.concat([LONG.assign(replicate=0), again]))
    assert found.methods == ("fp16", "fp16#1", "w4a8", "w4a8#1")
    np.testing.assert_array_equal(found.value[:, 1], found.value[:, 0] + 1)


def test_lower_is_better_where_told():
    assert read_metrics(WIDE, lower=["clipscore"]).lower.tolist() == [True, True]
    with pytest.raises(MetricsError, match="no metric 'clip'; it has 'clipscore', 'lpips-vgg'"):
        read_metrics(WIDE, lower=["clip"])


@pytest.mark.parametrize(
    "frame,words",
    [
        (WIDE.drop(columns="prompt_id"), ["no column 'prompt_id'", "'clipscore'"]),
        (WIDE[["method", "prompt_id", "file"]], ["no numbers in it", "metric and value"]),
        (WIDE[:0], ["no rows in it"]),
        (pd.concat([WIDE, WIDE[:1]]), ["line 6", "second value of 'clipscore'", "'w4a8'", "'0001'"]),
        (WIDE.assign(method=["a", None, "b", "c"]), ["line 3", "column method", "the name of a method"]),
        (WIDE.assign(clipscore=[1, 2, "x", 3]), ["line 4", "column clipscore", "found 'x'", "a number"]),
        (LONG.assign(value="high"), ["line 2", "column value", "found 'high'", "a number"]),
        (LONG.assign(replicate="first"), ["line 2", "column replicate"]),
    ],
)
def test_what_cannot_be_read_is_named(frame, words, tmp_path):
    frame.to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(InputError) as error:
        read_metrics(tmp_path / "m.csv")
    for word in ["m.csv", *words]:
        assert word in str(error.value)
