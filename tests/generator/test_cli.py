import pytest
from click.testing import CliRunner

from generator.cli import cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "fp16, fp17"], "method 'fp17': unknown; expected one of fp16"),
        (["--model", "sdxl", "--methods", "fp16"], "--model 'sdxl': unknown; see: generator models list"),
        (["--methods", "fp16", "--prompts", "none.txt"], "none.txt: cannot be read"),
        (["--methods", "fp16", "-n", "5000"], "5000 prompts asked for, but the set has 1000"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    result = CliRunner().invoke(cli, ["run", *arguments, "-o", str(tmp_path / "g")])
    assert not (tmp_path / "g").exists()
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["run", "--methods", "fp16", "-n", "2", "-o", "a-file"], "a-file: Not a directory"),
        (["run", "--methods", "fp16", "-n", "2", "-o", "a-file", "--dry-run"], "a-file: Not a directory"),
        (["prompts", "export", "partiprompts", "-o", "a-file/p.csv"], "a-file: File exists"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line_and_exit_code_2(tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    result = CliRunner().invoke(cli, command)
    assert (result.exit_code, result.stderr) == (2, f"Error: {message}\n")


@pytest.mark.parametrize(("command", "kind"), [("calibrate", "qsched"), ("ptqd", "ptqd")])
def test_nothing_is_made_for_a_method_that_nothing_draws_with(tmp_path, command, kind):
    result = CliRunner().invoke(cli, [command, "--method", "fp16", "-o", str(tmp_path / "x.json")])
    assert result.exit_code == 2
    assert f"--method 'fp16': there is no method {kind}-fp16 that would draw with it" in result.stderr
