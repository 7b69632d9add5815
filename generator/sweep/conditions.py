"""Texts, encoded once for all methods of a run and kept on disk while it lasts."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FluxPipeline,
    LatentConsistencyModelPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load, save
from torch import Tensor, nn

from generator.files import write_whole
from generator.models import BaseModel
from study.gallery import Prompt


class Conditions:
    """The encoded texts of a run, by batch, as files of safetensors.

    Methods share them as long as they leave the text encoders alone; one that changes these gets its own.
    """

    def __init__(self, folder: Path | None) -> None:
        """Files that lie in `folder` already are used; without a folder, they are in `held` alone."""
        self.folder = folder
        self.held: dict[str, bytes] = {}

    def of(self, pipeline: DiffusionPipeline, base: BaseModel, batch: Sequence[Prompt]) -> dict[str, Tensor]:
        """What the pipeline's call takes for these prompts; empty for a pipeline of another class."""
        if type(pipeline) not in ENCODERS:
            return {}
        name = f"{self._fingerprint(pipeline)}-{_texts(batch)}"
        data = self.kept(batch).get(name)
        if data is None:
            found = encoded(pipeline, base, [prompt.text for prompt in batch])
            data = save({key: tensor.contiguous().cpu() for key, tensor in found.items()})
            self.keep(name, data)
        return {key: tensor.to(pipeline.device) for key, tensor in load(data).items()}

    def kept(self, batch: Sequence[Prompt]) -> dict[str, bytes]:
        """The files of a batch by name, one for each state of the text encoders."""
        if self.folder is None:
            return self.held
        return {file.stem: file.read_bytes() for file in self.folder.glob(f"*-{_texts(batch)}.safetensors")}

    def keep(self, name: str, data: bytes) -> None:
        """One more file, whole or not at all."""
        if self.folder is None:
            self.held[name] = data
            return
        write_whole(self.folder / f"{name}.safetensors", data)

    def remove(self) -> None:
        """Delete the files: the run is finished."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _fingerprint(self, pipeline: DiffusionPipeline) -> str:
        """Of all text encoders: shape, type and sum of every parameter."""
        if getattr(self, "_last", (None, ""))[0] is not pipeline:
            parts = [
                f"{name} {key} {tuple(value.shape)} {value.dtype} {value.double().sum().item()!r}"
                for name, part in pipeline.components.items()
                if name.startswith("text_encoder") and isinstance(part, nn.Module)
                for key, value in part.state_dict().items()
            ]
            self._last = (pipeline, _digest(parts))
        return self._last[1]


def _texts(batch: Sequence[Prompt]) -> str:
    return _digest(prompt.text for prompt in batch)


def encoded(pipeline: DiffusionPipeline, base: BaseModel, texts: list[str]) -> dict[str, Tensor]:
    """What the pipeline's call takes in place of the texts; empty for a pipeline of another class."""
    if type(pipeline) not in ENCODERS:
        return {}
    with torch.no_grad():
        return ENCODERS[type(pipeline)](pipeline, base, texts)


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _guided(pipeline: DiffusionPipeline, base: BaseModel) -> bool:
    """Whether the call will evaluate the empty text beside the prompt, as the pipeline itself decides it."""
    pipeline._guidance_scale = base.guidance
    return bool(pipeline.do_classifier_free_guidance)


def _stable_diffusion(pipeline: Any, base: BaseModel, texts: list[str]) -> dict[str, Tensor]:
    names = ("prompt_embeds", "negative_prompt_embeds")
    return _named(names, pipeline.encode_prompt(texts, pipeline.device, 1, _guided(pipeline, base)))


def _lcm(pipeline: Any, base: BaseModel, texts: list[str]) -> dict[str, Tensor]:
    return _named(("prompt_embeds",), pipeline.encode_prompt(texts, pipeline.device, 1, False))


def _sdxl(pipeline: Any, base: BaseModel, texts: list[str]) -> dict[str, Tensor]:
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    guided = _guided(pipeline, base)
    return _named(names, pipeline.encode_prompt(texts, None, pipeline.device, 1, guided))


def _flux(pipeline: Any, base: BaseModel, texts: list[str]) -> dict[str, Tensor]:
    length = base.arguments.get("max_sequence_length", 512)
    found = pipeline.encode_prompt(texts, None, pipeline.device, max_sequence_length=length)
    return _named(("prompt_embeds", "pooled_prompt_embeds"), found)


def _named(names: Sequence[str], values: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The first values under their names; what is None is left out."""
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


Encode = Callable[[Any, BaseModel, list[str]], dict[str, Tensor]]
ENCODERS: dict[type[DiffusionPipeline], Encode] = {
    StableDiffusionPipeline: _stable_diffusion,
    StableDiffusionXLPipeline: _sdxl,
    LatentConsistencyModelPipeline: _lcm,
    FluxPipeline: _flux,
}
