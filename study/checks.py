"""Pairs that check voters or the noise of the question, made from the gallery itself.

gold         an image and the same one clearly degraded: the clean one is expected to win
practice     the same, on other images, before the session
null         one image twice: whatever is answered is guessing
noise_floor  two images of one method and prompt from different seeds: how much content alone decides
"""

import io
import random
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageChops, ImageFilter, ImageStat

from study.config import ConfigError, Protocol
from study.design import Material
from study.schema import ImageRow
from study.served import Served, encode, pad

POOL = 4  # pairs made for each one that a voter sees, as far as the gallery goes
JPEG_QUALITY = 4
BLUR = 1 / 40  # radius, as a share of the longer side
LEAST_CHANGE = 2.0  # mean absolute difference in grey levels; less is not clearly worse

Row = dict[str, Any]


def degrade(image: Image.Image, variant: str) -> Image.Image:
    """The image after strong JPEG compression, or blurred."""
    if variant == "blur":
        return image.filter(ImageFilter.GaussianBlur(max(1.5, BLUR * max(image.size))))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    with Image.open(buffer) as again:
        return again.convert("RGB")


def change(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two RGB images, in grey levels (0 to 255)."""
    mean = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(mean) / len(mean)


def check_cells(material: Material, protocol: Protocol, files: Served) -> list[Row]:
    """The check pairs of a protocol as rows for the cells; `image_2` may be a new ImageRow, not yet stored.

    Raises
    ------
    ConfigError
        If the gallery cannot give a voter as many as the protocol wants.
    """
    checks = protocol.checks
    clean = list(_in_turn(material, protocol.seed))
    degraded = _degraded(clean, material, protocol, files)
    rows: list[Row] = []

    def add(kind: str, wanted: int, source: Iterator[tuple[ImageRow, ImageRow | int]], lack: str) -> None:
        found = 0
        while found < POOL * wanted and (pair := next(source, None)) is not None:
            image, other = pair
            method = image.method_id
            rows.append(
                {
                    "kind": kind,
                    "quota_id": None,
                    "prompt_id": image.prompt_id,
                    "method_1": method,
                    "method_2": method,
                    "image_1": image.id,
                    "image_2": other,
                }
            )
            found += 1
        if found < wanted:
            raise ConfigError(f"study.toml: checks: {wanted} {kind} wanted, {lack} for {found}")

    enough = "the gallery has images that degrade clearly"
    # Practice comes out of the same stream, after the golds: never the same pair.
    add("gold", checks.golds, degraded, enough)
    add("practice", checks.practice, degraded, enough)
    add("null", checks.nulls, ((image, image.id) for image in clean), "the gallery has images")
    replicates = (
        (image, other.id)
        for image in clean
        if (other := material.images.get((image.method_id, image.prompt_id, 1, ""))) is not None
    )
    add("noise_floor", checks.noise_floor, replicates, "the gallery has a second replicate")
    return rows


def _in_turn(material: Material, seed: int) -> Iterator[ImageRow]:
    """All clean images in a random order in which prompts, and methods, come as far apart as they can."""
    prompts = [prompt.id for prompt in material.prompts]
    random.Random(f"{seed}/checks").shuffle(prompts)
    for turn in range(len(material.methods)):
        for place, prompt in enumerate(prompts):
            yield material.images[material.methods[(place + turn) % len(material.methods)], prompt, 0, ""]


def _degraded(
    clean: list[ImageRow], material: Material, protocol: Protocol, files: Served
) -> Iterator[tuple[ImageRow, ImageRow | int]]:
    """Images with their degraded twins, the variants in turn; what does not change clearly is passed over."""
    kinds, turn = protocol.checks.degrade, 0
    for image in clean:
        variant = kinds[turn % len(kinds)]
        made = material.images.get((image.method_id, image.prompt_id, 0, variant))
        if made is not None:  # by an earlier version of the protocol
            turn += 1
            yield image, made.id
            continue
        shown = files.path(image.served_key)
        with Image.open(shown) as opened:
            original = opened.convert("RGB")
        worse = degrade(original, variant)
        if change(original, worse) < LEAST_CHANGE:
            continue
        try:
            padded = pad(encode(worse), shown.stat().st_size)
        except ValueError:  # longer than all images of the prompt: it would be known by that
            continue
        turn += 1
        key, sha256 = files.write(padded)
        yield (
            image,
            ImageRow(
                method_id=image.method_id,
                prompt_id=image.prompt_id,
                replicate=0,
                variant=variant,
                sha256=image.sha256,
                served_key=key,
                served_sha256=sha256,
                width=image.width,
                height=image.height,
                body={"made_from": image.served_sha256},
            ),
        )
