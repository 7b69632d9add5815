import json

import pytest
from click.testing import CliRunner

from elo.cli import cli


@pytest.fixture
def run(tmp_path, monkeypatch, five, sizes):
    """Run `elo …` in a folder with votes.csv and gallery.json."""
    monkeypatch.chdir(tmp_path)
    five.to_csv("votes.csv", index=False)
    (tmp_path / "gallery.json").write_text(
        json.dumps({"methods": [{"id": name, "size_bytes": size} for name, size in sizes.items()]})
    )

    def run(*arguments):
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run


def refused(result, *words):
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
    for word in words:
        assert word in result.stderr


def test_compute_prints_a_table(run):
    result = run("compute", "votes.csv", "--bootstrap", 100, "--sizes", "gallery.json")
    assert result.exit_code == 0, result.output
    for word in ("fp16", "95 % interval", "40 judges and 30 prompts", "100 rounds", "1.29 GB", "votes.csv"):
        assert word in result.stdout


def test_compute_json_and_out(run, tmp_path):
    result = run(
        "compute", "votes.csv", "--bootstrap", 100, "--anchor", "fp16=1000", "--json", "--out", "r.csv"
    )
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["settings"]["anchor"] == {"fp16": 1000}
    fp16 = next(row for row in document["ratings"] if row["method"] == "fp16")
    assert fp16["rating"] == pytest.approx(1000)
    assert "# rounds: 100" in (tmp_path / "r.csv").read_text()
    assert "wrote r.csv" in result.stderr


def test_options_reach_the_ratings(run):
    options = [
        "--k",
        8,
        "--base",
        1500,
        "--scale",
        200,
        "--seed",
        3,
        "--cluster",
        "prompt",
        "--bootstrap",
        20,
    ]
    settings = json.loads(run("compute", "votes.csv", *options, "--json").stdout)["settings"]
    wanted = {"k": 8, "base": 1500, "scale": 200, "seed": 3, "cluster": "prompt", "rounds": 20}
    assert {name: settings[name] for name in wanted} == wanted
    assert (
        json.loads(run("compute", "votes.csv", "--method", "elo", "--json").stdout)["settings"]["method"]
        == "elo"
    )


def test_map_and_question(run, five):
    renamed = five.rename(columns={"model_a": "L", "model_b": "R", "winner": "pick"})
    renamed["question"] = ["quality", "match"] * 400
    renamed.to_csv("other.csv", index=False)
    mapping = "model_a=L,model_b=R,winner=pick"
    refused(
        run("compute", "other.csv", "--map", mapping), "several questions ('match', 'quality')", "--question"
    )
    result = run("compute", "other.csv", "--map", mapping, "--question", "match", "--bootstrap", 0, "--json")
    assert json.loads(result.stdout)["settings"]["left_out"] == {"question=quality": 400}


def test_plot_pareto(run, tmp_path):
    for suffix in ("svg", "pdf", "png"):
        out = f"p.{suffix}"
        result = run("plot", "pareto", "votes.csv", "--sizes", "gallery.json", "-o", out, "--bootstrap", 50)
        assert result.exit_code == 0, result.output
        assert (tmp_path / out).stat().st_size > 1000
    assert "qsched" in (tmp_path / "p.svg").read_text()


def test_bad_input_is_one_line_and_exit_2(run, tmp_path, five):
    bad = five.copy()
    bad.loc[3, "winner"] = "neither"
    bad.to_csv("bad.csv", index=False)
    five.drop(columns="winner").to_csv("short.csv", index=False)
    (tmp_path / "sizes.csv").write_text("method,size_bytes\nfp16,big\n")
    before = sorted(tmp_path.iterdir())
    refused(
        run("compute", "bad.csv", "--out", "r.csv"),
        "bad.csv, line 5, column winner",
        "neither",
        "expected model_a",
    )
    refused(run("compute", "short.csv", "--out", "r.csv"), "short.csv: no column winner")
    refused(run("compute", "gone.csv"), "gone.csv: No such file")
    refused(run("compute", "sqlite:///gone.db"), "no such database file")
    for scheme in ("postgres", "postgresql"):
        refused(
            run("compute", f"{scheme}://me:topsecret@127.0.0.1:1/x"), f"{scheme}://127.0.0.1:1/x", "psycopg"
        )
    refused(run("compute", "votes.csv", "--out", "r.docx"), "r.docx", ".tex")
    refused(run("compute", "votes.csv", "--bootstrap", 0, "--out", "gone/r.csv"), "gone", "No such file")
    refused(run("compute", "votes.csv", "--sizes", "sizes.csv"), "sizes.csv, line 2", "'big'")
    refused(run("compute", "votes.csv", "--anchor", "fp8=1000"), "anchor 'fp8'", "fp16")
    refused(run("compute", "votes.csv", "--anchor", "fp16"), "--anchor fp16", "NAME=RATING")
    refused(run("compute", "votes.csv", "--anchor", "fp16=high"), "NAME=RATING")
    refused(run("compute", "votes.csv", "--map", "model_a"), "--map model_a", "OURS=THEIRS")
    refused(run("compute", "votes.csv", "--map", "model_a=img"), "no column 'img'")
    refused(run("compute", "votes.csv", "--k", "-3"), "k -3")
    refused(run("plot", "pareto", "votes.csv", "--sizes", "gallery.json", "-o", "p.gif"), "p.gif", ".svg")
    refused(run("plot", "pareto", "bad.csv", "--sizes", "gallery.json", "-o", "p.svg"), "bad.csv, line 5")
    refused(run("plot", "pareto", "votes.csv", "--sizes", "gone.json", "-o", "p.svg"), "gone.json")
    assert sorted(tmp_path.iterdir()) == before


def test_no_maximum_is_an_answer_not_a_failure(run, golden, tmp_path):
    golden("tiny")[1].to_csv("tiny.csv", index=False)
    result = run("compute", "tiny.csv")
    assert result.exit_code == 0
    assert "—" in result.stdout
    assert "burger never won or tied" in result.stdout
    (tmp_path / "s.csv").write_text("method,size_bytes\npizza,1\nsushi,2\n")
    refused(
        run("plot", "pareto", "tiny.csv", "--sizes", "s.csv", "-o", "p.svg"), "no ratings to plot", "burger"
    )


@pytest.mark.parametrize("command", [["compute"], ["plot", "pareto"], ["plot", "bars"]])
def test_help_has_an_example(run, command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"elo {' '.join(command)} votes" in result.stdout


def test_plot_bars(run, tmp_path):
    result = run("plot", "bars", "votes.csv", "--against", "FP16", "-o", "b.svg", "--json")
    assert result.exit_code == 0, result.output
    assert "fp16 preferred" in (tmp_path / "b.svg").read_text()
    (panel,) = json.loads(result.stdout)["panels"]
    assert {row["method"] for row in panel} == {"w8a8", "qsched", "w4a8", "w4a4"}
    refused(run("plot", "bars", "votes.csv", "--against", "w2", "-o", "b.svg"), "against 'w2'", "fp16")


def test_plot_pareto_of_another_cost_and_its_numbers(run, tmp_path):
    (tmp_path / "cost.csv").write_text("method,latency_ms\nfp16,40\nw8a8,25.5\nqsched,12\nw4a8,\n")
    options = ["--sizes", "cost.csv", "--cost", "latency_ms", "--bootstrap", 50, "-o", "p.svg", "--json"]
    result = run("plot", "pareto", "votes.csv", *options)
    assert result.exit_code == 0, result.output
    assert "latency (ms), log scale" in (tmp_path / "p.svg").read_text()
    (panel,) = json.loads(result.stdout)["panels"]
    assert [row["latency_ms"] for row in panel["methods"] if row["method"] == "w8a8"] == [25.5]
    assert len(panel["methods"]) == 3


def test_compare(run, five):
    five[:600].to_csv("early.csv", index=False)
    result = run("compare", "early.csv", "votes.csv", "--bootstrap", 50)
    assert result.exit_code == 0, result.output
    assert "No rating changed beyond chance" in result.stdout
    document = json.loads(run("compare", "early.csv", "votes.csv", "--bootstrap", 50, "--json").stdout)
    assert (document["before"]["votes"], document["after"]["votes"]) == (600, 800)
    refused(run("compare", "early.csv", "gone.csv"), "gone.csv: No such file")
    assert "elo compare monday.parquet" in run("compare", "--help").stdout


def test_rows_that_cannot_be_read_are_skipped_and_counted(run, five):
    five.loc[3, "winner"] = "neither"
    five.to_csv("bad.csv", index=False)
    result = run("compute", "bad.csv", "--on-error", "skip", "--bootstrap", 0, "--json")
    assert json.loads(result.stdout)["settings"]["left_out"] == {"unreadable winner": 1}


def test_compare_with_metrics(run, five, tmp_path):
    images = five[["model_a", "prompt_id"]].drop_duplicates().set_axis(["method", "prompt_id"], axis=1)
    strength = images["method"].map({"fp16": 5, "w8a8": 4, "qsched": 3, "w4a8": 2, "w4a4": 1})
    images.assign(good=strength, upside_down=-strength, file="x.png").to_csv("metrics.csv", index=False)
    compare = ("compare", "votes.csv", "--metrics", "metrics.csv", "--bootstrap", 50)
    result = run(*compare)
    assert result.exit_code == 0, result.output
    for word in (
        "good",
        "Kendall",
        "40 judges and 30 prompts",
        "rounds over prompts",
        "metrics.csv",
        "--lower",
    ):
        assert word in result.stdout
    result = run(*compare, "--lower", "upside_down", "--json", "--out", "agreement.csv")
    document = json.loads(result.stdout)
    one, other = document["metrics"]
    assert one["accuracy"] == other["accuracy"] > 0.5
    assert (one["better"], other["better"]) == ("higher", "lower")
    assert document["settings"]["metrics"] == "metrics.csv"
    assert "# seed: 0" in (tmp_path / "agreement.csv").read_text()
    refused(run(*compare, "--out", "agreement.tex"), "agreement.tex", ".csv, .json")
    refused(run(*compare, "--lower", "best"), "metrics.csv: no metric 'best'")
    refused(run("compare", "votes.csv", "--metrics", "gone.csv"), "gone.csv: No such file")
    refused(run("compare", "votes.csv"), "a second file of votes, or --metrics")
    refused(run("compare", "votes.csv", "votes.csv", "--metrics", "metrics.csv"), "a second file of votes")
    refused(run("compare", "votes.csv", "votes.csv", "--out", "a.csv"), "--out: only with --metrics")
