"""The true size of a model: the bytes that are stored, never nominal bits."""

from collections.abc import Iterator
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FLOAT_BYTES = 2  # the backbone is stored in fp16 (or bf16), whatever dtype it runs in
KINDS = ("integers", "scales", "branches and tables", "16 bits")
SCALES = ("weight_scale", "weight_zero", "act_scale", "act_zero")
BRANCHES = ("up", "down", "smooth", "first", "table")  # low rank, smoothing, BOS rows, time tables


def size_bytes(model: nn.Module) -> int:
    """Return the bytes of every stored tensor of `model`: what safetensors writes, less its header.

    Parameters and persistent buffers count; float tensors at two bytes a value, all others at their own width
    (int8 and packed uint8 at one). What other libraries store beside them or inside them (bitsandbytes'
    statistics, the parts of a torchao tensor) counts at its own width, floats too. A tensor that several
    names share is stored, and counted, once.
    """
    return sum(stored_bytes(model).values())


def stored_bytes(model: nn.Module) -> dict[str, int]:
    """Return the bytes of `size_bytes` by what they are: KINDS.

    "integers" are quantized weights, "scales" all that belongs to their grids and the activations'; what is
    neither quantized nor added by a method is "16 bits".
    """
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    own = {name for name, _ in named}
    stored: dict[tuple[int, int, tuple[int, ...]], tuple[str, int]] = {}
    for name, tensor in model.state_dict().items():
        parts = list(_parts(tensor))
        plain = name in own and parts[0] is tensor
        for part in parts:
            width = FLOAT_BYTES if plain and part.is_floating_point() else part.element_size()
            stored[_storage(part)] = (_kind(name, part, plain), part.numel() * width)
    found = dict.fromkeys(KINDS, 0)
    for kind, count in stored.values():
        found[kind] += count
    return found


def numbers_bytes(numbers: "DataclassInstance | None") -> int:
    """Return the bytes of the numbers that a method puts into the scheduler, two for each (fp16)."""

    def count(value: Any) -> int:
        return sum(map(count, value)) if isinstance(value, tuple | list) else 1

    return 0 if numbers is None else FLOAT_BYTES * count(astuple(numbers))


def _kind(name: str, part: Tensor, plain: bool) -> str:
    last = name.rpartition(".")[2]
    if last in SCALES:
        return "scales"
    if last in BRANCHES and plain:
        return "branches and tables"
    if part.is_floating_point():
        return "16 bits" if plain else "scales"
    # Packed integers of this package, and the weights of others; other whole numbers describe them.
    return "integers" if last in ("weight_q", "weight") and part.numel() > 1 else "scales"


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that one is made of: itself, or those a library has wrapped."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        if (part := getattr(tensor, name)) is not None:
            yield from _parts(part)


def _storage(tensor: Tensor) -> tuple[int, int, tuple[int, ...]]:
    """Tell the memory a tensor lies in; an empty tensor has none and is told apart by nothing, at no cost."""
    return tensor.data_ptr(), tensor.numel(), tuple(tensor.shape)
