import json

import pytest

from qsched.coefficients import (
    Coefficients,
    CoefficientsError,
    read_coefficients,
    write_coefficients,
)


def test_ends_by_hand():
    # The published set for SDXL-Turbo, 4 steps, W4A4.
    c = Coefficients.from_ends(1.012, 0.967, 0.955, 1.099, steps=4)
    assert c.steps == 4
    assert c.c_x == pytest.approx((1.012, 0.997, 0.982, 0.967))
    assert c.c_eps == pytest.approx((0.955, 1.003, 1.051, 1.099))


def test_equal_ends_give_exactly_that_number():
    assert Coefficients.from_ends(1.1, 1.1, 1, 1, steps=7) == Coefficients((1.1,) * 7, (1.0,) * 7)


def test_one_step_takes_the_start():
    assert Coefficients.from_ends(0.9, 1.1, 1.2, 0.8, steps=1) == Coefficients((0.9,), (1.2,))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 50])
def test_evenly_spaced_coefficients_are_so_over_any_number_of_steps(steps):
    ends = (1.012, 0.967, 0.955, 1.099)
    fitted, expected = (
        Coefficients.from_ends(*ends, 4).interpolated(steps),
        Coefficients.from_ends(*ends, steps),
    )
    assert fitted.c_x == pytest.approx(expected.c_x)
    assert fitted.c_eps == pytest.approx(expected.c_eps)


def test_interpolation_keeps_to_the_known_steps():
    c = Coefficients((1.0, 1.2, 0.8), (1.0, 1.0, 1.1))
    assert c.interpolated(5).c_x == pytest.approx((1.0, 1.1, 1.2, 1.0, 0.8))
    assert c.interpolated(3) == c
    assert Coefficients((0.9,), (1.2,)).interpolated(3) == Coefficients((0.9,) * 3, (1.2,) * 3)


def test_identity():
    assert (
        Coefficients.identity(2)
        == Coefficients.from_ends(1, 1, 1, 1, 2)
        == Coefficients((1.0, 1.0), (1.0, 1.0))
    )


@pytest.mark.parametrize(
    ("c_x", "c_eps", "message"),
    [
        ([], [], "at least one step"),
        ([1, 1], [1], "c_x has 2 steps, but c_eps has 1"),
        ([1, 0], [1, 1], r"c_x must be finite and positive: \[1.0, 0.0\]"),
        ([1], [float("inf")], "c_eps must be finite"),
        ([1], [float("nan")], "c_eps must be finite"),
    ],
)
def test_bad_values_are_refused(c_x, c_eps, message):
    with pytest.raises(ValueError, match=message):
        Coefficients(c_x, c_eps)


def test_written_and_read(file, tmp_path):
    path = tmp_path / "w4a8.qsched.json"
    write_coefficients(path, file)
    assert read_coefficients(path) == file
    assert read_coefficients(path).coefficients == Coefficients((1.0, 0.975), (1.05, 1.0))
    assert list(tmp_path.iterdir()) == [path]  # nothing temporary is left
    assert json.loads(path.read_text())["scores"]["calibration"]["gain"] == 0.1


def test_a_failed_write_leaves_the_old_file(file, tmp_path, monkeypatch):
    path = tmp_path / "w4a8.qsched.json"
    write_coefficients(path, file)

    def full_disk(_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_coefficients(path, file.model_copy(update={"method": "w4a4"}))
    assert read_coefficients(path) == file
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_x": [1.0, -1.0]}, "c_x must be finite and positive"),
        ({"c_x": [1.0, "x"]}, r"c_x\.1: "),
        ({"steps": 3}, "steps is 3, but c_x and c_eps have 2"),
        ({"k": None}, "k: "),
        ({"colour": 1}, "colour: Extra inputs"),
        ({"calibration_prompts": []}, "calibration_prompts: "),
        ({"scores": {"calibration": {"before": 1.0}}}, r"scores\.calibration\.after: "),
        ({"format": "qsched/2"}, "format: "),
    ],
)
def test_a_bad_field_is_named(file, tmp_path, change, message):
    path = tmp_path / "bad.qsched.json"
    path.write_text(json.dumps(file.model_dump(mode="json") | change))
    with pytest.raises(CoefficientsError, match=rf"bad\.qsched\.json: .*{message}"):
        read_coefficients(path)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "text").write_text("hello")
    for name, message in [("text", "Invalid JSON"), ("missing", "No such file"), (".", "directory")]:
        with pytest.raises(CoefficientsError, match=message):
            read_coefficients(tmp_path / name)
