import os

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import numpy as np
import torch

from generator.fidelity import psnr, ssim


def pair():
    generator = torch.Generator().manual_seed(0)
    a = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 6, generator=generator), 24, mode="bilinear")
    return a, (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 4)
    assert np.allclose(psnr(a, a + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)), [20, 40], atol=1e-5)
    assert np.isinf(psnr(a, a)).all()


def test_ssim_by_a_plain_loop_over_windows():
    a, b = (x.double().numpy() for x in pair())
    line = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window = np.outer(line, line) / line.sum() ** 2
    for n in range(2):
        values = []
        for c in range(3):
            for i in range(14):
                for j in range(14):
                    x, y = a[n, c, i : i + 11, j : j + 11], b[n, c, i : i + 11, j : j + 11]
                    mx, my = (window * x).sum(), (window * y).sum()
                    vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                    cov = (window * (x - mx) * (y - my)).sum()
                    values.append(
                        (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
                    )
        assert np.isclose(ssim(*pair())[n], np.mean(values))


def test_ssim_of_equal_pictures_is_one():
    a, b = pair()
    assert np.allclose(ssim(a, a), 1)
    assert (ssim(a, b) < 1).all()
