import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elo.counts import count, from_wins
from elo.errors import SettingsError
from elo.subsets import only
from elo.votes import read_votes


def counted(frame, by=("judge", "prompt")):
    return count(read_votes(frame), by=by)


def same(one, two):
    assert one.names == two.names
    np.testing.assert_array_equal(one.number, two.number)
    assert set(one.by) == set(two.by)
    for group, clusters in one.by.items():
        rows = {label: i for i, label in enumerate(two.by[group].labels)}
        order = [rows[label] for label in clusters.labels]
        np.testing.assert_array_equal(clusters.table.toarray(), two.by[group].table.toarray()[order])


def test_cells_are_an_obvious_loop(five):
    counts = counted(five)
    names = list(counts.names)
    number = np.zeros((3, 5, 5))
    for left, right, winner in five[["model_a", "model_b", "winner"]].itertuples(index=False):
        outcome = ["model_a", "model_b", "tie"].index(winner)
        number[outcome, names.index(left), names.index(right)] += 1
    np.testing.assert_array_equal(counts.number, number)
    np.testing.assert_array_equal(counts.wins, number[0] + number[1].T)
    np.testing.assert_array_equal(counts.ties, number[2] + number[2].T)
    assert counts.total == 800
    for group, column in (("judge", "judge"), ("prompt", "prompt_id")):
        np.testing.assert_array_equal(counts.by[group].table.sum(axis=0), number.ravel())
        votes = dict(zip(counts.by[group].labels, counts.by[group].table.sum(axis=1), strict=True))
        assert votes == five[column].value_counts().to_dict()


def test_counts_add_and_subtract_like_their_votes(five):
    # The second part has methods and judges that the first has not.
    parts = five[five["model_a"].ne("w4a4") & five["model_b"].ne("w4a4")], five[300:]
    together = counted(pd.concat(parts))
    same(counted(parts[0]) + counted(parts[1]), together)
    difference = together - counted(parts[0])
    np.testing.assert_array_equal(difference.number, counted(parts[1]).number)
    with pytest.raises(ValueError, match="votes that are not there"):
        counted(parts[0]) - together


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=60, max_size=60).filter(any))
def test_a_part_of_the_votes_counts_as_if_it_had_been_read_alone(kept):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "left": rng.choice(list("abc"), 60),
            "right": rng.choice(list("def"), 60),
            "winner": rng.choice(["left", "right", "tie"], 60),
            "judge": rng.choice(["j", "k", "l", None], 60),
            "prompt_id": rng.choice(["p", "q"], 60),
        }
    )
    part, alone = only(read_votes(frame), np.array(kept), "others"), read_votes(frame[kept])
    groups = [group for group in ("judge", "prompt") if getattr(alone, group) is not None]
    one, two = count(part, by=groups), count(alone, by=groups)
    assert (part.judge is None) == (alone.judge is None)
    assert one.names == two.names
    np.testing.assert_array_equal(one.number, two.number)
    for group in groups:
        rows = [
            sorted((label, *row) for label, row in zip(c.labels, c.table.toarray().tolist(), strict=True))
            for c in (one.by[group], two.by[group])
        ]
        assert rows[0] == rows[1]
    assert part.left_out.get("others", 0) == 60 - sum(kept)


def test_resampling_is_multiplying(five):
    counts = counted(five)
    judges = len(counts.by["judge"].labels)
    np.testing.assert_array_equal(counts.resample("judge", np.ones((1, judges)))[0], counts.number)
    twice = counts.one("judge", 3)
    weights = np.zeros((2, judges))
    weights[1, 3] = 2
    np.testing.assert_array_equal(counts.resample("judge", weights)[1], 2 * twice.number)
    label = counts.by["judge"].labels[3]
    assert twice.total == (five["judge"] == label).sum()


def test_large_tables_are_the_same_tables(five):
    """The sparse path of very many judges gives what the dense one gives."""
    five["judge"] = [f"j{i}" for i in range(len(five))]
    many = pd.concat([five.assign(judge=five["judge"] + f"-{i}") for i in range(80)])
    table = counted(many, by=["judge"]).by["judge"].table
    assert table.shape == (64_000, 75)
    assert table.sum() == 64_000
    np.testing.assert_array_equal(table.sum(axis=0), counted(many).number.ravel())


def test_unknown_judges_stand_alone_and_no_judges_is_an_error(five):
    five.loc[:99, "judge"] = None
    assert counted(five).by["judge"].labels.count("") == 100
    with pytest.raises(SettingsError, match="does not say the prompt"):
        counted(five.drop(columns="prompt_id"))


def test_wins_without_sides():
    counts = from_wins("ab", [[0, 3], [1, 0]], [[0, 2], [2, 0]])
    assert counts.wins.tolist() == [[0, 3], [1, 0]]
    assert counts.ties.tolist() == [[0, 2], [2, 0]]
    assert counts.total == 6
