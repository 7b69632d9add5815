"""The commands of docs/reproduce-q-sched.md, run as they stand on tiny random checkpoints and few prompts."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from page_commands import commands_of
from PIL import Image

from generator.cli import cli
from generator.methods import mixdq
from generator.models import ENTRIES
from study import gallery

PAGE = (Path(__file__).parents[2] / "docs" / "reproduce-q-sched.md").read_text()
TEXTS = {f"{i:04d}": f"a fox and {i} dogs" for i in range(24)}
DRAWN = 3
pytestmark = [pytest.mark.matrix, pytest.mark.usefixtures("small_methods", "small_searches")]


def of_section(heading):
    """The commands under a heading of the page; of a loop what its first round does."""
    section = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    loops = re.compile(r"^for (\w+) in (\S+) .*?; do\n(.*?)^done$", re.M | re.S)
    section = loops.sub(lambda loop: loop[3].replace(f"${loop[1]}", loop[2]), section)
    return [words[1:] for words in commands_of(section) if words[0] == "generator"]


@pytest.fixture
def there(tiny, tiny_scorers, tmp_path, monkeypatch):
    """What the page says must be there, all of it small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAIRSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    sets = tmp_path / "cache" / "prompts"
    sets.mkdir(parents=True)
    (sets / "sDCI.yaml").write_text("".join(f"sa_{id_}: {text}\n" for id_, text in TEXTS.items()))
    (sets / "meta_data.json").write_text(
        json.dumps({id_: {"prompt": text, "category": "animals"} for id_, text in TEXTS.items()})
    )
    rows = "".join(f"{id_},{text}\n" for id_, text in list(TEXTS.items())[:DRAWN])
    Path("coco_30k.csv").write_text(f"id,prompt\n{rows}")
    Path("scorers").symlink_to(tiny_scorers)
    generator = np.random.default_rng(0)
    for folder in (Path("val2014"), Path("mjhq30k_imgs")):
        folder.mkdir()
        for i in range(DRAWN):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    for bits in ("CONTENT_BITS", "QUALITY_BITS"):
        monkeypatch.setattr(mixdq, bits, (4,))
    for id_ in ("pcm-sd15-2", "pcm-sdxl", "sdxl-50", "sdxl-turbo", "flux-schnell"):
        monkeypatch.setitem(ENTRIES, id_, tiny(ENTRIES[id_], steps=2))


@pytest.mark.parametrize(
    ("heading", "galleries"),
    [
        ("Table 1", {"pcm-sd15-2": 4}),
        ("Table 2a", {"pcm-sdxl": 4, "teacher": 1}),
        ("Table 2b", {"turbo": 7, "flux": 4}),
    ],
)
def test_the_commands_of_a_table_make_its_galleries_and_metrics(there, heading, galleries):
    for command in of_section(heading):
        words = [str(DRAWN) if word == "5000" else word for word in command]
        few = ["--captions", "8", "--heldout", "3"] if words[0] == "calibrate" else []
        result = CliRunner().invoke(cli, [*words, *few])
        assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"
    for folder, methods in galleries.items():
        assert len(gallery.read_gallery(folder).images) == methods * DRAWN
        assert (Path(folder) / "metrics.parquet").exists() == (folder != "teacher")
