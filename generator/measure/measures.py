"""What can be measured of a picture: names, the weights each needs, and how it is loaded.

A metric against a reference is named for it (`psnr_to_fp16`). JAQ is made of the others where both its parts
are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from generator.fidelity import psnr, ssim
from generator.measure import scorers
from generator.measure.device import CPU
from generator.measure.lpips import Lpips, lpips
from generator.measure.scorers import Values
from generator.measure.weights import WeightsError, found, sha256
from generator.models import MODELS
from qsched.jaq import jaq

if TYPE_CHECKING:
    from generator.metrics import ClipScorer


@dataclass(frozen=True)
class Batch:
    """Pictures (n, 3, h, w) in [0, 1], their texts, and the reference's pictures, if any."""

    pictures: Tensor
    texts: Sequence[str]
    reference: Tensor | None = None


Score = Callable[[Batch], dict[str, Values]]
Load = Callable[[Sequence[Path], torch.device], Score]


@dataclass(frozen=True)
class Measure:
    """What one network, or formula, tells of a picture.

    `load` gets the files that `weights` names, and the device on which pictures will be.
    """

    metrics: tuple[str, ...]
    load: Load
    weights: tuple[str, ...] = ()
    compares: bool = False


@dataclass(frozen=True)
class Loaded:
    """A measure that is ready, and what it was loaded from (for the record)."""

    measure: Measure
    score: Score
    source: str


def clip_scores(scorer: ClipScorer, suffix: str = "") -> Score:
    """CLIPScore (0 to 100) and CLIP-IQA (0 to 1) of one CLIP."""

    def score(batch: Batch) -> dict[str, Values]:
        clip_score, clip_iqa = scorer.scores(scorers.resized(scorer, batch.pictures), batch.texts)
        return {f"clip-score{suffix}": clip_score, f"clip-iqa{suffix}": clip_iqa}

    return score


def _embedded(name: str, suffix: str = "") -> Load:
    return lambda _, device: clip_scores(MODELS["shapes"].scorer(name).to(device), suffix)


def _clip(architecture: str, suffix: str = "") -> Load:
    return lambda files, device: clip_scores(
        scorers.open_clip_scorer(architecture, files[0]).to(device), suffix
    )


def _hps(files: Sequence[Path], device: torch.device) -> Score:
    scorer = scorers.open_clip_scorer(scorers.HPS, files[0]).to(device)
    return lambda batch: {"hpsv2.1": scorers.cosines(scorer, batch.pictures, batch.texts)}


def _aq_map(files: Sequence[Path], device: torch.device) -> Score:
    nouns, scorer = scorers.spacy_nouns(), scorers.open_clip_scorer(scorers.CLIP_B16, files[0]).to(device)
    return lambda batch: {"aq-map": scorers.aq_map(scorer, nouns, batch.pictures, batch.texts)}


def _pickscore(files: Sequence[Path], device: torch.device) -> Score:
    scorer = scorers.PickScorer.of_folder(files[0], device)
    return lambda batch: {"pickscore": scorer(batch.pictures, batch.texts)}


def _maniqa(files: Sequence[Path], device: torch.device) -> Score:
    score = scorers.maniqa(files[0], device)
    return lambda batch: {"maniqa": score(batch.pictures)}


def _formula(name: str, formula: Callable[[Tensor, Tensor], Values]) -> Load:
    return lambda *_: lambda batch: {name: formula(_reference(batch), batch.pictures)}


def _lpips(files: Sequence[Path], device: torch.device) -> Score:
    model = Lpips.load(*files).to(device)
    return lambda batch: {"lpips": lpips(model, _reference(batch), batch.pictures)}


def _reference(batch: Batch) -> Tensor:
    assert batch.reference is not None  # noqa: S101 - `compares` says so
    return batch.reference


def _named(suffix: str) -> tuple[str, ...]:
    return tuple(f"{metric}{suffix}" for metric in CLIP_METRICS)


CLIP_METRICS = ("clip-score", "clip-iqa")
EMBEDDED = {
    "clip": Measure(CLIP_METRICS, _embedded("clip")),
    "judge": Measure(_named("-judge"), _embedded("judge", "-judge")),
}
"""The shapes world's own CLIPs: the one that searches optimise, and the one that judges."""
MEASURES = {
    "clip": Measure(CLIP_METRICS, _clip(scorers.CLIP), ("clip",)),
    "clip-b32": Measure(_named("-b32"), _clip(scorers.CLIP_B32, "-b32"), ("clip-b32",)),
    "hpsv2.1": Measure(("hpsv2.1",), _hps, ("hpsv2.1",)),
    "aq-map": Measure(("aq-map",), _aq_map, ("clip-b16",)),
    "pickscore": Measure(("pickscore",), _pickscore, ("pickscore",)),
    "maniqa": Measure(("maniqa",), _maniqa, ("maniqa",)),
    "psnr": Measure(("psnr",), _formula("psnr", psnr), compares=True),
    "ssim": Measure(("ssim",), _formula("ssim", ssim), compares=True),
    "lpips": Measure(("lpips",), _lpips, ("alexnet", "lpips"), compares=True),
}


def load_measures(
    names: Sequence[str] | None, weights: Path | None, embedded: bool, device: torch.device = CPU
) -> tuple[dict[str, Loaded], list[str]]:
    """Load the named measures, or all whose weights are there; also tells which were left out, and why.

    `embedded` is for galleries of the shapes world, whose own CLIPs stand in for those that need weights.

    Raises:
        WeightsError: a measure that was named, but cannot be loaded, or does not exist.
    """
    known = MEASURES | (EMBEDDED if embedded else {})
    loaded: dict[str, Loaded] = {}
    missing: list[str] = []
    for name in names or known:
        if name not in known:
            raise WeightsError(f"measure {name!r}: unknown; expected one of {', '.join(known)}")
        measure = known[name]
        try:
            files = found(weights, *measure.weights)
            source = ", ".join(f"{file.name} sha256:{sha256(file)}" for file in files) or "comes along"
            loaded[name] = Loaded(measure, measure.load(files, device), source)
        except WeightsError as error:
            if names:
                raise
            missing.append(f"{name}: {error}")
    return loaded, missing


JAQS = {
    "jaq": ("clip-score", "clip-iqa", "clip"),
    "jaq-b32": ("clip-score-b32", "clip-iqa-b32", "clip"),
    "jaq-judge": ("clip-score-judge", "clip-iqa-judge", "clip"),
    "jaq-preference": ("aq-map", "hpsv2.1", "preference"),
    "jaq-preference-reported": ("hpsv2.1", "aq-map", "preference-reported"),
}


def with_jaq(values: Mapping[str, Values]) -> dict[str, Values]:
    """Add JAQ (k = 2) in every variant whose parts are there; a picture without a part has none."""
    found_ = dict(values)
    for name, (tc, iq, variant) in JAQS.items():
        if tc in values and iq in values:
            have = np.isfinite(values[tc]) & np.isfinite(values[iq])
            found_[name] = np.full(len(have), np.nan)
            if have.any():
                found_[name][have] = jaq(values[tc][have], values[iq][have], variant=variant).values
    return found_
