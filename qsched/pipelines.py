"""Put coefficients into a saved diffusers pipeline, without loading its weights."""

import json
import shutil
import tempfile
from pathlib import Path

from qsched.coefficients import CoefficientsError, CoefficientsFile


def apply_to_pipeline(file: CoefficientsFile, pipeline: Path, out: Path) -> str:
    """Copy the pipeline folder to `out`, with the Q-Sched twin of its scheduler; return the twin's name.

    A pipeline with a Q-Sched scheduler gets the new coefficients. `out` appears whole or not at all.

    Raises:
        CoefficientsError: no saved pipeline, a scheduler the coefficients are not for, or `out` exists.
    """
    index_path = pipeline / "model_index.json"
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        name = str(index["scheduler"][1]).removeprefix("QSched")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise CoefficientsError(f"{index_path}: not the index of a pipeline with a scheduler") from error
    if name != file.scheduler:
        raise CoefficientsError(f"{pipeline}: has a {name}, but the coefficients are for {file.scheduler}")
    if out.exists():
        raise CoefficientsError(f"{out}: exists already")
    if out.resolve().is_relative_to(pipeline.resolve()):
        raise CoefficientsError(f"{out}: lies within the pipeline itself")

    from qsched.schedulers import twin_of  # imports diffusers

    twin = twin_of(name)
    if twin is None:
        raise CoefficientsError(f"{pipeline}: {name} has no Q-Sched twin")
    config = twin.load_config(pipeline, subfolder="scheduler", local_files_only=True)
    scheduler = twin.from_config(config, c_x=list(file.c_x), c_eps=list(file.c_eps))

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        copy = Path(temporary, out.name)
        shutil.copytree(pipeline, copy)
        scheduler.save_pretrained(copy / "scheduler")
        index["scheduler"] = [twin.__module__, twin.__name__]
        (copy / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        copy.rename(out)
    return str(twin.__name__)
