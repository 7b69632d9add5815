import json
import os
import subprocess
import sys

import pytest

if not os.environ.get("CI"):  # in CI a missing diffusers is a failure
    pytest.importorskip("diffusers")
import diffusers
from click.testing import CliRunner

from qsched import schedulers
from qsched.cli import cli
from qsched.coefficients import CoefficientsError, write_coefficients
from qsched.pipelines import apply_to_pipeline


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A saved pipeline with settings of its own in the scheduler."""
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    folder = tmp_path_factory.mktemp("pipelines") / "lcm"
    diffusers.DDPMPipeline(unet, diffusers.LCMScheduler(timestep_spacing="trailing")).save_pretrained(folder)
    return folder


def test_apply(file, pipeline, tmp_path):
    write_coefficients(tmp_path / "c.json", file)
    out = tmp_path / "new" / "lcm-qsched"
    result = CliRunner().invoke(cli, ["apply", str(tmp_path / "c.json"), str(pipeline), "-o", str(out)])
    advice = "to load it, import qsched.schedulers first"
    assert (result.exit_code, result.output) == (0, f"{out}: QSchedLCMScheduler with 2 steps; {advice}\n")
    loaded = diffusers.DiffusionPipeline.from_pretrained(out, local_files_only=True)
    assert type(loaded.scheduler) is schedulers.QSchedLCMScheduler
    assert loaded.scheduler.config.timestep_spacing == "trailing"
    assert loaded.scheduler.coefficients == file.coefficients
    assert list(out.parent.iterdir()) == [out]  # nothing temporary is left
    # The original is as it was.
    assert json.loads((pipeline / "model_index.json").read_text())["scheduler"] == [
        "diffusers",
        "LCMScheduler",
    ]


def test_another_process_loads_it(file, pipeline, tmp_path):
    """diffusers imports no module that a pipeline's index names, so the reader of the file has to."""
    apply_to_pipeline(file, pipeline, tmp_path / "out")
    program = """
import sys
import qsched.schedulers
from diffusers import DiffusionPipeline
loaded = DiffusionPipeline.from_pretrained(sys.argv[1], local_files_only=True)
print(type(loaded.scheduler).__name__, loaded.scheduler.config.c_x)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"QSchedLCMScheduler {list(file.c_x)}\n"


def test_applied_again_takes_the_new_coefficients(file, pipeline, tmp_path):
    apply_to_pipeline(file, pipeline, tmp_path / "one")
    other = file.model_copy(update={"c_x": (1.2, 1.1)})
    apply_to_pipeline(other, tmp_path / "one", tmp_path / "two")
    scheduler = schedulers.QSchedLCMScheduler.from_pretrained(tmp_path / "two", subfolder="scheduler")
    assert scheduler.config.c_x == [1.2, 1.1]


def test_what_does_not_fit_is_refused(file, pipeline, tmp_path):
    euler = file.model_copy(update={"scheduler": "EulerDiscreteScheduler"})
    for content, folder, out, message in [
        (euler, pipeline, tmp_path / "out", "has a LCMScheduler, but the coefficients are for Euler"),
        (file, pipeline, tmp_path, "exists already"),
        (file, pipeline, pipeline / "out", "within the pipeline"),
        (file, tmp_path, tmp_path / "out", "not the index of a pipeline"),
    ]:
        with pytest.raises(CoefficientsError, match=message):
            apply_to_pipeline(content, folder, out)
    assert not list(tmp_path.iterdir())
