import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elo.errors import SizesError
from elo.pareto import pareto_front, read_sizes


def test_front_dominance_and_probability():
    names, cost, rating = "abcd", np.array([1, 2, 2, 3]), np.array([0, 10, 5, 9])
    draws = np.array([[0, 10, 5, 9], [0, 10, 5, 11], [20, 10, 5, 11]])
    front = pareto_front(names, cost, rating, draws)
    assert front.on_front.tolist() == [True, True, False, False]
    assert front.dominated_by == ((), (), ("b",), ("b",))
    np.testing.assert_allclose(front.probability, [1, 2 / 3, 0, 1 / 3])


def test_equals_do_not_dominate_each_other():
    front = pareto_front("ab", np.array([1, 1]), np.array([5, 5]))
    assert front.on_front.all()
    assert front.probability is None


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=7))
def test_agrees_with_the_definition(points):
    front = pareto_front([str(i) for i in range(len(points))], *np.array(points).T)
    for i, (cost, rating) in enumerate(points):
        better = [
            j for j, (c, r) in enumerate(points) if c <= cost and r >= rating and (c, r) != (cost, rating)
        ]
        assert front.dominated_by[i] == tuple(str(j) for j in better)
        assert front.on_front[i] == (not better)


def test_sizes_from_a_gallery_or_a_table(tmp_path):
    gallery = {
        "name": "g",
        "methods": [{"id": "fp16", "size_bytes": 5140000000, "nfe": 4}, {"id": "w4", "size_bytes": 9}],
    }
    (tmp_path / "gallery.json").write_text(json.dumps(gallery))
    (tmp_path / "sizes.csv").write_text("\ufeffmethod,size_bytes,note\nfp16,5.14e9,x\nw4,9,y\n")
    expected = {"fp16": 5_140_000_000, "w4": 9}
    assert read_sizes(tmp_path / "gallery.json") == read_sizes(tmp_path / "sizes.csv") == expected


@pytest.mark.parametrize(
    "name,text,message",
    [
        ("s.json", "{", "s.json, line 1: not JSON"),
        ("s.json", "[]", "expected an object with a list 'methods'"),
        ("s.json", '{"methods": []}', "no methods in it"),
        ("s.json", '{"methods": [3]}', "methods[0]: expected an object"),
        (
            "s.json",
            '{"methods": [{"id": "a", "size_bytes": 1}, {"size_bytes": 3}]}',
            "methods[1]: found None, expected the name",
        ),
        (
            "s.json",
            '{"methods": [{"id": "a"}]}',
            "methods[0]: size_bytes of 'a' is None, expected a whole number",
        ),
        ("s.json", '{"methods": [{"id": "a", "size_bytes": true}]}', "size_bytes of 'a' is True"),
        ("s.csv", "method,bytes\na,3\n", "no column size_bytes; expected method,size_bytes"),
        ("s.csv", "", "no column method and no column size_bytes"),
        ("s.csv", "method,size_bytes\na,3\na,3\n", "s.csv, line 3: method 'a' appears twice"),
        ("s.csv", "method,size_bytes\na,-3\n", "s.csv, line 2: size_bytes of 'a' is '-3'"),
        ("s.csv", "method,size_bytes\na,5 GB\n", "size_bytes of 'a' is '5 GB'"),
        ("s.toml", "", "expected a .json"),
    ],
)
def test_bad_sizes_are_refused_with_their_place(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SizesError) as caught:
        read_sizes(tmp_path / name)
    assert message in str(caught.value)


def test_missing_sizes_file(tmp_path):
    with pytest.raises(SizesError, match="No such file"):
        read_sizes(tmp_path / "gone.json")
