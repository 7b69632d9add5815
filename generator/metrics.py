"""Scores of pictures, one a picture, from an open_clip model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from torch import Tensor


@dataclass(frozen=True)
class ClipScorer:
    """CLIPScore (Hessel et al. 2021) and CLIP-IQA (Wang et al. 2023) of one CLIP.

    Pictures are (n, 3, s, s) in [0, 1] at the model's own resolution; `antonyms` is (good, bad).
    """

    model: CLIP
    tokenize: Callable[[list[str]], Tensor]
    antonyms: tuple[str, str]

    @torch.no_grad()
    def image_features(self, pictures: Tensor) -> Tensor:
        """Unit vectors (n, d)."""
        mean, std = torch.tensor(OPENAI_DATASET_MEAN), torch.tensor(OPENAI_DATASET_STD)
        return self.model.encode_image((pictures - mean[:, None, None]) / std[:, None, None], normalize=True)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (n, d)."""
        return self.model.encode_text(self.tokenize(list(texts)), normalize=True)

    def clip_score(self, pictures: Tensor, captions: Sequence[str]) -> NDArray[np.float64]:
        """100 · max(cos(picture, caption), 0), shape (n,): the scale of torchmetrics."""
        cosine = (self.image_features(pictures) * self.text_features(captions)).sum(1)
        return 100 * cosine.clamp(min=0).double().numpy()

    def clip_iqa(self, pictures: Tensor) -> NDArray[np.float64]:
        """Probability in [0, 1] that the picture is the good one of the antonyms, shape (n,)."""
        logits = self.image_features(pictures) @ self.text_features(self.antonyms).T
        return (self.model.logit_scale.exp() * logits).softmax(1)[:, 0].double().detach().numpy()
