"""Distances of whole sets of pictures: each method's to full precision, and to folders of other pictures.

Features are kept beside the file of metrics, a file a method and network, so that a run that was interrupted
goes on with the next.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from generator.measure import scorers
from generator.measure.device import CPU
from generator.measure.frechet import Inception, frechet_distance
from generator.measure.run import MeasureError, Reference, batches, read_pictures
from generator.measure.weights import WeightsError, found, sha256
from generator.metrics import ClipScorer
from generator.models import MODELS
from study.gallery import Gallery

Features = dict[str, NDArray[np.float32]]
FILES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Network:
    """Pictures (n, 3, h, w) in [0, 1] on a device to features by metric, and where it was loaded from."""

    features: Callable[[Tensor], dict[str, Tensor]]
    device: torch.device
    source: str


def _clip(scorer: ClipScorer) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda pictures: {"fid-clip": scorer.image_features(scorers.resized(scorer, pictures))}


def _inception(weights: Path, device: torch.device) -> Callable[[Tensor], dict[str, Tensor]]:
    model = Inception.load(weights).to(device)
    return lambda pictures: dict(zip(("fid", "sfid"), model(pictures), strict=True))


def load_networks(
    weights: Path | None, embedded: bool, device: torch.device = CPU
) -> tuple[list[Network], list[str]]:
    """Inception for FID and sFID, CLIP ViT-B/32 for FID in its features; and which are missing, and why.

    The shapes world has its own CLIP in place of ViT-B/32.
    """
    networks, missing = [], []
    if embedded:
        networks.append(Network(_clip(MODELS["shapes"].scorer("clip").to(device)), device, "comes along"))
    for name, load in (
        ("inception", _inception),
        ("clip-b32", lambda file, device: _clip(scorers.open_clip_scorer(scorers.CLIP_B32, file).to(device))),
    ):
        if embedded and name == "clip-b32":
            continue
        try:
            (file,) = found(weights, name)
            networks.append(Network(load(file, device), device, f"{file.name} sha256:{sha256(file)}"))
        except WeightsError as error:
            missing.append(f"fid, {name}: {error}")
    return networks, missing


def distances(
    gallery: Gallery,
    networks: Sequence[Network],
    reference: Reference | None,
    folders: Mapping[str, Path],
    cache: Path,
    batch_size: int = 16,
) -> list[dict[str, str | float | int]]:
    """Rows of method, metric, n (pictures of the method) and value, for every distance that can be taken.

    Raises:
        MeasureError: a folder without pictures, or with a file that is none.
    """
    cache.mkdir(parents=True, exist_ok=True)
    methods = list(dict.fromkeys(image.method for image in gallery.images))
    rows: list[dict[str, str | float | int]] = []
    for network in networks:
        own = {method: _of_method(gallery, method, network, cache, batch_size) for method in methods}
        others = {name: _of_folder(folder, gallery, network, cache) for name, folder in folders.items()}
        if reference:
            others = {reference.method: own[reference.method], **others}
        for (name, other), method in itertools.product(others.items(), methods):
            if name == method:
                continue
            for metric, features in own[method].items():
                value = frechet_distance(features, other[metric])
                rows.append(
                    {"method": method, "metric": f"{metric}_to_{name}", "n": len(features), "value": value}
                )
    return rows


def _of_method(gallery: Gallery, method: str, network: Network, cache: Path, batch_size: int) -> Features:
    images = [image for image in gallery.images if image.method == method]
    key = [network.source, *(image.sha256 for image in images)]
    parts = (read_pictures(gallery.root, some) for some in batches(images, batch_size))
    return _cached(cache, key, tqdm(parts, f"features, {method}", unit="batch"), network)


def _of_folder(folder: Path, gallery: Gallery, network: Network, cache: Path) -> Features:
    """Pictures of a folder: cropped to a square in the middle, brought to the size of the gallery's."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in FILES)
    if not files:
        raise MeasureError(f"{folder}: no pictures in it; expected {', '.join(FILES)}")
    side = gallery.images[0].height
    key = [
        network.source,
        str(side),
        *(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files),
    ]
    parts = (_square(file, side) for file in tqdm(files, f"features, {folder.name}", unit="image"))
    return _cached(cache, key, parts, network)


def _square(file: Path, side: int) -> Tensor:
    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise MeasureError(f"{file}: not a picture: {error}") from error
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float()[None] / 255


def _cached(cache: Path, key: Sequence[str], parts: Iterable[Tensor], network: Network) -> Features:
    path = cache / f"{hashlib.sha256(chr(10).join(key).encode()).hexdigest()[:24]}.npz"
    if not path.exists():
        found_: dict[str, list[Tensor]] = {}
        for pictures in parts:
            for metric, features in network.features(pictures.to(network.device)).items():
                found_.setdefault(metric, []).append(features.cpu())
        new = path.with_suffix(".new.npz")
        arrays: dict[str, Any] = {metric: torch.cat(each).numpy() for metric, each in found_.items()}
        np.savez(new, **arrays)
        new.replace(path)
    with np.load(path) as stored:
        return dict(stored)
