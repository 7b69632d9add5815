import gzip
import json
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from elo import votes as votes_module
from elo.counts import count
from elo.errors import VotesError
from elo.votes import read_votes

PLAIN = "model_a,model_b,winner\n"


def same(one, other):
    assert one.names == other.names
    assert (one.order, one.question, one.left_out) == (other.order, other.question, other.left_out)
    for field in ("a", "b", "winner", "judge", "prompt"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@pytest.fixture
def dump():
    """Rows as an export has them: text with commas and line breaks, several kinds, exclusions, no order."""
    rows = [
        ("v1", "fp16", "w4a8", "model_a", "ann", "main", False, None, 40.0),
        ("v2", "w4a8", "fp16", "tie", "bob", "main", False, None, 10.0),
        ("v3", "w4a8", "w4a4", "tie (bothbad)", "ann", "main", False, None, 20.0),
        ("v4", "fp16", "w4a8", "model_a", "ann", "repeat", False, None, 50.0),
        ("v5", "fp16", "w4a8", "model_b", "bot", "main", True, "too fast", 60.0),
        ("v6", "w4a4", "fp16", "model_b", None, "main", False, None, 30.0),
    ]
    columns = [
        "vote_id",
        "model_a",
        "model_b",
        "winner",
        "judge",
        "kind",
        "excluded",
        "exclude_reason",
        "tstamp",
    ]
    frame = pd.DataFrame(rows, columns=columns)
    frame["prompt"] = ['a "red" circle,\nleft of a star', "ü, ñ"] * 3
    frame["prompt_id"] = ["0001", "0002", "0001", "0003", "0001", "0002"]
    return frame


def test_what_is_rated(dump):
    votes = read_votes(dump)
    assert votes.names == ("fp16", "w4a4", "w4a8")
    assert votes.left_out == {"kind=repeat": 1, "excluded: too fast": 1}
    assert votes.order == "tstamp"
    assert [votes.names[i] for i in votes.a] == ["w4a8", "w4a8", "w4a4", "fp16"]
    assert votes.winner.tolist() == [2, 2, 1, 0]
    assert votes.judge.tolist() == [0, 1, -1, 1]
    assert votes.prompt.tolist() == [0, 1, 0, 1]
    assert len(votes) == 4


def test_every_source_gives_the_same_votes(dump, tmp_path):
    dump.to_csv(tmp_path / "v.csv", index=False)
    dump.to_csv(tmp_path / "v.csv.gz", index=False)
    dump.to_json(tmp_path / "v.jsonl", orient="records", lines=True)
    dump.to_json(tmp_path / "v.jsonl.gz", orient="records", lines=True)
    dump.set_index("vote_id").to_parquet(tmp_path / "v.parquet")
    (tmp_path / "v.parquet.gz").write_bytes(gzip.compress((tmp_path / "v.parquet").read_bytes()))
    connection = sqlite3.connect(tmp_path / "study.db")
    dump.to_sql("kept_elsewhere", connection, index=False)
    connection.execute("CREATE VIEW votes_v1 AS SELECT * FROM kept_elsewhere")
    connection.commit()
    connection.close()
    expected = read_votes(dump)
    for name in ("v.csv", "v.csv.gz", "v.jsonl", "v.jsonl.gz", "v.parquet", "v.parquet.gz"):
        same(read_votes(tmp_path / name), expected)
        same(read_votes(str(tmp_path / name)), expected)
    same(read_votes(f"sqlite:///{tmp_path}/study.db"), expected)


@pytest.mark.parametrize("left,right", [("left", "right"), ("item_a", "item_b")])
@pytest.mark.parametrize("who", ["annotator", "worker", "user"])
@pytest.mark.parametrize(
    "winners",
    [
        ("model_a", "model_b", "tie"),
        ("left", "right", "tie"),
        (1, 0, 0.5),
        ("1", "0", "0.5"),
        ("LEFT", "Right", "TIE "),
    ],
)
def test_column_and_winner_aliases(left, right, who, winners):
    frame = pd.DataFrame(
        {left: ["x", "y", "x"], right: ["y", "x", "y"], "winner": winners, who: ["u", "v", "u"]}
    )
    votes = read_votes(frame)
    assert votes.winner.tolist() == [0, 1, 2]
    assert votes.judge.tolist() == [0, 1, 0]
    assert votes.order == "file"


def test_numbers_as_names_are_the_same_in_every_source(tmp_path):
    (tmp_path / "v.csv").write_text("left,right,winner\n0,1,tie\n10,0,left\n")
    from_text = read_votes(tmp_path / "v.csv")
    assert from_text.names == ("0", "1", "10")
    same(read_votes(pd.read_csv(tmp_path / "v.csv")), from_text)


def test_map_names_columns():
    frame = pd.DataFrame({"img1": ["x"], "img2": ["y"], "pick": ["left"], "who": ["ann"]})
    votes = read_votes(
        frame, column_map={"model_a": "img1", "model_b": "img2", "winner": "pick", "judge": "who"}
    )
    assert votes.names == ("x", "y")
    assert votes.judge.tolist() == [0]
    with pytest.raises(VotesError, match=r"no column 'img9'.*'img1', 'img2', 'pick', 'who'"):
        read_votes(frame, column_map={"model_a": "img9"})
    with pytest.raises(VotesError, match="no column 'left_one' to map"):
        read_votes(frame, column_map={"left_one": "img1"})


def test_time_order_is_stable_and_understands_dates():
    frame = pd.DataFrame({"left": list("abc"), "right": list("bca"), "winner": "tie", "tstamp": [5, 1, 1]})
    assert [read_votes(frame).names[i] for i in read_votes(frame).a] == ["b", "c", "a"]
    dates = frame.assign(tstamp=["2026-01-02T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00.5+00:00"])
    assert [read_votes(dates).names[i] for i in read_votes(dates).a] == ["b", "c", "a"]
    assert read_votes(frame.assign(tstamp=[None] * 3)).order == "file"
    same(
        read_votes(frame.assign(tstamp=pd.to_datetime(dates["tstamp"], format="ISO8601", utc=True))),
        read_votes(dates),
    )


def test_superseded_rows_are_left_out(dump):
    dump["supersedes"] = [None, None, None, None, None, "v3"]
    assert read_votes(dump).left_out["superseded"] == 1
    assert len(read_votes(dump)) == 3


def test_several_questions_need_a_choice(dump):
    dump["question"] = ["quality", "match"] * 3
    with pytest.raises(VotesError, match=r"several questions \('match', 'quality'\)"):
        read_votes(dump)
    votes = read_votes(dump, question="quality")
    assert (len(votes), votes.question, votes.left_out["question=match"]) == (2, "quality", 2)
    with pytest.raises(VotesError, match="question 'beauty'; there are 'match', 'quality'"):
        read_votes(dump, question="beauty")
    with pytest.raises(VotesError, match="no column question"):
        read_votes(dump.drop(columns="question"), question="quality")


BAD = {
    "bad winner": (
        PLAIN + "x,y,model_a\nx,y,modelA\n",
        "line 3, column winner: found 'modelA', expected model_a",
    ),
    "no winner": (PLAIN + "x,y,\n", "line 2, column winner: found nothing"),
    "no method": (
        PLAIN + "x,y,tie\n,y,tie\n",
        "line 3, column model_a: found nothing, expected the name of a method",
    ),
    "itself": (PLAIN + "x,x,tie\n", "line 2, column model_b: found 'x', expected another method"),
    "after a long field": (
        'left,right,winner,prompt\nx,y,left,"a\nb\nc"\n\nx,y,oops,d\n',
        "line 6, column winner: found 'oops'",
    ),
    "missing column": ("left,right,prompt\nx,y,z\n", "no column winner; it has 'left', 'right', 'prompt'"),
    "missing left": ("right,winner\ny,left\n", "no column model_a or left or item_a"),
    "ragged": (PLAIN + "x,y,tie\nx,y,tie,1\n", "line 3: 4 fields where the header has 3"),
    "short": (PLAIN + "x,y\n", "line 2: 2 fields where the header has 3"),
    "only a header": (PLAIN, "no votes in it"),
    "empty": ("", "empty; expected a header line"),
    "twin column": ("model_a,model_b,winner,winner\nx,y,tie,tie\n", "column 'winner' appears twice"),
    "bad time": (
        "left,right,winner,tstamp\nx,y,tie,5\nx,y,tie,noon\n",
        "line 3, column tstamp: found 'noon'",
    ),
    "missing time": (
        "left,right,winner,tstamp\nx,y,tie,5\nx,y,tie,\n",
        "line 3, column tstamp: found nothing",
    ),
    "bad excluded": ("left,right,winner,excluded\nx,y,tie,maybe\n", "line 2, column excluded: found 'maybe'"),
    "twice": (
        "vote_id,left,right,winner\n1,x,y,tie\n1,x,y,tie\n",
        "line 3, column vote_id: found '1', expected",
    ),
    "all left out": (
        "left,right,winner,kind\nx,y,tie,practice\n",
        "all 1 rows are left out (kind=practice: 1)",
    ),
}


@pytest.mark.parametrize("text,message", BAD.values(), ids=BAD.keys())
def test_bad_csv_is_refused_with_its_place(tmp_path, text, message):
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(VotesError) as caught:
        read_votes(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_rows_of_other_sources_are_placed_too(tmp_path):
    good, bad = {"left": "x", "right": "y", "winner": "left"}, {"left": "x", "right": "y", "winner": 2}
    (tmp_path / "v.jsonl").write_text(f"{json.dumps(good)}\n\n{json.dumps(bad)}\n")
    with pytest.raises(VotesError, match=r"v.jsonl, line 3, column winner: found '2'"):
        read_votes(tmp_path / "v.jsonl")
    (tmp_path / "torn.jsonl").write_text(json.dumps(good) + '\n{"left": \n')
    with pytest.raises(VotesError, match=r"torn.jsonl, line 2: not JSON"):
        read_votes(tmp_path / "torn.jsonl")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    with pytest.raises(VotesError, match=r"list.jsonl, line 1: expected one JSON object a line"):
        read_votes(tmp_path / "list.jsonl")
    frame = pd.DataFrame([good, bad], index=["first", "second"])
    with pytest.raises(VotesError, match="DataFrame, row 'second', column winner"):
        read_votes(frame)
    frame.assign(winner=["left", "2"]).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(VotesError, match=r"v.parquet, row 2, column winner"):
        read_votes(tmp_path / "v.parquet")


def test_unreadable_sources(tmp_path):
    (tmp_path / "votes.xlsx").write_text("")
    (tmp_path / "broken.parquet").write_text("no")
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"left,right,winner\n" + b"x,y,left\n" * 999)[:40])
    (tmp_path / "plain.csv.gz").write_text(PLAIN)
    (tmp_path / "latin.csv").write_bytes("left,right,winner\nü,y,left\n".encode("latin-1"))
    sqlite3.connect(tmp_path / "other.db").close()
    for source, message in [
        (tmp_path / "none.csv", "No such file"),
        (tmp_path, "cannot tell its format"),
        (tmp_path / "votes.xlsx", "expected .csv, .json, .jsonl or .parquet"),
        (tmp_path / "broken.parquet", "not a Parquet file"),
        (tmp_path / "torn.csv.gz", "ends too early"),
        (tmp_path / "plain.csv.gz", "gzip"),
        (tmp_path / "latin.csv", "not UTF-8"),
        (f"sqlite:///{tmp_path}/none.db", "no such database file"),
        (f"sqlite:///{tmp_path}/other.db", "has no view votes_v1"),
        ("nonsense://somewhere", "nonsense"),
    ]:
        with pytest.raises(VotesError, match=message) as caught:
            read_votes(source)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "none.db").exists()


def test_passwords_stay_out_of_messages():
    with pytest.raises(VotesError) as caught:
        read_votes("nonsense://me:secret@host/votes")
    assert "secret" not in str(caught.value)


def test_count_puts_every_vote_in_its_cell():
    frame = pd.DataFrame(
        [("x", "y", "left"), ("y", "x", "left"), ("y", "x", "right"), ("x", "y", "tie"), ("y", "x", "tie")],
        columns=["left", "right", "winner"],
    )
    counts = count(read_votes(frame))
    assert counts.wins.tolist() == [[0, 2], [1, 0]]
    assert counts.ties.tolist() == [[0, 2], [2, 0]]


def test_importing_elo_is_cheap():
    heavy = {"numpy", "pandas", "matplotlib", "scipy", "rich", "torch"}
    code = f"import sys, elo, elo.cli; print({heavy} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_judges_are_coded_in_the_order_in_which_they_first_appear(piece, monkeypatch):
    monkeypatch.setattr(votes_module, "PIECE", piece)
    judges = ["bob", None, "ann", "bob", "cyd", "ann", None, "dan", "ann", "eve"]
    frame = pd.DataFrame({"left": "x", "right": "y", "winner": "left", "judge": judges})
    kept = frame.assign(kind=["repeat"] + ["main"] * 9)  # bob's first vote is not rated
    for given in (frame, kept):
        votes = read_votes(given)
        rated = given["judge"] if given is frame else given["judge"][1:]
        codes, labels = pd.factorize(rated)
        assert votes.labels["judge"] == tuple(labels)
        np.testing.assert_array_equal(votes.judge, codes)
