"""A gallery goes in: checked as a whole, re-encoded alike, all of it or nothing.

What is voted on is made of it later, by `study open`.
"""

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from study.gallery import GALLERY_FILE, Gallery, GalleryError, ImageRecord, read_gallery
from study.schema import GalleryRow, ImageRow, MethodRow, PromptRow
from study.served import Served, equally_long, served_png
from study.store import Store


@dataclass(frozen=True)
class Ingested:
    """What a study now shows; `new` is False if it held this very gallery already."""

    methods: int
    prompts: int
    images: int
    new: bool


def ingest(folder: str | Path, store: Store) -> Ingested:
    """Read a gallery folder and put all of it into the study.

    The same gallery again is no change. A study shows one gallery: another one is refused.

    Raises
    ------
    GalleryError
        If the gallery is faulty or cannot make a study; then no row and no file remains.
    """
    gallery = read_gallery(folder)
    _two_methods(gallery)
    _every_method_drew_every_prompt(gallery)
    _no_odd_modes(gallery)
    digest = _digest(gallery)
    with store.read() as session:
        held = _already_held(session, digest)
    if not held:
        files = Served(store.served)
        try:
            # All files before the transaction: a running server need not wait for the encoder.
            rows = _serve(files, gallery)
            with store.write() as session:
                if not _already_held(session, digest):
                    _add_rows(session, gallery, digest, rows)
        except BaseException:
            files.remove()
            raise
        # Sizes travel with the study, for whoever plots rating against size.
        shutil.copyfile(gallery.root / GALLERY_FILE, store.served.parent / GALLERY_FILE)
    return Ingested(
        methods=len(gallery.methods),
        prompts=len(gallery.prompts),
        images=len(gallery.images),
        new=not held,
    )


def _two_methods(gallery: Gallery) -> None:
    if len(gallery.methods) < 2:
        raise GalleryError(
            f"gallery.json: field 'methods': found {len(gallery.methods)}, a study needs 2 or more"
        )


def _every_method_drew_every_prompt(gallery: Gallery) -> None:
    if not gallery.prompts:
        raise GalleryError("prompts.jsonl: no prompts in it")
    drawn = {(image.method, image.prompt_id) for image in gallery.images if image.replicate == 0}
    missing = [
        (method.id, prompt.prompt_id)
        for prompt in gallery.prompts
        for method in gallery.methods
        if (method.id, prompt.prompt_id) not in drawn
    ]
    if missing:
        raise GalleryError(
            f"images.jsonl: no image of method {missing[0][0]!r} for prompt_id {missing[0][1]!r} "
            f"({len(missing)} missing in all); every method must have drawn every prompt"
        )


def _no_odd_modes(gallery: Gallery) -> None:
    """Refuse what an 8-bit RGB picture cannot hold, instead of clipping it silently."""
    for image in gallery.images:
        with Image.open(gallery.root / image.file) as opened:
            if opened.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
                raise GalleryError(
                    f"images.jsonl: {image.file!r} has the colour mode {opened.mode}, "
                    "expected 8-bit RGB or grey"
                )


def _digest(gallery: Gallery) -> str:
    """What makes two galleries the same: methods, prompts and image bytes, not when they were written."""
    parts = {
        "methods": sorted(m.model_dump_json() for m in gallery.methods),
        "prompts": sorted(p.model_dump_json() for p in gallery.prompts),
        "images": sorted([i.method, i.prompt_id, i.replicate, i.sha256] for i in gallery.images),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _already_held(session: Session, digest: str) -> bool:
    """Whether the study shows this very gallery; another one is an error."""
    held = session.scalars(select(GalleryRow)).first()
    if held is not None and held.digest != digest:
        raise GalleryError(
            f"the study shows another gallery already ({held.name!r}), and a study shows one; "
            "`study init` makes another study"
        )
    return held is not None


def _serve(files: Served, gallery: Gallery) -> list[ImageRow]:
    """Write the files that voters get, those of a prompt equally long; returns their rows."""
    of_prompt: dict[str, list[ImageRecord]] = {}
    for record in gallery.images:
        of_prompt.setdefault(record.prompt_id, []).append(record)
    rows = {}
    for records in of_prompt.values():
        pngs = [served_png(gallery.root / record.file) for record in records]
        padded = equally_long(pngs, records[0].width * records[0].height)  # a prompt has one size
        for record, png in zip(records, padded, strict=True):
            rows[record.method, record.prompt_id, record.replicate] = _row(record, *files.write(png))
    return [rows[record.method, record.prompt_id, record.replicate] for record in gallery.images]


def _row(record: ImageRecord, key: str, sha256: str) -> ImageRow:
    return ImageRow(
        method_id=record.method,
        prompt_id=record.prompt_id,
        replicate=record.replicate,
        variant="",
        sha256=record.sha256,
        served_key=key,
        served_sha256=sha256,
        width=record.width,
        height=record.height,
        body=record.model_dump(exclude_none=True),
    )


def _add_rows(session: Session, gallery: Gallery, digest: str, images: list[ImageRow]) -> None:
    body = {"created": gallery.created, "prompt_set": gallery.prompt_set, "software": gallery.software}
    session.add(GalleryRow(digest=digest, name=gallery.name, body=body, ingested=time.time()))
    session.flush()
    session.add_all(
        MethodRow(
            id=method.id,
            gallery=digest,
            label=method.label,
            base_model=method.base_model,
            size_bytes=method.size_bytes,
            body=method.model_dump(exclude_none=True),
        )
        for method in gallery.methods
    )
    session.add_all(PromptRow(id=p.prompt_id, text=p.text, category=p.category) for p in gallery.prompts)
    session.flush()
    session.add_all(images)
    session.flush()
