"""LPIPS (Zhang et al. 2018), version 0.1 on AlexNet: the distance of two pictures in its features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import alexnet

from generator.measure.weights import WeightsError

TAPS = (1, 4, 7, 9, 11)  # the ReLUs of AlexNet's features
CHANNELS = (64, 192, 384, 256, 256)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [−1, 1]


class Lpips(nn.Module):
    """Pictures (n, 3, h, w) in [0, 1], twice, to distances (n,)."""

    def __init__(self) -> None:
        """Random weights; `load` gives them the published ones."""
        super().__init__()
        self.features = alexnet(weights=None).features
        self.weights = nn.ParameterList(torch.full((c,), 1 / c) for c in CHANNELS)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, trunk: Path, heads: Path) -> Lpips:
        """From torchvision's AlexNet and the authors' `alex.pth`; WeightsError if they are something else."""
        model = cls()
        try:
            stored = torch.load(trunk, weights_only=True)
            own = {key: stored[f"features.{key}"] for key in model.features.state_dict()}
            model.features.load_state_dict(own)
            lines = torch.load(heads, weights_only=True)
            for i, weight in enumerate(model.weights):
                weight.copy_(lines[f"lin{i}.model.1.weight"].flatten())
        except (RuntimeError, KeyError, OSError, AttributeError) as error:
            told = str(error).splitlines()[0]
            raise WeightsError(f"{trunk}, {heads}: not AlexNet and LPIPS's weights: {told}") from error
        return model

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances of unit features, weighted by channel, meaned over places, summed over layers."""
        return unit_distance(self._layers(a), self._layers(b), list(self.weights))

    def _layers(self, pictures: Tensor) -> list[Tensor]:
        shift, scale = (pictures.new_tensor(values).view(3, 1, 1) for values in (SHIFT, SCALE))
        x, found = (2 * pictures - 1 - shift) / scale, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in TAPS:
                found.append(x)
            if i == TAPS[-1]:
                break
        return found


def unit_distance(
    a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> Tensor:
    """LPIPS' formula, (n,), on the layers (n, c, h, w) of any network.

    `weights` are (c,) for each layer; without them every channel weighs 1.
    """
    distance = torch.zeros(len(a[0]), device=a[0].device)
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        weight = weights[i] if weights else x.new_ones(x.shape[1])
        squares = (F.normalize(x, eps=1e-10) - F.normalize(y, eps=1e-10)).square()
        distance += torch.einsum("nchw,c->n", squares, weight) / (x.shape[2] * x.shape[3])
    return distance


def lpips(model: Lpips, reference: Tensor, pictures: Tensor) -> NDArray[np.float64]:
    """Distances (n,), 0 for equal pictures."""
    with torch.no_grad():
        return model(reference, pictures).double().cpu().numpy()
