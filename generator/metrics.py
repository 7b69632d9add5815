"""Scores of pictures, one a picture, from an open_clip model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from torch import Tensor

_MEAN = torch.tensor(OPENAI_DATASET_MEAN)[:, None, None]
_STD = torch.tensor(OPENAI_DATASET_STD)[:, None, None]


def normalised(pictures: Tensor) -> Tensor:
    """Pictures (n, 3, s, s) in [0, 1] as open_clip's models want them."""
    return (pictures - _MEAN.to(pictures.device)) / _STD.to(pictures.device)


@dataclass(frozen=True)
class ClipScorer:
    """CLIPScore (Hessel et al. 2021) and CLIP-IQA (Wang et al. 2023) of one CLIP.

    Pictures are (n, 3, s, s) in [0, 1] at the model's own resolution; `antonyms` is (good, bad), `device`
    where the model is.
    """

    model: CLIP
    tokenize: Callable[[list[str]], Tensor]
    antonyms: tuple[str, str]
    device: torch.device | str = "cpu"

    def to(self, device: torch.device) -> ClipScorer:
        """The same scorer on another device."""
        return replace(self, model=self.model.to(device), device=device)

    @torch.no_grad()
    def image_features(self, pictures: Tensor) -> Tensor:
        """Unit vectors (n, d)."""
        return self.model.encode_image(normalised(pictures.to(self.device)), normalize=True)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (n, d)."""
        return self.model.encode_text(self.tokenize(list(texts)).to(self.device), normalize=True)

    @torch.no_grad()
    def scores(
        self, pictures: Tensor, captions: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """CLIPScore and CLIP-IQA, each (n,), from one look at the pictures.

        CLIPScore is 100 · max(cos(picture, caption), 0), the scale of torchmetrics; CLIP-IQA is the
        probability in [0, 1] that the picture is the good one of the antonyms.
        """
        seen = self.image_features(pictures)
        cosine = (seen * self.text_features(captions)).sum(1)
        logits = self.model.logit_scale.exp() * seen @ self.text_features(self.antonyms).T
        both = (100 * cosine.clamp(min=0), logits.softmax(1)[:, 0])
        clip_score, clip_iqa = (score.double().cpu().numpy() for score in both)
        return clip_score, clip_iqa
