"""The true size of a model: the bytes that are stored, never nominal bits."""

from torch import Tensor, nn

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


def _storage(tensor: Tensor) -> tuple[int, int, tuple[int, ...]]:
    """Tell the memory a tensor lies in; an empty tensor has none and is told apart by nothing, at no cost."""
    return tensor.data_ptr(), tensor.numel(), tuple(tensor.shape)
