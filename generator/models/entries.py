"""Base models as .toml files: one file is one checkpoint, sampled in one way or several.

Where `steps` or `schedulers` have several values there is a model for each: `pcm-sd15-2`, `sd14-ddim-50`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel as Record
from pydantic import ConfigDict, Field, StringConstraints, ValidationError, field_validator

from generator.errors import InputError
from study.gallery import describe

Name = Annotated[str, StringConstraints(strict=True, pattern=r"\A[a-z0-9][a-z0-9.-]*\z")]
Steps = Annotated[int, Field(strict=True, ge=1, le=1000)]


class ModelError(InputError):
    """A base model that cannot be used; the message names the file and field, or what is missing."""


class _Record(Record):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lora(_Record):
    """A LoRA that is fused into the backbone. `{steps}` in `file` stands for the number of steps."""

    hub: str
    revision: str | None = None
    file: str


class Scheduler(Record):
    """A scheduler in place of the checkpoint's own; further keys change its configuration."""

    model_config = ConfigDict(frozen=True, extra="allow")

    class_: str = Field(alias="class")
    name: Name | None = None


class _Described(_Record):
    label: str
    hub: str
    """Id on the Hugging Face hub, or a folder with a diffusers pipeline."""
    revision: str | None = None
    """Commit. None or "main" is not pinned: what was found is recorded in the gallery."""
    licence: str
    pipeline: str
    """Class of diffusers."""
    variant: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    """On a GPU; a CPU computes in float32."""
    backbone: Literal["unet", "transformer"]
    keep: tuple[str, ...] = ()
    resolution: Annotated[int, Field(strict=True, ge=8, multiple_of=8)]
    guidance: float
    arguments: dict[str, Any] = {}
    """Of the pipeline's call."""
    lora: Lora | None = None
    prompts: str = "partiprompts"
    """The set that is drawn by default."""
    calibration: str = "partiprompts"
    """The set whose halves methods are calibrated with and checked on."""


class _File(_Described):
    """What a .toml file holds."""

    steps: Annotated[tuple[Steps, ...], Field(min_length=1)]
    schedulers: tuple[Scheduler, ...] = ()

    @field_validator("schedulers")
    @classmethod
    def _told_apart(cls, schedulers: tuple[Scheduler, ...]) -> tuple[Scheduler, ...]:
        names = [scheduler.name for scheduler in schedulers]
        if len(names) > 1 and (None in names or len(set(names)) < len(names)):
            raise ValueError("several schedulers, so each needs a name of its own")
        return schedulers


class Entry(_Described):
    """One base model."""

    id: str
    steps: Steps
    scheduler: Scheduler | None = None


def read_entries(path: Path) -> list[Entry]:
    """The models that a .toml file describes; their ids begin with the file's name.

    Raises ModelError naming file and field.
    """
    try:
        file = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ModelError(f"{path}: {describe(error)}") from None
    shared = {name: getattr(file, name) for name in _Described.model_fields}
    return [
        Entry(**_of_steps(shared, path.stem, steps, scheduler, len(file.steps) > 1))
        for scheduler in file.schedulers or (None,)
        for steps in file.steps
    ]


def _of_steps(
    shared: dict[str, Any], stem: str, steps: int, scheduler: Scheduler | None, several: bool
) -> dict[str, Any]:
    name = f"-{scheduler.name}" if scheduler and scheduler.name else ""
    sampler = f", {scheduler.name.upper()}" if scheduler and scheduler.name else ""
    lora = shared["lora"]
    return {
        **shared,
        "id": f"{stem}{name}{f'-{steps}' if several else ''}",
        "label": f"{shared['label']}{sampler}, {steps} steps",
        "steps": steps,
        "scheduler": scheduler,
        "lora": lora and lora.model_copy(update={"file": lora.file.replace("{steps}", str(steps))}),
    }
