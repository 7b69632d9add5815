import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from generator.measure.frechet import Inception, frechet_distance
from generator.measure.weights import WeightsError


def test_one_dimension_is_the_closed_form():
    """(μ₁ − μ₂)² + (σ₁ − σ₂)²."""
    a, b = np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [2.0], [3.0], [2.0]])
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [(200, 150), (5, 7), (200, 5)])
def test_it_is_the_textbook_formula(sizes):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(8, 8))
    a, b = rng.normal(size=(sizes[0], 8)), rng.normal(0.3, 1, size=(sizes[1], 8)) @ mix
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(c + d) - 2 * np.trace(sqrtm(c @ d)).real
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_one_picture_has_no_covariance():
    with pytest.raises(ValueError, match="two rows or more"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))


@pytest.fixture(scope="module")
def inception():
    pytest.importorskip("pyiqa")
    torch.manual_seed(0)
    return Inception()


def test_inception_is_pytorch_fids(inception, monkeypatch):
    """With random weights, at 299×299, where nothing is resized; the spatial features by their own path."""
    from pyiqa.archs import inception as pyiqa

    monkeypatch.setattr(pyiqa, "fid_inception_v3", lambda: inception.net)
    pictures = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(0))
    seen = {}
    handle = inception.net.Mixed_6d.branch1x1.conv.register_forward_hook(
        lambda *call: seen.update(conv=call[2])
    )
    pool, spatial = inception(pictures)
    handle.remove()
    with torch.no_grad():
        (expected,) = pyiqa.InceptionV3(resize_input=False).eval()(pictures)
    assert torch.allclose(pool, expected.flatten(1), rtol=1e-4, atol=1e-5)
    assert spatial.shape == (2, 7 * 17 * 17)
    assert torch.equal(spatial.view(2, 7, 17, 17), seen["conv"][:, :7])


def test_inceptions_weights_are_loaded_from_a_file(inception, tmp_path):
    torch.save(inception.net.state_dict(), tmp_path / "fid.pth")
    pictures = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Inception.load(tmp_path / "fid.pth")(pictures)[0], inception(pictures)[0])
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: not FID's Inception"):
        Inception.load(tmp_path / "other.pth")
