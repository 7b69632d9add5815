import os
import struct

import pytest

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch
from safetensors.torch import save_file
from torch import nn

from generator.quantize import Dynamic, QuantLinear, Static, Weights, quantize_model, size_bytes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)  # float buffers and an int64 counter
        self.head = nn.Linear(8, 5)
        self.register_buffer("scratch", torch.zeros(1000), persistent=False)


def bytes_on_disk(model, path):
    """The file as the backbone is stored (floats in fp16), less its header."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(state, path)
    content = path.read_bytes()
    return len(content) - 8 - struct.unpack("<Q", content[:8])[0]


@pytest.mark.parametrize(
    "weights",
    [None, *map(Weights, (2, 3, 4, 6, 8)), Weights(4, group=2), Weights(4, group=2, symmetric=False)],
)
def test_size_is_what_safetensors_writes(weights, tmp_path):
    model = quantize_model(Net(), weights, Static(8, -1, 1), ["head"]) if weights else Net()
    assert size_bytes(model) == bytes_on_disk(model, tmp_path / "model.safetensors")


def test_size_by_hand():
    # 5 rows of 7 four-bit values: 4 bytes each, with padding; 5 scales and 5 biases of 2 bytes.
    layer = QuantLinear.from_float(nn.Linear(7, 5), Weights(4), Dynamic(8))
    assert size_bytes(layer) == 5 * 4 + 5 * 2 + 5 * 2
    assert size_bytes(nn.Linear(7, 5).double()) == 2 * (35 + 5)


def test_tied_weights_are_counted_once():
    model = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)})
    model["b"].weight = model["a"].weight
    assert size_bytes(model) == 2 * 16


def test_running_does_not_change_the_size():
    model = quantize_model(nn.Sequential(nn.Linear(4, 4)), Weights(4), Dynamic(4))
    before = size_bytes(model)
    model(torch.ones(1, 4))
    assert size_bytes(model.to(torch.bfloat16)) == before
