"""The run: prompts × methods to a gallery. Stopped at any point, the same command goes on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from generator.errors import InputError
from generator.methods import Method
from generator.models import BaseModel
from generator.prompts import noise_seed, read_prompts
from generator.quantize import numbers_bytes, size_bytes
from study import gallery
from study.gallery import ImageRecord, Prompt

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SOFTWARE = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "pillow")


class SweepError(InputError):
    """A gallery folder that this run cannot go on with."""


def run(
    base: BaseModel,
    methods: Sequence[Method],
    prompts: Sequence[Prompt],
    folder: Path,
    *,
    prompt_set: str,
    batch_size: int = 16,
) -> int:
    """Draw every prompt with every method into the gallery `folder`; returns the number of new images.

    An image counts as done once its row stands in images.jsonl and its file has the row's sha256; the
    others are drawn. Pictures are equal, pixel for pixel, whichever run draws them, at equal hardware
    and equal batches.

    Raises SweepError if the folder holds other prompts or methods, or the model cannot read a prompt.
    """
    try:
        base.check([prompt.text for prompt in prompts])
    except ValueError as error:
        raise SweepError(f"model {base.id}: {error}") from None
    done = _resume(folder, methods, prompts)
    wanted = len(methods) * len(prompts)
    if len(done) == wanted and (folder / gallery.GALLERY_FILE).exists():
        return 0
    settings = {"model": base.id, "device": "cpu", "batch_size": batch_size, **software_versions()}
    described = []
    with tqdm(total=wanted, initial=len(done), unit="image") as progress:
        for method in methods:
            progress.set_description(method.id)
            pipeline = base.load()
            numbers = method.apply(pipeline, base)
            described.append(_describe(method, base, pipeline, numbers))
            for start in range(0, len(prompts), batch_size):
                batch = prompts[start : start + batch_size]
                # The whole batch is drawn again if one picture of it is missing, so that a resumed run
                # sees the batches that an uninterrupted one sees.
                if all((method.id, prompt.prompt_id) in done for prompt in batch):
                    continue
                began = time.perf_counter()
                pixels = draw(pipeline, base, batch)
                each_ms = (time.perf_counter() - began) * 1000 / len(batch)
                for prompt, picture in zip(batch, pixels, strict=True):
                    if (method.id, prompt.prompt_id) not in done:
                        record = _save(folder, method, base, pipeline, prompt, picture, batch_size, each_ms)
                        gallery.append_image(folder, record)
                        progress.update()
    # Last, so that a folder without gallery.json is a run that is not finished.
    gallery.write_gallery_json(
        folder,
        name=f"{base.id}: {len(methods)} methods, {len(prompts)} prompts",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        prompt_set=prompt_set,
        software=settings,
        methods=described,
    )
    return wanted - len(done)


def render(pipeline: DiffusionPipeline, base: BaseModel, prompts: Sequence[Prompt]) -> Tensor:
    """The pictures of some prompts, (n, 3, s, s) in [0, 1]; the noise of each depends on its id alone."""
    generators = [torch.Generator().manual_seed(noise_seed(prompt.prompt_id)) for prompt in prompts]
    return pipeline(
        [prompt.text for prompt in prompts],
        num_inference_steps=base.steps,
        guidance_scale=base.guidance,
        generator=generators,
        output_type="pt",
        **base.arguments,
    ).images


def draw(pipeline: DiffusionPipeline, base: BaseModel, prompts: Sequence[Prompt]) -> NDArray[np.uint8]:
    """`render`, rounded to bytes: (n, s, s, 3)."""
    pixels = (render(pipeline, base, prompts) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def software_versions() -> dict[str, str]:
    """Versions of what the pictures depend on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in SOFTWARE},
    }


def _resume(folder: Path, methods: Sequence[Method], prompts: Sequence[Prompt]) -> set[tuple[str, str]]:
    """What is there already, by method and prompt id; writes the prompts if the folder is new."""
    if not (folder / gallery.PROMPTS_FILE).exists():
        if folder.exists() and any(folder.iterdir()):
            raise SweepError(f"{folder}: not empty, and not a gallery (no {gallery.PROMPTS_FILE})")
        gallery.write_prompts(folder, prompts)
    if read_prompts(folder / gallery.PROMPTS_FILE) != list(prompts):
        raise SweepError(f"{folder}: its {gallery.PROMPTS_FILE} holds other prompts; take a new folder")
    done: set[tuple[str, str]] = set()
    for row in gallery.read_images(folder):
        if row.method not in {method.id for method in methods}:
            raise SweepError(f"{folder}: holds images of {row.method!r}, which this run does not make")
        file = folder / row.file
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != row.sha256:
            raise SweepError(f"{file}: missing or changed since it was made; take a new folder")
        done.add((row.method, row.prompt_id))
    return done


def _describe(
    method: Method, base: BaseModel, pipeline: DiffusionPipeline, numbers: DataclassInstance | None
) -> gallery.Method:
    return gallery.Method(
        id=method.id,
        label=method.label,
        base_model=base.id,
        weight_bits=method.weight_bits,
        act_bits=method.act_bits,
        size_bytes=size_bytes(getattr(pipeline, base.backbone)) + numbers_bytes(numbers),
        nfe=base.steps,
        coefficients=None if numbers is None else asdict(numbers),
        notes=method.notes,
    )


def _save(
    folder: Path,
    method: Method,
    base: BaseModel,
    pipeline: DiffusionPipeline,
    prompt: Prompt,
    picture: NDArray[np.uint8],
    batch_size: int,
    generate_ms: float,
) -> ImageRecord:
    file = folder / "images" / method.id / f"{prompt.prompt_id}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file, optimize=True)
    return ImageRecord(
        method=method.id,
        prompt_id=prompt.prompt_id,
        seed=noise_seed(prompt.prompt_id),
        file=file.relative_to(folder).as_posix(),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        width=picture.shape[1],
        height=picture.shape[0],
        steps=base.steps,
        guidance=base.guidance,
        scheduler=type(pipeline.scheduler).__name__,
        batch_size=batch_size,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        generate_ms=round(generate_ms, 2),
    )
