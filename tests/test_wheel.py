"""What is installed is what was tested: the built wheel holds everything the commands read."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_templates_static_files_migrations_and_weights_travel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("templates", "study/templates"), ("static", "study/static")):
        for file in (ROOT / folder).rglob("*.*"):
            assert f"{inside}/{file.relative_to(ROOT / folder)}" in names
    for pattern in (
        "study/migrations/**/*.py",
        "generator/shapes/open_clip/*.json",
        "generator/calibrated/*",
        "study/translations/*/LC_MESSAGES/*.po",
        "generator/prompts/data/*",
    ):
        found = [str(file.relative_to(ROOT)) for file in ROOT.glob(pattern)]
        assert found, pattern
        assert set(found) <= names
    for name in ("unet", "vae", "text_encoder", "clip", "judge"):
        assert f"generator/shapes/weights/{name}.safetensors" in names
    assert not [name for name in names if name.startswith(("tests/", "templates/", "static/"))]


def test_a_study_is_made_and_shown_from_the_installed_wheel_alone(wheel, tmp_path):
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    env.pop("DATABASE_URL", None)
    script = f"""
import pathlib, runpy, sys
import study, study.cli
assert pathlib.Path(study.__file__).is_relative_to({str(site)!r}), study.__file__
gallery = {str(ROOT / "demo" / "gallery")!r}
for arguments in (["init", "s"], ["ingest", gallery, "--study", "s"], ["open", "--study", "s"]):
    study.cli.cli(arguments, standalone_mode=False)
from study.app import create_app
app = create_app({{"STUDY": pathlib.Path("s").resolve(), "SECRET_KEY": "x" * 32}})
client = app.test_client()
assert b"Start" in client.get("/").data
assert client.get("/static/vote.js").status_code == 200
study.cli.cli(["export", "--study", "s", "-o", "votes.csv"], standalone_mode=False)
assert "## Protocol" in pathlib.Path("README.md").read_text()
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=home, env=env)
