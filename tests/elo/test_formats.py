import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import elo
from elo import formats, terminal, typeset
from elo.cells import interval
from elo.tables import COLUMNS

AWKWARD = "w4_a8 & <50 % | #1 \\ {x}~^$"


@pytest.fixture
def table(five, sizes):
    five = five.replace({"qsched": AWKWARD})
    return elo.compute(elo.read_votes(five), bootstrap=100, sizes={**sizes, AWKWARD: 1_310_000_000})


@pytest.fixture
def unknown(golden):
    return elo.compute(elo.read_votes(golden("tiny")[1]))


def test_csv_parses_back_with_settings_in_comments(table, unknown):
    for made in (table, unknown):
        text = formats.to_csv(made)
        header = [line for line in text.splitlines() if line.startswith("#")]
        parsed = pd.read_csv(io.StringIO("".join(text.splitlines(keepends=True)[len(header) :])))
        assert tuple(parsed.columns) == COLUMNS
        for name in COLUMNS:
            expected = made.ratings[name]
            if name == "method":
                assert parsed[name].tolist() == expected.tolist()
            else:
                np.testing.assert_allclose(
                    parsed[name], expected.to_numpy(float, na_value=np.nan), rtol=1e-12
                )
        told = dict(line[2:].split(": ", 1) for line in header if not line.startswith("# note"))
        assert {key: json.loads(value) for key, value in told.items()} == made.settings
        assert [line[8:] for line in header if line.startswith("# note")] == made.notes


def test_csv_reads_with_comments_skipped(table):
    parsed = pd.read_csv(io.StringIO(formats.to_csv(table)), comment="#")
    assert tuple(parsed.columns) == COLUMNS
    assert len(parsed) == 5


def test_json_parses_back(table, unknown):
    document = json.loads(formats.to_json(table))
    assert document["settings"] == table.settings
    assert document["notes"] == table.notes
    assert [row["method"] for row in document["ratings"]] == table.ratings["method"].tolist()
    assert tuple(document["ratings"][0]) == COLUMNS
    assert document["ratings"][0]["rating"] == table.ratings["rating"][0]
    assert set(document["rank_ranges"]) == set(table.ratings["method"])
    first = json.loads(formats.to_json(unknown))["ratings"][0]
    assert (first["rank"], first["rating"], first["size_gb"], first["wins"]) == (None, None, None, 1)


HEADS = ["Rank", "Method", "Rating", "95 % interval", "Ranks", "Votes", "Won", "Lost", "Tied"]
HEADS += ["Win %", "Elo", "Size"]


def shown(table):
    """What the rows of every rendering must say, told in another way."""
    rows = []
    for row, (low, high) in zip(table.ratings.to_dict("records"), table.rank_ranges(), strict=True):
        rows.append(
            [
                f"{row['rank']}",
                row["method"],
                f"{row['rating']:.0f}",
                f"{row['ci_low']:.0f} to {row['ci_high']:.0f}",
                f"{low}–{high}" if low < high else f"{low}",
                *(f"{row[name]}" for name in ("votes", "wins", "losses", "ties")),
                f"{100 * row['win_rate']:.1f}",
                f"{row['elo']:.0f}",
                f"{row['size_gb']:.3g} GB",
            ]
        )
    return rows


def test_markdown_parses_back(table):
    lines = [line for line in typeset.to_markdown(table).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert rows[0] == HEADS
    assert [[re.sub(r"\\(.)", r"\1", cell) for cell in row] for row in rows[2:]] == shown(table)


def test_latex_has_the_rows_and_escapes(table, unknown):
    text = typeset.to_latex(table)
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in body]
    assert [[cell.replace("--", "–") for cell in row[2:]] for row in cells] == [
        row[2:] for row in shown(table)
    ]
    name = r"w4\_a8 \& \textless{}50\,\% \textbar{} \#1 \textbackslash{} "
    assert name + r"\{x\}\textasciitilde{}\textasciicircum{}\$" in [row[1] for row in cells]
    assert '% cluster: "both"' in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert "---" in typeset.to_latex(unknown)


def test_html_is_well_formed_and_parses_back(table, unknown):
    root = ElementTree.fromstring(typeset.to_html(table).removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 (our own)
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    picture = HEADS.index("95 % interval") + 1
    assert [[*row[:picture], *row[picture + 1 :]] for row in rows] == [HEADS, *shown(table)]
    assert "http" not in typeset.to_html(table)
    lines = [(float(line.get("x1")), float(line.get("x2"))) for line in root.iter("line")]
    dots = [float(dot.get("cx")) for dot in root.iter("circle")]
    assert len(lines) == len(dots) == 5
    # one axis: pixels are points
    ends = table.ratings[["ci_low", "rating", "ci_high"]].to_numpy(float)
    drawn = np.column_stack([np.array(lines)[:, 0], dots, np.array(lines)[:, 1]])
    slope, start = np.polyfit(ends.ravel(), drawn.ravel(), 1)
    np.testing.assert_allclose(start + slope * ends, drawn, atol=0.1)
    assert "<svg" not in typeset.to_html(unknown)


def test_ratings_below_zero_have_a_minus_that_looks_like_one(five):
    text = typeset.to_markdown(elo.compute(elo.read_votes(five), bootstrap=0, base=0))
    assert re.search(r"\| −\d+ \| −\d+ to −?\d+ \|", text)
    assert interval(-0.4, 3) == "0 to 3"


def test_every_format_carries_settings_and_notes(table):
    for render in (typeset.to_markdown, typeset.to_latex, typeset.to_html, terminal.to_terminal):
        text = " ".join(render(table).split())
        for word in (
            "bradley-terry",
            "K = 32",
            "mean 1000",
            "scale 400",
            "800 votes",
            "40 judges",
            "seed 0",
            "100 rounds",
        ):
            assert word in text, (render, word)
        assert "left out: nothing" in text
        assert "Only 40 judges" in text


def test_terminal_table(table, unknown):
    text = terminal.to_terminal(table)
    assert AWKWARD in text
    top = table.ratings.iloc[0]
    assert f"{top['rating']:.0f}" in text
    assert f"{top['ci_low']:.0f} to {top['ci_high']:.0f}" in " ".join(text.split())
    assert "\x1b" not in text
    assert "\x1b[" in terminal.to_terminal(table, width=100, color=True)
    assert max(map(len, text.splitlines())) <= 110
    narrow = terminal.to_terminal(table, width=80)
    assert "won" in text
    assert "won" not in narrow
    assert max(map(len, narrow.splitlines())) < 95
    assert "1.31 GB" in text
    assert "—" in terminal.to_terminal(unknown)
    assert "burger never won or tied" in " ".join(terminal.to_terminal(unknown).split())


def test_files_are_written_whole_or_not_at_all(table, tmp_path):
    for suffix, render in formats.WRITERS.items():
        elo.write_table(table, tmp_path / f"ratings{suffix}")
        assert (tmp_path / f"ratings{suffix}").read_text() == render(table)
    assert len(list(tmp_path.iterdir())) == len(formats.WRITERS)
    with pytest.raises(elo.SettingsError, match=r"expected .csv, .json, .md, .tex, .html"):
        elo.write_table(table, tmp_path / "ratings.xlsx")
    with pytest.raises(OSError, match="No such file"):
        elo.write_table(table, tmp_path / "gone" / "ratings.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match="directory"):
        elo.write_table(table, tmp_path / "folder.csv")
    assert not list(tmp_path.glob(".*"))
