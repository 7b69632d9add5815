"""The true size of a model: the bytes that are stored, never nominal bits."""

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FLOAT_BYTES = 2  # the backbone is stored in fp16 (or bf16), whatever dtype it runs in


def size_bytes(model: nn.Module) -> int:
    """Return the bytes of every stored tensor of `model`: what safetensors writes, less its header.

    Parameters and persistent buffers count; float tensors at two bytes a value, all others at their own width
    (int8 and packed uint8 at one). A tensor that several names share is stored, and counted, once.
    """
    stored = {_storage(tensor): tensor for tensor in model.state_dict().values()}
    return sum(
        tensor.numel() * (FLOAT_BYTES if tensor.is_floating_point() else tensor.element_size())
        for tensor in stored.values()
    )


def numbers_bytes(numbers: "DataclassInstance | None") -> int:
    """Return the bytes of the numbers that a method puts into the scheduler, two for each (fp16)."""

    def count(value: Any) -> int:
        return sum(map(count, value)) if isinstance(value, tuple | list) else 1

    return 0 if numbers is None else FLOAT_BYTES * count(astuple(numbers))


def _storage(tensor: Tensor) -> tuple[int, int, tuple[int, ...]]:
    """Tell the memory a tensor lies in; an empty tensor has none and is told apart by nothing, at no cost."""
    return tensor.data_ptr(), tensor.numel(), tuple(tensor.shape)
