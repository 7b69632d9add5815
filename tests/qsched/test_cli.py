import dataclasses
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from qsched.cli import cli, findings_of
from qsched.coefficients import Scores, write_coefficients
from qsched.jaq import PairedGain


@pytest.fixture
def path(file, tmp_path):
    write_coefficients(tmp_path / "w4a8.qsched.json", file)
    return str(tmp_path / "w4a8.qsched.json")


def gain(mean, margin, before=1.5):
    return PairedGain(before, before + mean, mean, mean - margin, mean + margin, 100)


def test_show(path):
    result = CliRunner().invoke(cli, ["show", path])
    assert result.exit_code == 0
    for text in [
        "shapes w4a8, LCMScheduler, 2 steps",
        "0.9750",
        "1.0500",
        "+0.0300 … +0.0700",
        "held-out",
        "300",
    ]:
        assert text in result.output
    assert "exceeds that of the full-precision control by 0.0300 (± 0.0224)" in result.output


def test_show_tells_what_the_search_took(file, tmp_path):
    spent = file.model_copy(update={"search": {"how": "race", "nfe": 3496}})
    write_coefficients(tmp_path / "raced.qsched.json", spent)
    result = CliRunner().invoke(cli, ["show", str(tmp_path / "raced.qsched.json")])
    assert "2 calibration prompts; race, 3,496 NFE" in result.output


def test_few_calibration_prompts_are_told(file):
    assert findings_of(file.scores)[0].startswith("20 calibration prompts are few")
    enough = {"calibration": dataclasses.replace(file.scores.calibration, prompts=64)}
    assert "few" not in findings_of(file.scores.model_copy(update=enough))[0]


def test_show_as_json(path, file):
    result = CliRunner().invoke(cli, ["show", path, "--json"])
    content = json.loads(result.output)
    assert content["c_x"] == [1.0, 0.975]
    assert content["findings"] == findings_of(file.scores)


def test_the_control_with_a_search_of_its_own_is_told(file):
    scores = file.scores.model_copy(update={"control_searched": gain(0.02, 0.01)})
    told = "The same search, made for the full-precision model, gains it +0.0200 on held-out prompts."
    assert told in findings_of(scores)
    assert told not in findings_of(file.scores)


SURE, CONTROL = gain(0.05, 0.01), gain(0.01, 0.01)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (
            {"held_out": SURE, "control": CONTROL},
            [
                "On held-out prompts the gain over naive quantization is more than chance: +0.0500.",
                "by 0.0400 (± 0.0141).",
                "No second judge",
            ],
        ),
        (
            {"held_out": SURE, "control": gain(0.03, 0.03)},
            ["more than chance", "interval of the difference holds 0 (± 0.0316)", "No second judge"],
        ),
        (
            {"held_out": gain(0.028, 0.01), "control": gain(0.029, 0.01)},
            ["more than chance", "does not exceed that of the full-precision control (+0.0290)", "No second"],
        ),
        (
            {"held_out": gain(0.01, 0.02), "control": gain(0.0, 0.02)},
            ["holds 0: it may be chance", "the difference holds 0 (± 0.0283)", "No second judge"],
        ),
        (
            {
                "held_out": SURE,
                "control": CONTROL,
                "held_out_judged": gain(-0.01, 0.02),
                "control_judged": SURE,
            },
            ["more than chance", "by 0.0400", "By the second judge there is no gain", "does not exceed"],
        ),
        (
            {"held_out": SURE, "control": None, "held_out_judged": SURE},
            ["more than chance", "No full-precision control", "By the second judge the gain over"],
        ),
        (
            {"held_out": None, "control": None},
            ["No held-out prompts", "On the calibration prompts the gain over naive quantization is more"],
        ),
    ],
)
def test_findings_are_honest(scores, expected):
    findings = findings_of(Scores(calibration=gain(0.1, 0.01), **scores))
    assert len(findings) == len(expected)
    for finding, text in zip(findings, expected, strict=True):
        assert text in finding


def test_bad_input_is_one_line_and_exit_2(path, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    for arguments in (
        ["show", str(tmp_path / "missing")],
        ["show", str(tmp_path / "bad.json")],
        ["apply", path, str(tmp_path), "-o", str(tmp_path / "out")],
    ):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"qsched: {tmp_path}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [None, *cli.commands])
def test_help(command):
    result = CliRunner().invoke(cli, [command, "--help"] if command else ["--help"])
    assert result.exit_code == 0
    assert command is None or "Example: qsched" in result.output


def test_help_imports_nothing_heavy():
    code = "import sys, qsched.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "pydantic", "rich"} & set(modules.split())
