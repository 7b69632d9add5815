"""Networks that look at a picture and its text: CLIPScore, CLIP-IQA, HPSv2.1, AQ-MAP, PickScore, MANIQA.

All take pictures (n, 3, h, w) in [0, 1] and give one number a picture. Preference models and CLIP are the
same thing, a cosine of picture and text, with other weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from generator.measure.weights import WeightsError
from generator.metrics import ClipScorer

Values = NDArray[np.float64]
# open_clip's names
CLIP, CLIP_B16, CLIP_B32, HPS = "ViT-L-14-quickgelu", "ViT-B-16-quickgelu", "ViT-B-32-quickgelu", "ViT-H-14"
QUALITY = ("Good photo.", "Bad photo.")  # CLIP-IQA's antonyms


def open_clip_scorer(architecture: str, weights: Path) -> ClipScorer:
    """A CLIP of open_clip's with weights from a file, which may be OpenAI's, open_clip's or HPSv2's.

    Raises:
        WeightsError: a file that is not of this architecture.
    """
    try:
        model = open_clip.create_model(architecture, pretrained=str(weights))
    except (RuntimeError, OSError, KeyError, ValueError, AssertionError) as error:
        raise WeightsError(f"{weights}: not of {architecture}: {str(error).splitlines()[0]}") from error
    return ClipScorer(model.eval(), open_clip.get_tokenizer(architecture), QUALITY)


def resized(scorer: ClipScorer, pictures: Tensor) -> Tensor:
    """Pictures at the model's resolution, as open_clip does it: shorter side bicubic, middle cropped out."""
    size = scorer.model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    if pictures.shape[-2:] == (height, width):
        return pictures
    larger = vision.resize(pictures, [min(height, width)], vision.InterpolationMode.BICUBIC, antialias=True)
    return vision.center_crop(larger.clamp(0, 1), [height, width])


@torch.no_grad()
def cosines(scorer: ClipScorer, pictures: Tensor, texts: Sequence[str]) -> Values:
    """The cosine of each picture and its text, which HPSv2.1 is with its weights."""
    seen = scorer.image_features(resized(scorer, pictures))
    return (seen * scorer.text_features(texts)).sum(1).double().cpu().numpy()


@torch.no_grad()
def aq_map(
    scorer: ClipScorer, nouns: Callable[[str], list[str]], pictures: Tensor, texts: Sequence[str]
) -> Values:
    """AQ-MAP: how visible the things are that the text names, 0 to 1; NaN where it names none.

    Mean over the nouns of sigmoid(10 f · (t(noun) − t(""))), f the picture's feature and t a text's, averaged
    over CLIP's templates. Q-Sched's code has the templates of CLIP Surgery, ImageNet's and five more, and
    gives 0 to texts it cannot parse.
    """
    seen, empty = scorer.image_features(resized(scorer, pictures)), _ensemble(scorer, "")
    values = []
    for feature, text in zip(seen, texts, strict=True):
        named = [torch.sigmoid(10 * feature @ (_ensemble(scorer, noun) - empty)) for noun in nouns(text)]
        values.append(float(torch.stack(named).mean()) if named else np.nan)
    return np.array(values)


@functools.lru_cache(maxsize=4096)
def _ensemble(scorer: ClipScorer, noun: str) -> Tensor:
    texts = scorer.text_features([template(noun) for template in OPENAI_IMAGENET_TEMPLATES])
    return F.normalize(texts.mean(0), dim=0)


def spacy_nouns() -> Callable[[str], list[str]]:
    """The last noun of each noun phrase, as AQ-MAP's authors take them, by spaCy's en_core_web_sm.

    Raises:
        WeightsError: spaCy or its model is not installed.
    """
    try:
        import spacy

        parse = spacy.load("en_core_web_sm")
    except (ImportError, OSError) as error:
        told = (
            "AQ-MAP finds nouns with spaCy: pip install spacy, then python -m spacy download en_core_web_sm"
        )
        raise WeightsError(told) from error

    def nouns(text: str) -> list[str]:
        phrases = parse(text).noun_chunks
        last = [[token.text for token in phrase if token.pos_ in ("NOUN", "PROPN")] for phrase in phrases]
        return [words[-1] for words in last if words]

    return nouns


@dataclass(frozen=True)
class PickScorer:
    """PickScore (Kirstain et al. 2023): the scaled cosine of a CLIP in transformers' format."""

    model: Any
    processor: Any

    @classmethod
    def of_folder(cls, folder: Path, device: torch.device | str = "cpu") -> PickScorer:
        """Load model and processor; WeightsError if the folder is not such a model."""
        from transformers import CLIPModel, CLIPProcessor

        try:
            model = CLIPModel.from_pretrained(folder).eval().to(device)
            return cls(model, CLIPProcessor.from_pretrained(folder))
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"{folder}: not a CLIP of transformers: {str(error).splitlines()[0]}"
            ) from error

    @torch.no_grad()
    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Values:
        """PickScores; the processor is given pictures as bytes, as its authors do."""
        pixels = [(picture.permute(1, 2, 0) * 255).round().byte().numpy() for picture in pictures.cpu()]
        inputs = self.processor(
            text=list(texts), images=pixels, padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        scores = self.model(**inputs.to(self.model.device)).logits_per_image.diagonal()
        return scores.double().cpu().numpy()


def maniqa(weights: Path, device: torch.device | str = "cpu") -> Callable[[Tensor], Values]:
    """MANIQA (Yang et al. 2022), by pyiqa, whose crops are drawn from seed 0 anew for each picture.

    Raises:
        WeightsError: pyiqa is not installed, or the file is not its.
    """
    try:
        import pyiqa
        import timm
    except ImportError as error:
        raise WeightsError("MANIQA needs pyiqa: pip install 'pairstudy[measure]'") from error
    # pyiqa fetches weights for the trunk that the file then replaces.
    make = timm.create_model
    try:
        with mock.patch.object(timm, "create_model", lambda name, **_: make(name, pretrained=False)):
            metric = pyiqa.create_metric("maniqa-pipal", device=device, pretrained_model_path=str(weights))
    except (RuntimeError, OSError, KeyError) as error:
        raise WeightsError(f"{weights}: not pyiqa's MANIQA: {str(error).splitlines()[0]}") from error

    @torch.no_grad()
    def score(pictures: Tensor) -> Values:
        values = []
        for picture in pictures:
            torch.manual_seed(0)
            values.append(float(metric(picture[None])))
        return np.array(values)

    return score
