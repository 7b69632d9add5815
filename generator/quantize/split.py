"""Layers whose input has parts of very different ranges: each part gets a layer, and so a grid, of its own.

Both classes compute exactly what the layer they come from computes, as long as nothing is quantized.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn


class BosLinear(nn.Module):
    """A Linear on text whose first token is the same in every prompt (MixDQ, section 4.1).

    That token (BOS) holds outliers some 80 times larger than any other value, and its output is a constant:
    it is stored, (out,), and `rest` sees the other tokens only. A text of zeros, which is what SDXL takes for
    an empty negative prompt, has no BOS: there the first token's output is that of the second.
    """

    first: Tensor

    def __init__(self, rest: nn.Module, first: Tensor) -> None:
        """`rest` is the layer, `first` its output for the first token."""
        super().__init__()
        self.rest = rest
        self.register_buffer("first", first)

    @classmethod
    def from_float(cls, layer: nn.Linear, token: Tensor) -> Self:
        """Precompute the layer's output for `token`, (in,); it is stored in fp16."""
        with torch.no_grad():
            return cls(layer, layer(token).half().to(token.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Text (B, T, in) to (B, T, out)."""
        others = self.rest(x[:, 1:])
        empty = (x[:, :1] == 0).all(-1, keepdim=True)
        return torch.cat([torch.where(empty, others[:, :1], self.first), others], 1)


class SplitConv2d(nn.Module):
    """A Conv2d on a concatenation [hidden, skip] as the sum of two (Q-Diffusion, and MixDQ after it)."""

    def __init__(self, first: nn.Module, second: nn.Module, channels: int) -> None:
        """`first` takes the first `channels` channels, `second` the others."""
        super().__init__()
        self.first, self.second, self.channels = first, second, channels

    @classmethod
    def from_float(cls, layer: nn.Conv2d, channels: int) -> Self:
        """Split the weight at input channel `channels`; the bias goes with the first part.

        Raises:
            ValueError: a convolution in groups, or a place outside the channels.
        """
        if layer.groups != 1 or not 0 < channels < layer.in_channels:
            raise ValueError(f"{layer} cannot be split at channel {channels}")
        parts = []
        for weight, bias in zip(
            layer.weight.split([channels, layer.in_channels - channels], 1), (layer.bias, None), strict=True
        ):
            part = nn.Conv2d(
                weight.shape[1],
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]  # a tuple of two, always
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                bias=bias is not None,
                padding_mode=layer.padding_mode,
                device="meta",
            )
            part.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
            part.bias = bias
            parts.append(part)
        return cls(parts[0], parts[1], channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H′, W′)."""
        return self.first(x[:, : self.channels]) + self.second(x[:, self.channels :])


def split_concatenations(unet: nn.Module) -> dict[str, "SplitConv2d"]:
    """The convolutions over [hidden, skip] in a U-Net's way up, by name, taken apart."""
    layers = dict(unet.named_modules())
    return {
        name: SplitConv2d.from_float(layer, channels)
        for block, channels in hidden_channels(unet).items()
        for name in (f"{block}.conv1", f"{block}.conv_shortcut")
        if isinstance(layer := layers.get(name), nn.Conv2d)
    }


def hidden_channels(unet: nn.Module) -> dict[str, int]:
    """For each residual block in a U-Net's way up, by name, how many input channels are not the skip's.

    Empty for a model without a way up, such as a transformer.
    """
    blocks: Any = unet  # torch's types do not know a module's children
    if not hasattr(unet, "up_blocks"):
        return {}
    pushed = [blocks.conv_in.out_channels]
    for block in blocks.down_blocks:
        pushed += [resnet.out_channels for resnet in block.resnets]
        if block.downsamplers:
            pushed.append(pushed[-1])
    return {
        f"up_blocks.{i}.resnets.{j}": resnet.in_channels - pushed.pop()
        for i, block in enumerate(blocks.up_blocks)
        for j, resnet in enumerate(block.resnets)
    }
