"""Every public layout says the same few votes: flux beats sd3 twice, sd3 beats flux once, one tie."""

import gzip
import json
import sqlite3

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from elo.counts import count
from elo.errors import SettingsError, VotesError
from elo.layouts import methods_of
from elo.tally import count_votes
from elo.votes import read_votes

PAIRS = [("flux", "sd3", "left"), ("sd3", "flux", "left"), ("sd3", "flux", "right"), ("flux", "sd3", "tie")]
RESULT = ("flux", "sd3"), [[0, 2], [1, 0]], [[0, 1], [1, 0]]


def table(left, right, **columns):
    rows = {left: [a for a, _, _ in PAIRS], right: [b for _, b, _ in PAIRS]}
    return pd.DataFrame(rows | columns)


def told(votes):
    """The counts of votes, which however they are read must be the same."""
    counts = count(votes)
    return counts.names, counts.wins.tolist(), counts.ties.tolist()


ONE_HOT = {"a": [1, 1, 0, 0], "b": [0, 0, 1, 0], "tie": [0, 0, 0, 1]}
FLAT = {
    "lmarena": table(
        "model_a", "model_b", winner=["model_a", "model_a", "model_b", "tie (bothbad)"], judge="arena_user_9"
    ),
    "lmarena 140k": table(
        "model_a",
        "model_b",
        winner=["model_a", "model_a", "model_b", "both_bad"],
        evaluation_session_id=["s", "s", "t", "t"],
        evaluation_order=[1, 2, 1, 2],
    ),
    "lmarena 55k": table(
        "model_a",
        "model_b",
        winner_model_a=ONE_HOT["a"],
        winner_model_b=ONE_HOT["b"],
        winner_tie=ONE_HOT["tie"],
    ),
    "GenAI-Bench": table(
        "left_model", "right_model", vote_type=["leftvote", "leftvote", "rightvote", "bothbad_vote"]
    ),
    "Pick-a-Pic": pd.concat(
        [
            table("model_0", "model_1", label_0=[1.0, 1.0, 0.0, 0.5], has_label=True, user_id=7, caption="x"),
            pd.DataFrame(
                {
                    "model_0": ["flux", "sd3"],
                    "model_1": ["sd3", "sd3"],
                    "label_0": [None, 1.0],
                    "has_label": [False, True],
                    "user_id": 8,
                    "caption": "y",
                }
            ),
        ]
    ),
    "HPDv2 by pair": table("image_left_id", "image_right_id", pref=[1, 1, -1, 1], user_id=1, prompt="x")[:3],
    "votes counted": table(
        "left",
        "right",
        leftvote=ONE_HOT["a"],
        rightvote=ONE_HOT["b"],
        tievote=[0] * 4,
        bothbad_vote=[0, 0, 0, 1],
    ),
    "Rapidata": pd.DataFrame(
        {
            "model1": ["flux", "sd3"],
            "model2": ["sd3", "flux"],
            "votes_image1": [2, 1],
            "votes_image2": [0, 0],
            "prompt": ["x", "y"],
        }
    ),
    "bare": pd.DataFrame(PAIRS, columns=["left", "right", "winner"]),
    "with counts": pd.DataFrame(
        [
            ("flux", "sd3", "left", 2),
            ("sd3", "flux", "left", 1),
            ("flux", "sd3", "tie", 1),
            ("sd3", "flux", "tie", 0),
        ],
        columns=["left", "right", "winner", "count"],
    ),
}
NO_TIES = {"HPDv2 by pair", "Rapidata"}


@pytest.mark.parametrize("name", FLAT)
def test_flat_layouts(name, tmp_path):
    frame = FLAT[name].reset_index(drop=True)
    names, wins, ties = RESULT
    expected = names, wins, [[0, 0], [0, 0]] if name in NO_TIES else ties
    frame.to_csv(tmp_path / "v.csv", index=False)
    frame.to_parquet(tmp_path / "v.parquet")
    frame.to_json(tmp_path / "v.json", orient="records")
    frame.to_json(tmp_path / "v.jsonl", orient="records", lines=True)
    with sqlite3.connect(tmp_path / "v.db") as connection:
        frame.to_sql("votes_v1", connection, index=False)
    connection.close()
    sources = [
        frame,
        pa.table(frame),
        *(tmp_path / f"v.{end}" for end in ("csv", "parquet", "json", "jsonl")),
    ]
    for source in [*sources, f"sqlite:///{tmp_path}/v.db"]:
        assert told(read_votes(source)) == expected
        counts = count_votes(source)
        assert (counts.names, counts.wins.tolist(), counts.ties.tolist()) == expected


def test_what_the_layouts_say_besides():
    pick = read_votes(FLAT["Pick-a-Pic"])
    assert pick.left_out == {"no label": 1, "the same method on both sides": 1}
    assert not pick.sides
    assert pick.labels == {"judge": ("7",), "prompt": ("x",)}
    sessions = read_votes(FLAT["lmarena 140k"])
    assert (sessions.labels["judge"], sessions.sides) == (("s", "t"), True)
    rapidata = read_votes(FLAT["Rapidata"])
    assert (len(rapidata), rapidata.prompt.tolist(), rapidata.sides) == (3, [0, 0, 1], False)


def task(selected, left="gallery/flux/1.png", right="gallery/sd3/1.png", **annotation):
    result = [
        {"type": "pairwise", "from_name": "better", "to_name": "one,two", "value": {"selected": selected}}
    ]
    made = {"completed_by": 3, "created_at": "2026-01-01T00:00:00Z", "was_cancelled": False, "result": result}
    return {
        "id": 5,
        "data": {"one": left, "two": right, "prompt": "a cat"},
        "annotations": [made | annotation],
    }


DOCUMENTS = {
    "Label Studio": [
        task("left"),
        task("left", right="gallery/flux/1.png", left="gallery/sd3/1.png"),
        task("right", left="http://x/sd3_1.png?size=1", right="http://x/flux_1.png"),
        task("left", was_cancelled=True),
        task("left", ground_truth=True),
        task("left", result=[]),
    ],
    "Rapidata": {
        "info": {"version": "4.1.0"},
        "results": [
            {"context": "x", "aggregatedResults": {"flux_59_3.jpg": 2, "sd3_59_0.jpg": 1}},
        ],
    },
    "HPDv2 train": [
        {"prompt": "x", "file_path": ["flux", "sd3"], "human_preference": [1, 0]},
        {"prompt": "x", "file_path": ["sd3", "flux"], "human_preference": [0, 1]},
        {"prompt": "y", "file_path": ["sd3", "flux"], "human_preference": [1, 0]},
    ],
    "HPDv2 test": [
        {
            "prompt": "x",
            "image_path": ["flux", "sd3"],
            "rank": [1, 2],
            "raw_annotations": [
                {"rank": [1, 2], "user_hash": "u"},
                {"rank": [1, 2], "user_hash": "v"},
                {"rank": [2, 1], "user_hash": "w"},
            ],
        }
    ],
    "HPDv3": [
        {
            "prompt": "x",
            "path1": "1.jpg",
            "path2": "2.jpg",
            "model1": "flux",
            "model2": "sd3",
            "choice_dist": [1, 1],
        },
        {
            "prompt": "y",
            "path1": "3.jpg",
            "path2": "4.jpg",
            "model1": "flux",
            "model2": "sd3",
            "choice_dist": None,
        },
        {
            "prompt": "y",
            "path1": "3.jpg",
            "path2": "5.jpg",
            "model1": "flux",
            "model2": "flux",
            "choice_dist": [3, 0],
        },
    ],
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents(name, tmp_path):
    document = DOCUMENTS[name]
    (tmp_path / "v.json").write_text(json.dumps(document))
    (tmp_path / "v.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    sources = [tmp_path / "v.json", tmp_path / "v.json.gz"]
    if isinstance(document, list):
        (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, document)))
        sources.append(tmp_path / "v.jsonl")
    for source in sources:
        votes = read_votes(source)
        assert told(votes) == (*RESULT[:2], [[0, 0], [0, 0]])
        counts = count_votes(source)
        np.testing.assert_array_equal(counts.number, count(votes).number)
    if name == "Label Studio":
        assert votes.left_out == {"kind=gold": 1, "excluded: cancelled": 1, "excluded: nothing selected": 1}
        assert (votes.question, votes.labels["judge"], votes.labels["prompt"]) == (
            "better",
            ("3",),
            ("a cat",),
        )
    if name == "HPDv2 test":
        assert votes.labels["judge"] == ("u", "v", "w")


def test_rapidata_tables_with_single_votes_inside(tmp_path):
    def votes(*files):
        return json.dumps(
            {"votes": [{"votedFor": file, "userDetails": {"userScore": 0.4}} for file in files]}
        )

    frame = pd.DataFrame(
        {
            "prompt": ["x", "y"],
            "model1": ["flux", "sd3"],
            "model2": ["sd3", "flux"],
            "image1_path": ["flux/1_0.jpg", None],
            "image2_path": ["sd3/1_1.jpg", None],
            "weighted_results_image1_preference": [0.6, 0.2],
            "detailed_results_preference": [votes("flux/1_0.jpg", "1_0.jpg", "Both"), votes("sd3/9.jpg")],
            "detailed_results_coherence": [None, votes("flux/8.jpg")],
        }
    )
    frame.to_parquet(tmp_path / "r.parquet")
    with pytest.raises(VotesError, match=r"several questions \('coherence', 'preference'\)"):
        read_votes(tmp_path / "r.parquet")
    assert told(read_votes(tmp_path / "r.parquet", question="preference")) == RESULT
    assert len(read_votes(frame, question="coherence")) == 1
    frame.loc[1, "detailed_results_preference"] = votes("midjourney.jpg")
    with pytest.raises(
        VotesError, match=r"r.parquet, row 2: a vote is for 'midjourney.jpg', which is neither"
    ):
        frame.to_parquet(tmp_path / "r.parquet")
        read_votes(tmp_path / "r.parquet")
    kept = read_votes(frame, question="preference", on_error="skip")
    assert (len(kept), kept.left_out) == (3, {"unreadable row": 1})


@pytest.mark.parametrize(
    "document,message",
    [
        ({"votes": []}, "expected a list of votes, or an object with a list 'results'"),
        ([3], "v.json, [0]: expected an object"),
        (
            {"results": [{"aggregatedResults": {"a.jpg": 1}}]},
            "v.json, results[0]: aggregatedResults names 1 assets, expected two",
        ),
        (
            {"results": [{"aggregatedResults": {"1.jpg": 1, "2.jpg": 1}}]},
            "results[0]: cannot tell the methods behind '1.jpg' and '2.jpg'",
        ),
        (
            [DOCUMENTS["Label Studio"][0] | {"data": {"text": "x"}}],
            "expected model_a and model_b in data, or the columns 'one,two'; data has 'text'",
        ),
        ([task("middle")], "[0], column winner: found 'middle', expected model_a"),
        (
            [{"image_path": ["a", "b"], "raw_annotations": [{"rank": [1]}]}],
            "a rank for each of 2 images expected, found [1]",
        ),
        (
            [{"file_path": ["a", "b"], "human_preference": [1, 1]}],
            "1 and 0 in human_preference",
        ),
        (
            [{"path1": "a", "path2": "b", "choice_dist": [1.5, 2]}],
            "[0], column left_votes: found '1.5', expected a whole number of votes",
        ),
        ([{"path1": "a", "path2": "b", "choice_dist": [1]}], "choice_dist is [1], expected two numbers"),
    ],
)
def test_bad_documents_are_refused_with_their_place_or_skipped(tmp_path, document, message):
    path = tmp_path / "v.json"
    path.write_text(json.dumps(document))
    with pytest.raises(VotesError) as caught:
        read_votes(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if isinstance(document, list):
        good = DOCUMENTS["HPDv2 train"][0]
        if isinstance(document[0], dict) and "annotations" in document[0]:
            good = DOCUMENTS["Label Studio"][0]
        path.write_text(json.dumps([*document, good]))
        kept = read_votes(path, on_error="skip")
        assert len(kept) == 1
        assert sum(kept.left_out.values()) == 1


def test_skipping_counts_what_it_skipped(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text(
        "left,right,winner,tstamp\nx,y,left,3\nx,y\n,y,left,3\nx,x,tie,3\nx,y,won,3\ny,x,tie,noon\nx,y,right,2\n"
    )
    votes = read_votes(path, on_error="skip")
    assert votes.winner.tolist() == [1, 0]
    assert votes.left_out == {
        "unreadable row": 1,
        "unreadable left": 1,
        "unreadable right": 1,
        "unreadable winner": 1,
        "unreadable tstamp": 1,
    }
    lines = ['{"left": "x", "right": "y", "winner": "tie"}', "{torn", "[1]"]
    (tmp_path / "v.jsonl").write_text("\n".join(lines))
    assert read_votes(tmp_path / "v.jsonl", on_error="skip").left_out == {"unreadable row": 2}
    with pytest.raises(SettingsError, match="on_error 'ignore': expected stop or skip"):
        read_votes(path, on_error="ignore")
    path.write_text("left,right,winner\nx,y,won\n")
    with pytest.raises(VotesError, match=r"nothing to rate.*unreadable winner: 1"):
        read_votes(path, on_error="skip")


def test_counts_must_be_whole_numbers():
    frame = pd.DataFrame({"left": ["x"], "right": ["y"], "leftvote": [1.5], "rightvote": [2]})
    with pytest.raises(VotesError, match=r"row 0, column leftvote: found '1.5', expected a whole number"):
        read_votes(frame)
    with pytest.raises(VotesError, match="nothing to rate"):
        read_votes(frame.assign(leftvote=0, rightvote=0))


def test_a_database_counts_what_the_votes_say(tmp_path, five):
    five["vote_id"] = [f"v{i}" for i in range(len(five))]
    five["supersedes"] = [None] * 700 + [f"v{i}" for i in range(100)]
    five["kind"] = ["main"] * 750 + ["repeat"] * 50
    five["excluded"] = [False] * 600 + [True] * 200
    five["exclude_reason"] = [None] * 600 + ["too fast"] * 200
    with sqlite3.connect(tmp_path / "v.db") as connection:
        five.to_sql("kept_elsewhere", connection, index=False)
        connection.execute("CREATE VIEW votes_v1 AS SELECT * FROM kept_elsewhere")
    connection.close()
    url = f"sqlite:///{tmp_path}/v.db"
    np.testing.assert_array_equal(count_votes(url).number, count(read_votes(url)).number)
    np.testing.assert_array_equal(count_votes(five).number, count(read_votes(url)).number)


def test_tables_in_memory():
    lists = {"left": ["x", "y"], "right": ["y", "x"], "winner": ["left", "tie"]}
    assert (
        told(read_votes(lists)) == told(read_votes(pa.table(lists))) == told(read_votes(pd.DataFrame(lists)))
    )
    mixed = pd.DataFrame({"left": [1, "y"], "right": ["y", 1.0], "winner": ["left", "tie"]})
    assert read_votes(mixed).names == ("1", "y")
    with pytest.raises(VotesError, match="int: not a table of votes"):
        read_votes(3)


@pytest.mark.parametrize(
    "left,right,methods",
    [
        ("a/fp16/1.png", "a/w4a8/1.png", ("fp16", "w4a8")),
        ("https://x.org/fp16/1.png?v=2", "https://x.org/w4a8/1.png", ("fp16", "w4a8")),
        ("a/fp16_0001.png", "a/w4a8-0001.png", ("fp16", "w4a8")),
        ("w4a8.png", "flux.1-dev_12_3.webp", ("w4a8", "flux.1-dev")),
    ],
)
def test_methods_behind_images(left, right, methods):
    assert methods_of(left, right) == methods
