"""FID and sFID: how far two sets of pictures are from each other in the features of a network.

    d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)

It is biased upwards, the more the fewer pictures there are: only equal numbers of pictures can be compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from generator.measure.weights import WeightsError

# sFID (Nash et al. 2021) looks at seven channels of 17×17 places: in ADM's evaluator those of
# "mixed_6/conv:0", which is the 1×1 convolution of this block, before its norm.
SPATIAL_BLOCK, SPATIAL = "Mixed_6d", 7
SIDE = 299


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """d² of two sets of features (n, d) and (m, d), in float64.

    Raises:
        ValueError: fewer than two rows, or other widths.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"need two rows or more of equal width, got shapes {a.shape} and {b.shape}")
    # tr (Σ₁ Σ₂)^½ is the sum of the singular values of X Yᵀ, where Σ₁ = Xᵀ X and Σ₂ = Yᵀ Y: no square root
    # of a singular matrix is taken, and of n × m and d × d the smaller is decomposed.
    x, y = ((rows - rows.mean(0)) / np.sqrt(len(rows) - 1) for rows in (a.astype(float), b.astype(float)))
    if min(len(x), len(y)) > x.shape[1]:
        x, y = np.linalg.qr(x, mode="r"), np.linalg.qr(y, mode="r")
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    moved = np.square(a.mean(0) - b.mean(0)).sum()
    return float(max(moved + np.square(x).sum() + np.square(y).sum() - 2 * cross, 0.0))


class Inception(nn.Module):
    """FID's Inception: pictures (n, 3, h, w) in [0, 1] to features (n, 2048) and spatial ones (n, 2023)."""

    def __init__(self) -> None:
        """Random weights; `load` gives it the published ones. WeightsError without pyiqa."""
        super().__init__()
        try:  # pytorch-fid's blocks: averages that leave the padding out, and a maximum in the last
            from pyiqa.archs import inception as blocks
        except ImportError as error:
            raise WeightsError(
                "FID needs the Inception blocks of pyiqa: pip install 'pairstudy[measure]'"
            ) from error
        from torchvision.models import inception_v3

        net = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        net.Mixed_5b = blocks.FIDInceptionA(192, pool_features=32)
        net.Mixed_5c = blocks.FIDInceptionA(256, pool_features=64)
        net.Mixed_5d = blocks.FIDInceptionA(288, pool_features=64)
        for name, channels in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            setattr(net, f"Mixed_6{name}", blocks.FIDInceptionC(768, channels_7x7=channels))
        net.Mixed_7b, net.Mixed_7c = blocks.FIDInceptionE_1(1280), blocks.FIDInceptionE_2(2048)
        self.net = net.eval().requires_grad_(False)

    @classmethod
    def load(cls, weights: Path) -> Inception:
        """From pytorch-fid's file; WeightsError if it is something else."""
        model = cls()
        try:
            model.net.load_state_dict(torch.load(weights, weights_only=True))
        except (RuntimeError, OSError, AttributeError) as error:
            raise WeightsError(f"{weights}: not FID's Inception: {str(error).splitlines()[0]}") from error
        return model

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures are brought to 299×299 by a bicubic filter, antialiased, as in clean-fid."""
        x = F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1) * 2 - 1
        spatial = torch.empty(0)
        for name, layer in self.net.named_children():
            if name in ("avgpool", "dropout", "fc"):
                break
            if name == SPATIAL_BLOCK:
                spatial = layer.branch1x1.conv(x)[:, :SPATIAL].flatten(1)
            x = layer(x)
        return x.mean((2, 3)), spatial
