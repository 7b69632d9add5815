"""Networks on a GPU, without one: tensors that have a shape and a device, but no numbers.

torch refuses operations on tensors of two devices as it would there.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from generator.fidelity import psnr, ssim
from generator.measure import scorers
from generator.measure.frechet import Inception
from generator.measure.lpips import Lpips, lpips
from generator.models import MODELS

TEXTS = ["a red circle", "a blue star"]


@pytest.fixture(scope="module")
def networks():
    return MODELS["shapes"].scorer("clip"), Lpips(), Inception()


@pytest.fixture
def gpu(networks, monkeypatch):
    def numpy(tensor):
        assert tensor.device.type == "cpu"
        return np.zeros(tensor.shape)

    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield torch.device("cuda")


@pytest.fixture
def pictures(gpu):
    return torch.rand(2, 3, 96, 64, device=gpu)


def moved(module, device):
    """The module with parameters and buffers on the device, where they hold nothing."""
    for part in module.modules():
        for stored in (part._parameters, part._buffers):
            for name, value in stored.items():
                if value is not None:
                    empty = torch.empty(value.shape, dtype=value.dtype, device=device)
                    stored[name] = nn.Parameter(empty, requires_grad=False)
    return module


def test_two_devices_are_refused(pictures):
    with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
        pictures + torch.rand(2, 3, 96, 64)


def test_clip_computes_where_the_pictures_are(networks, gpu, pictures, monkeypatch):
    monkeypatch.setattr(nn.Module, "to", moved)
    scorer = networks[0].to(gpu)
    resized = scorers.resized(scorer, pictures)
    assert resized.device.type == scorer.text_features(TEXTS).device.type == "cuda"
    assert [len(values) for values in scorer.scores(resized, TEXTS)] == [2, 2]
    assert len(scorers.cosines(scorer, pictures, TEXTS)) == 2


def test_what_compares_pictures_computes_where_they_are(networks, gpu, pictures):
    assert len(psnr(pictures, pictures)) == len(ssim(pictures, pictures)) == 2
    assert len(lpips(moved(networks[1], gpu), pictures, pictures)) == 2
    pool, spatial = moved(networks[2], gpu)(pictures)
    assert (pool.shape, pool.device.type, spatial.device.type) == ((2, 2048), "cuda", "cuda")
