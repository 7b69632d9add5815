"""What a base model is: a pipeline, how it samples, and which of its layers stay in full precision.

The models that come along are the .toml files of this folder (`entries`) and the shapes world (`shapes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from generator.models import shapes
from generator.models.entries import Entry, ModelError, read_entries

if TYPE_CHECKING:  # torch is imported when a model is loaded, so that they can be listed without it
    from diffusers import DiffusionPipeline

    from generator.metrics import ClipScorer

SHIPPED = Path(__file__).parent.parent / "calibrated"  # for the shapes world

__all__ = ["MODELS", "BaseModel", "ModelError", "file_of", "find_model", "of_entry"]


@dataclass(frozen=True)
class BaseModel:
    """A text-to-image model before any method touches it.

    `backbone` names the pipeline's component that methods quantize; `keep` are patterns of its layers
    that quantizers leave alone (first and last layer and what the timestep goes through, as is usual).
    `check(texts)` raises ValueError for a prompt the model cannot read. `scorer(name)` gives the CLIP
    that scores its pictures: "clip" to optimise, "judge" to judge. `ready()` sees to it that the weights are
    here and fit into memory, raising ModelError, and tells what a gallery should record of them.
    `prompts` names the set that is drawn by default, `calibration` the one whose halves methods are
    calibrated with and checked on. `calibrated` is the folder of what was searched, measured or trained for
    the model; `batch` says how many pictures are drawn at once for that.
    """

    id: str
    label: str
    load: Callable[[], DiffusionPipeline]
    check: Callable[[list[str]], Any]
    backbone: str
    steps: int
    guidance: float
    scorer: Callable[[str], ClipScorer]
    keep: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    prompts: str = "shapes"
    calibration: str = "shapes"
    calibrated: Path = SHIPPED
    ready: Callable[[], dict[str, str]] = dict
    batch: int = 64


def of_entry(entry: Entry) -> BaseModel:
    """The base model that an entry describes; what is made for it is kept in the user's data folder."""

    def ready() -> dict[str, str]:
        from generator.models import hub

        return hub.ready(entry)

    def load() -> DiffusionPipeline:
        from generator.models import hub

        return hub.load(entry)

    def scorer(name: str) -> ClipScorer:
        raise ModelError(f"{entry.id}: no CLIP comes along that could score its pictures ({name})")

    return BaseModel(
        id=entry.id,
        label=entry.label,
        load=load,
        check=lambda texts: None,
        backbone=entry.backbone,
        steps=entry.steps,
        guidance=entry.guidance,
        scorer=scorer,
        keep=entry.keep,
        arguments={"height": entry.resolution, "width": entry.resolution, **entry.arguments},
        prompts=entry.prompts,
        calibration=entry.calibration,
        calibrated=Path(platformdirs.user_data_dir("pairstudy", appauthor=False)) / "calibrated",
        ready=ready,
        batch=min(64, max(1, 2**22 // entry.resolution**2)),
    )


SHIPPED_ENTRIES = sorted(Path(__file__).parent.glob("*.toml"))
ENTRIES = {entry.id: entry for path in SHIPPED_ENTRIES for entry in read_entries(path)}

MODELS = {
    "shapes": BaseModel(
        id="shapes",
        label="shapes (embedded, 4 steps)",
        load=shapes.load,
        check=shapes.check,
        backbone="unet",
        steps=4,
        guidance=0.0,
        scorer=shapes.scorer,
        keep=("conv_in", "conv_out", "time_embedding.*", "add_embedding.*"),
        arguments={"eta": 0.0},  # TCD without fresh noise between the steps
    ),
    **{entry.id: of_entry(entry) for entry in ENTRIES.values()},
}


def find_model(name: str, weights: Path | None = None, calibrated: Path | None = None) -> BaseModel:
    """The model of an id, or of a .toml file (FILE.toml:ID where it describes several).

    `weights` is a folder to take its weights from instead of the hub, `calibrated` one for what is made for
    the model instead of its own. Raises ModelError.
    """
    if name == "shapes":
        if weights is not None:
            raise ModelError("--weights: shapes comes with its own")
        base = MODELS["shapes"]
    else:
        entry = find_entry(name)
        if weights is not None:
            entry = entry.model_copy(update={"hub": str(weights), "revision": None})
        base = of_entry(entry)
    return replace(base, calibrated=calibrated) if calibrated else base


def file_of(name: str) -> Path:
    """The .toml file of a model that comes along, or the one that is named. Raises ModelError."""
    if name.endswith(".toml"):
        return Path(name)
    find_entry(name)
    return next(path for path in SHIPPED_ENTRIES if name in {entry.id for entry in read_entries(path)})


def find_entry(name: str) -> Entry:
    """As `find_model`, but for shapes, which has no entry."""
    file, _, id_ = name.rpartition(":") if ".toml:" in name else (name, "", "")
    if file.endswith(".toml"):
        entries = {entry.id: entry for entry in read_entries(Path(file))}
        if len(entries) == 1 and not id_:
            return next(iter(entries.values()))
        if id_ not in entries:
            raise ModelError(
                f"--model {name}: say which one: {', '.join(f'{file}:{id_}' for id_ in entries)}"
            )
        return entries[id_]
    if name not in ENTRIES:
        raise ModelError(f"--model {name!r}: unknown; see: generator models list")
    return ENTRIES[name]
