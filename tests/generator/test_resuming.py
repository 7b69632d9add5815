"""Runs that are stopped, by whatever it is, and go on with the same command."""

import errno
import json
import os
import shutil
import subprocess
import sys
import unittest.mock
from pathlib import Path

import pytest
import small_run as small
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from generator import sweep
from study import gallery

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def killer():
    """Makes the small run in another process that is killed on its way: `killer(folder, steps)`."""
    command = [sys.executable, Path(__file__).parent / "small_run.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, env=environment, text=True, stdin=-1, stdout=-1, stderr=-3) as process:

        def run(folder, steps):
            print(json.dumps([str(folder), steps]), file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        yield run
        process.stdin.close()


@settings(max_examples=12)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 300))
def test_a_killed_run_goes_on_to_the_same_pictures(made, killer, tmp_path_factory, kills, torn):
    folder = tmp_path_factory.mktemp("killed") / "gallery"
    recorded = 0
    for steps in kills:
        if killer(folder, steps) == "done":
            break
        assert not (folder / "gallery.json").exists()
        rows = len(gallery.read_images(folder))
        assert rows >= recorded, "what was recorded is lost"
        recorded = rows
    rows = folder / "images.jsonl"
    if rows.exists() and not (folder / "gallery.json").exists():
        os.truncate(rows, max(0, rows.stat().st_size - torn))  # a machine that went down with it
    left = small.TOTAL - len(gallery.read_images(folder)) if folder.exists() else small.TOTAL
    with unittest.mock.patch("os.fsync"), unittest.mock.patch("gc.collect"):  # they only cost time here
        assert small.run(folder).new == left
    assert small.files(folder) == small.files(made)
    assert len(gallery.read_gallery(folder).images) == small.TOTAL
    assert {path.name for path in (folder / ".run").iterdir()} == {"lock", "log.jsonl", "run.json"}
    assert [path.name for path in folder.rglob(".*")] == [".run"]


def test_ctrl_c_keeps_what_was_drawn(made, tmp_path, monkeypatch):
    with small.interrupted_at_the_third(monkeypatch):
        small.run(tmp_path / "g")
    assert len(gallery.read_images(tmp_path / "g")) == 2 * small.BATCH
    assert small.run(tmp_path / "g").new == small.TOTAL - 2 * small.BATCH
    assert small.files(tmp_path / "g") == small.files(made)


def test_a_full_disk_is_told_and_nothing_is_lost(made, tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(sweep.recorder, "ENCODERS", 1)  # more of them could fill it before there is a row
        with pytest.raises(sweep.SweepError, match="the disk is full; what is recorded is kept"):
            small.run(tmp_path / "g")
    kept = len(gallery.read_images(tmp_path / "g"))
    assert 0 < kept < small.TOTAL
    assert not list((tmp_path / "g").rglob("*.partial"))
    assert small.run(tmp_path / "g").new == small.TOTAL - kept
    assert small.files(tmp_path / "g") == small.files(made)


@pytest.mark.parametrize(
    "step",
    [
        "generator.sweep.conditions.Conditions.of",
        "generator.sweep.ledger.Ledger.save",
        "generator.sweep.progress.Progress.event",
        "study.gallery.write_gallery_json",
    ],
)
def test_a_disk_that_is_full_at_any_other_step_is_told_too(made, tmp_path, monkeypatch, step):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        with pytest.raises(sweep.SweepError, match="the disk is full"):
            small.run(tmp_path / "g")
    small.run(tmp_path / "g")
    assert small.files(tmp_path / "g") == small.files(made)


def test_a_disk_that_will_not_suffice_is_told_before_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 100))
    with pytest.raises(sweep.SweepError, match=r"the pictures to come take about 0\.0 MB, 0\.0 MB are free"):
        small.run(tmp_path / "g")


def test_pictures_that_may_not_fit_are_told_before_the_first(tmp_path, monkeypatch, capsys):
    """7 prompts × 2 methods of 16 × 16 pixels, three bytes each: 10,752."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, free))
    base = small.model(arguments={"height": 16, "width": 16})
    for free, told in ((10_752, 0), (10_751, 1)):
        small.run(tmp_path / str(free), base=base)
        assert capsys.readouterr().err.count("the pictures to come take up to 0.0 MB") == told


def test_two_runs_do_not_draw_into_one_gallery(tmp_path):
    (tmp_path / "g" / ".run").mkdir(parents=True)
    with (
        FileLock(tmp_path / "g" / ".run" / "lock"),
        pytest.raises(sweep.SweepError, match="another run is drawing into it"),
    ):
        small.run(tmp_path / "g")
    assert small.run(tmp_path / "g").new == small.TOTAL
