"""The weights of the networks that measure: files in one folder, found by name, never fetched unasked.

Their licences and sizes are their own; none comes along with this package.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from generator.errors import InputError


class WeightsError(InputError):
    """Weights that are missing or cannot be read; the message names the file and how to get it."""


@dataclass(frozen=True)
class Weights:
    """A file (or folder) of a network's weights by its usual name, and where it comes from."""

    file: str
    source: str


WEIGHTS = {
    "clip": Weights("ViT-L-14.pt", "OpenAI's CLIP ViT-L/14, as clip.load('ViT-L/14') fetches it"),
    "clip-b16": Weights("ViT-B-16.pt", "OpenAI's CLIP ViT-B/16, as clip.load('ViT-B/16') fetches it"),
    "clip-b32": Weights("ViT-B-32.pt", "OpenAI's CLIP ViT-B/32, as clip.load('ViT-B/32') fetches it"),
    "hpsv2.1": Weights("HPS_v2.1_compressed.pt", "hf download xswu/HPSv2 HPS_v2.1_compressed.pt"),
    "pickscore": Weights("PickScore_v1", "hf download yuvalkirstain/PickScore_v1 --local-dir PickScore_v1"),
    "maniqa": Weights("MANIQA_PIPAL-ae6d356b.pth", "hf download chaofengc/IQA-PyTorch-Weights"),
    "alexnet": Weights("alexnet-owt-7be5be79.pth", "torchvision's AlexNet_Weights.IMAGENET1K_V1"),
    "lpips": Weights("alex.pth", "github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1/alex.pth"),
    "inception": Weights(
        "pt_inception-2015-12-05-6726825d.pth", "the release fid_weights of github.com/mseitzer/pytorch-fid"
    ),
}


def found(folder: Path | None, *names: str) -> list[Path]:
    """The files of the named networks in `folder`.

    Raises:
        WeightsError: no folder, or a file that is not in it.
    """
    paths = []
    for name in names:
        weights = WEIGHTS[name]
        if folder is None or not (folder / weights.file).exists():
            where = f"not in {folder}" if folder else "give its folder with --weights (calibrate: --scorers)"
            raise WeightsError(f"{weights.file}: {where}; it is {weights.source}")
        paths.append(folder / weights.file)
    return paths


def sha256(path: Path) -> str:
    """Of the file, or of the files of the folder by name."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
