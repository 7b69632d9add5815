import pytest
import torch
from torchvision.models import alexnet

from generator.measure.lpips import CHANNELS, Lpips, lpips, unit_distance
from generator.measure.weights import WeightsError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A random AlexNet and random weights of channels, as torchvision and the authors store theirs."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), folder / "alexnet.pth")
    lines = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(CHANNELS)}
    torch.save(lines, folder / "alex.pth")
    return folder / "alexnet.pth", folder / "alex.pth"


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, 64, 64, generator=generator), torch.rand(3, 3, 64, 64, generator=generator)


def test_it_is_pyiqas(files, pairs, monkeypatch):
    module = pytest.importorskip("pyiqa.archs.lpips_arch")
    net = alexnet(weights=None)
    net.load_state_dict(torch.load(files[0], weights_only=True))
    monkeypatch.setattr(module.models, "alexnet", lambda weights: net)
    peer = module.LPIPS(pretrained=False, net="alex", use_dropout=True)
    for i, weight in enumerate(torch.load(files[1], weights_only=True).values()):
        getattr(peer, f"lin{i}").model[1].weight.data.copy_(weight)
    with torch.no_grad():
        expected = peer.eval()(*pairs).flatten()
    assert lpips(Lpips.load(*files), *pairs) == pytest.approx(expected.numpy(), rel=1e-4)


def test_equal_pictures_have_no_distance_and_order_does_not_matter(files, pairs):
    model, (a, b) = Lpips.load(*files), pairs
    assert lpips(model, a, a) == pytest.approx(0)
    assert lpips(model, a, b) == pytest.approx(lpips(model, b, a), rel=1e-5)
    slightly = (a + 0.01 * (b - a)).clamp(0, 1)
    assert (lpips(model, a, slightly) > 0).all() and (lpips(model, a, slightly) < lpips(model, a, b)).all()


def test_without_weights_it_is_the_cosine_of_every_place():
    """|â − b̂|² = 2 − 2 cos, meaned over places, summed over layers."""
    torch.manual_seed(0)
    a, b = ([torch.randn(2, c, 3, 4) for c in (5, 7)] for _ in "ab")
    expected = sum((2 - 2 * torch.cosine_similarity(x, y)).mean((1, 2)) for x, y in zip(a, b, strict=True))
    assert unit_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_other_weights_are_refused(files):
    with pytest.raises(WeightsError, match="not AlexNet and LPIPS's weights"):
        Lpips.load(files[1], files[0])
