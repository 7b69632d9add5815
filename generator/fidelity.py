"""How close pictures are to those of another run with the same prompts and noise; one number a picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def psnr(a: Tensor, b: Tensor) -> NDArray[np.float64]:
    """Peak signal to noise ratio in dB, (n,), of pictures (n, 3, s, s) in [0, 1]; infinite where equal."""
    error = (a.double() - b.double()).square().mean((1, 2, 3))
    return (-10 * error.log10()).cpu().numpy()


def ssim(a: Tensor, b: Tensor) -> NDArray[np.float64]:
    """Structural similarity (Wang et al. 2004) in [-1, 1], (n,), of pictures (n, 3, s, s) in [0, 1], s ≥ 11.

    Their settings: an 11×11 Gaussian window of σ = 1.5, K₁ = 0.01, K₂ = 0.03, windows that lie wholly
    within the picture; the mean over windows and colours.
    """
    place = torch.arange(11, dtype=torch.float64, device=a.device) - 5
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    line = line / line.sum()

    def mean(x: Tensor) -> Tensor:  # the Gaussian window is the product of two lines
        return F.conv2d(F.conv2d(x, line.view(1, 1, 11, 1)), line.view(1, 1, 1, 11))

    x, y = (pictures.double().flatten(0, 1)[:, None] for pictures in (a, b))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return index.mean((1, 2, 3)).view(len(a), -1).mean(1).cpu().numpy()
