"""Measuring a gallery, picture by picture, to Parquet; stopped at any point, the same command goes on.

One row a number: method, prompt_id, replicate, metric, value, and the sha256 of the picture it is of. What is
done is kept in a journal beside the file until the file is written whole; a picture that has changed, or a
metric that is new, is measured, everything else is taken from there.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from generator.errors import InputError
from generator.measure.device import CPU
from generator.measure.measures import JAQS, Batch, Loaded, with_jaq
from study.gallery import Gallery, ImageRecord

COLUMNS = ["method", "prompt_id", "replicate", "metric", "value", "sha256"]
SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("prompt_id", pa.string()),
        ("replicate", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("sha256", pa.string()),
    ]
)


class MeasureError(InputError):
    """A gallery or a file of metrics that this run cannot go on with."""


@dataclass(frozen=True)
class Reference:
    """The method that others are compared with, and its pictures by prompt and replicate."""

    method: str
    images: Mapping[tuple[str, int], ImageRecord]

    @classmethod
    def of(cls, gallery: Gallery, method: str) -> Reference:
        """Take a method of the gallery; MeasureError if it has no pictures."""
        images = {(im.prompt_id, im.replicate): im for im in gallery.images if im.method == method}
        if not images:
            methods = ", ".join(dict.fromkeys(image.method for image in gallery.images))
            raise MeasureError(f"--reference {method!r}: no pictures of it; the gallery has {methods}")
        return cls(method, images)

    def name(self, metric: str) -> str:
        """A metric against this reference; in the name, as the number means nothing without it."""
        return f"{metric}_to_{self.method}"


def measure(
    gallery: Gallery,
    loaded: Mapping[str, Loaded],
    reference: Reference | None,
    path: Path,
    *,
    batch_size: int = 16,
    device: torch.device = CPU,
) -> pd.DataFrame:
    """Measure every picture that is not yet measured, and write `path`; returns what it holds.

    `device` is where the measures were loaded.

    Raises:
        MeasureError: `path` holds numbers that were measured with other weights, or is no such file.
    """
    journal = path.with_name(path.name + ".journal")
    sources = {name: each.source for name, each in loaded.items()}
    if reference:
        sources["reference"] = reference.method
    rows, sources = _so_far(path, journal, sources)
    current = {image.sha256 for image in gallery.images}
    rows = [row for row in rows if row[-1] in current]
    done = {tuple(row[:4]) for row in rows}
    texts = {prompt.prompt_id: prompt.text for prompt in gallery.prompts}
    with journal.open("a", encoding="utf-8") as file, tqdm(total=len(gallery.images), unit="image") as bar:
        for some in batches(gallery.images, batch_size):
            bar.set_description(some[0].method)
            for new in _measured(gallery, some, texts, loaded, reference, done, device):
                rows.append(new)
                file.write(json.dumps(new) + "\n")
            file.flush()
            bar.update(len(some))
    table = _with_jaq(pd.DataFrame(rows, columns=COLUMNS))
    write(path, table, sources)
    journal.unlink()
    return table


def _measured(
    gallery: Gallery,
    images: Sequence[ImageRecord],
    texts: Mapping[str, str],
    loaded: Mapping[str, Loaded],
    reference: Reference | None,
    done: set[tuple[Any, ...]],
    device: torch.device,
) -> Iterator[list[Any]]:
    """The rows of a batch that are not in `done`."""
    pictures: Tensor | None = None
    for each in loaded.values():
        compared = reference if each.measure.compares else None
        if each.measure.compares and (compared is None or images[0].method == compared.method):
            continue
        names = {metric: compared.name(metric) if compared else metric for metric in each.measure.metrics}
        known = [[(*_key(image), name) in done for name in names.values()] for image in images]
        new = [image for image, its in zip(images, known, strict=True) if not all(its)]
        if compared:
            new = [image for image in new if (image.prompt_id, image.replicate) in compared.images]
        if not new:
            continue
        if pictures is None:
            pictures = read_pictures(gallery.root, images).to(device)
        rows = [i for i, image in enumerate(images) if image in new]
        others = _pairs(gallery, new, compared).to(device) if compared else None
        batch = Batch(pictures[rows], [texts[image.prompt_id] for image in new], others)
        for metric, values in each.score(batch).items():
            for image, value in zip(new, values.tolist(), strict=True):
                number = None if math.isnan(value) else value
                yield [*_key(image), names[metric], number, image.sha256]


def _key(image: ImageRecord) -> tuple[str, str, int]:
    return image.method, image.prompt_id, image.replicate


def _pairs(gallery: Gallery, images: Sequence[ImageRecord], reference: Reference) -> Tensor:
    """The reference's pictures of the same prompts and replicates."""
    pairs = [reference.images[image.prompt_id, image.replicate] for image in images]
    for image, pair in zip(images, pairs, strict=True):
        if (pair.width, pair.height) != (image.width, image.height):
            raise MeasureError(
                f"{image.file}: {image.width}×{image.height}, but {pair.file} {pair.width}×{pair.height}"
            )
    return read_pictures(gallery.root, pairs)


def batches(images: Iterable[ImageRecord], size: int) -> Iterator[list[ImageRecord]]:
    """Neighbours of one method and one size in pixels, up to `size` of them."""
    for _, group in itertools.groupby(images, key=lambda image: (image.method, image.width, image.height)):
        while some := list(itertools.islice(group, size)):
            yield some


def read_pictures(root: Path, images: Sequence[ImageRecord]) -> Tensor:
    """Pictures of one size as (n, 3, h, w) in [0, 1]."""
    pixels = []
    for image in images:
        with Image.open(root / image.file) as opened:
            pixels.append(np.asarray(opened.convert("RGB")))
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def _with_jaq(table: pd.DataFrame) -> pd.DataFrame:
    """Add JAQ of every picture in every variant whose parts are there."""
    table["value"] = table["value"].astype(float)
    image = ["method", "prompt_id", "replicate", "sha256"]
    wide = table.pivot(index=image, columns="metric", values="value")
    columns = {metric: wide[metric].to_numpy() for metric in wide.columns}
    for metric, values in with_jaq(columns).items():
        if metric not in columns:
            rows = wide.index.to_frame(index=False).assign(metric=metric, value=values)
            table = pd.concat([table, rows[COLUMNS]], ignore_index=True)
    return table


def _so_far(path: Path, journal: Path, sources: Mapping[str, str]) -> tuple[list[list[Any]], dict[str, str]]:
    """The rows of a run before, and of one that was interrupted; leaves a journal that can be added to."""
    rows: list[list[Any]] = []
    begun: list[list[Any]] = []
    before: dict[str, str] = {}
    if path.exists():
        table, before = read(path)
        table = table[~table["metric"].isin(JAQS)]
        rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    if journal.exists():
        lines = journal.read_text(encoding="utf-8").split("\n")[:-1]  # the last may be torn
        if lines:
            before |= json.loads(lines[0])
            begun = [json.loads(line) for line in lines[1:]]
    for name, source in sources.items():
        if before.get(name, source) != source:
            raise MeasureError(
                f"{path}: {name} was measured with {before[name]}, not {source}; take another -o"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {**before, **sources}
    new = journal.with_name(journal.name + ".new")
    new.write_text("".join(json.dumps(line) + "\n" for line in [whole, *begun]), encoding="utf-8")
    new.replace(journal)
    return rows + begun, whole


def write(path: Path, table: pd.DataFrame, sources: Mapping[str, str]) -> None:
    """Write the rows, and in the file's metadata what each measure was loaded from; whole or not at all."""
    schema = SCHEMA.with_metadata({"pairstudy.measures": json.dumps(dict(sources))})
    new = path.with_name(path.name + ".new")
    pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False), new)
    new.replace(path)


def read(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """What `write` wrote; MeasureError if it is something else."""
    try:
        table = pq.read_table(path)
        sources = json.loads((table.schema.metadata or {})[b"pairstudy.measures"])
        return table.select(COLUMNS).to_pandas(), sources
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise MeasureError(f"{path}: not a file of generator measure: {error}") from error
