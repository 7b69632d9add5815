"""The floors of the house: which package may import which, and that the light ones stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "elo": {"elo"},
    "qsched": {"qsched"},
    "study": {"study", "elo"},
    "generator": {"generator", "qsched", "study"},
}
HEAVY = {"torch", "diffusers", "transformers", "open_clip", "torchvision"}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_downstairs_only(package):
    for file in (ROOT / package).rglob("*.py"):
        found = set(imported(file))
        assert found & set(MAY_IMPORT) <= MAY_IMPORT[package], file
        if package in ("elo", "study"):
            assert not found & HEAVY, file


@pytest.mark.parametrize("module", ["elo.cli", "study.cli", "study.app", "qsched.cli", "generator.cli"])
def test_commands_start_without_torch(module):
    code = f"import sys, {module}; assert not {HEAVY!r} & set(sys.modules), sys.modules.keys() & {HEAVY!r}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
