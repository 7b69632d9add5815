"""Pictures that other programs drew, as a gallery: a folder for each method, files named by prompt id.

Two layouts are known besides `<id>.png`: deepcompressor's for YAML prompts (`<id>-0.png`), and Q-Sched's,
whose folder holds `prompts.txt` and `dataset/<quantization>_<number>_<i>.png`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError
from tqdm import tqdm

from generator.errors import InputError
from study import gallery
from study.gallery import ImageRecord, Method, Prompt, describe

PROMPTS_OF_QSCHED, IMAGES_OF_QSCHED = "prompts.txt", "dataset"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class CollectError(InputError):
    """Folders that make no gallery; the message names the folder, file or prompt."""


def prompts_of_qsched(folder: Path) -> list[Prompt]:
    """The prompts of a folder that Q-Sched's code wrote: lines of `id,prompt`, nothing quoted.

    A prompt may hold commas and line ends; an entry begins where a line begins with an id.

    Raises CollectError.
    """
    path = folder / PROMPTS_OF_QSCHED
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CollectError(f"{path}: cannot be read: {error}; or give --prompts") from None
    header, _, rest = text.partition("\n")
    if header.strip() != "image_id,prompt":
        raise CollectError(f"{path} line 1: found {header[:40]!r}, expected 'image_id,prompt'")
    entries = re.split(r"^(\d+_\d+),", rest, flags=re.MULTILINE)[1:]
    texts = dict(zip(entries[::2], entries[1::2], strict=True))
    if not texts or not all(text.strip() for text in texts.values()):
        raise CollectError(f"{path}: holds no prompts, or an empty one")
    return [Prompt(prompt_id=id_, text=text.rstrip("\n")) for id_, text in texts.items()]


def collect(folders: Mapping[str, Path], prompts: Sequence[Prompt], out: Path, *, prompt_set: str) -> int:
    """Copy the pictures of `folders`, by method id, into a new gallery `out`; returns their number.

    Everything is looked at before anything is written: CollectError if a folder lacks the picture of a
    prompt, or holds one that cannot be read. The gallery is there whole, or not at all.
    """
    if out.exists() and any(out.iterdir()):
        raise CollectError(f"{out}: not empty")
    try:
        methods = [Method(id=method) for method in folders]
    except ValidationError as error:
        raise CollectError(f"--images: {describe(error)}") from None
    found = {method: _pictures(method, folder, prompts) for method, folder in folders.items()}
    sizes = [
        _size(path)
        for pictures in found.values()
        for path in tqdm(pictures, "looking", leave=False, disable=None)
    ]
    out = out.resolve()
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    gallery.write_prompts(unfinished, prompts)
    shapes = iter(sizes)
    for method, pictures in found.items():
        for prompt, path in zip(tqdm(prompts, method, unit="image", disable=None), pictures, strict=True):
            data, (width, height) = path.read_bytes(), next(shapes)
            file = unfinished / "images" / method / f"{prompt.prompt_id}{path.suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            record = ImageRecord(
                method=method,
                prompt_id=prompt.prompt_id,
                file=file.relative_to(unfinished).as_posix(),
                sha256=hashlib.sha256(data).hexdigest(),
                width=width,
                height=height,
            )
            gallery.append_image(unfinished, record)
    gallery.write_gallery_json(
        unfinished,
        name=f"collected: {len(found)} methods, {len(prompts)} prompts",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        prompt_set=prompt_set,
        software={"collected_from": {method: str(folder) for method, folder in folders.items()}},
        methods=methods,
    )
    unfinished.replace(out)
    return len(sizes)


def _pictures(method: str, folder: Path, prompts: Sequence[Prompt]) -> list[Path]:
    """The picture of each prompt in a folder, in the prompts' order."""
    inner = folder / IMAGES_OF_QSCHED
    qsched = (folder / PROMPTS_OF_QSCHED).exists() and inner.is_dir()
    if not folder.is_dir():
        raise CollectError(f"{method}: {folder}: no such folder")
    by_name: dict[str, Path] = {}
    for path in sorted((inner if qsched else folder).iterdir()):
        if path.suffix.lower() in SUFFIXES:
            name = "_".join(path.stem.split("_")[-2:]) if qsched else path.stem
            if name in by_name:
                raise CollectError(f"{method}: {path.name} and {by_name[name].name} are of one prompt")
            by_name[name] = path
    pictures = [by_name.get(p.prompt_id) or by_name.get(f"{p.prompt_id}-0") for p in prompts]
    missing = [p.prompt_id for p, path in zip(prompts, pictures, strict=True) if path is None]
    if missing:
        number = f"{len(missing)} missing of {len(prompts)}"
        raise CollectError(f"{method}: {folder} has no picture of prompt {missing[0]!r} ({number})")
    return [path for path in pictures if path]


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            image.load()
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise CollectError(f"{path}: no readable picture: {str(error).splitlines()[0]}") from None
