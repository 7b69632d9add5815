"""Quantizers of other libraries, as they come: bitsandbytes and torchao.

Both quantize Linear layers alone, so a U-Net's convolutions stay in 16 bits; both have kernels of their own,
so nothing is simulated. bitsandbytes' layers are what diffusers' `BitsAndBytesConfig` makes, put in place one
by one: diffusers itself refuses to quantize without a GPU, although bitsandbytes can.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType

import torch
from diffusers import DiffusionPipeline
from torch import nn

from generator.methods import Method, MethodError
from generator.models import BaseModel
from generator.quantize import quantizable, replace

FP8_CAPABILITY = (8, 9)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        told = f"{name} cannot be imported ({error}): pip install 'pairstudy[libraries]'"
        raise MethodError(told) from error


def _linears(model: nn.Module, base: BaseModel) -> Iterator[tuple[str, nn.Linear]]:
    for name, layer in quantizable(model, base.keep).items():
        if isinstance(layer, nn.Linear):
            yield name, layer


def _bitsandbytes(kind: str) -> Callable[[DiffusionPipeline, BaseModel], None]:
    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        bnb = _library("bitsandbytes")
        backbone = getattr(pipeline, base.backbone)
        for name, layer in _linears(backbone, base):
            shape = (layer.in_features, layer.out_features, layer.bias is not None)
            weight, device = layer.weight.detach(), layer.weight.device
            if kind == "int8":
                new = bnb.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=6.0, device="meta")
                stored = bnb.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
            else:
                options = {"compute_dtype": weight.dtype, "quant_type": kind, "compress_statistics": False}
                new = bnb.nn.Linear4bit(*shape, **options, device="meta")
                stored = bnb.nn.Params4bit(weight.cpu(), requires_grad=False, **new.weight.__dict__)
            new.weight, new.bias = stored.to(device), layer.bias  # moving it quantizes it
            replace(backbone, {name: new.eval()})

    return apply


def _torchao(kind: str) -> Callable[[DiffusionPipeline, BaseModel], None]:
    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        quantization = _library("torchao.quantization")
        backbone = getattr(pipeline, base.backbone)
        if kind == "int8":
            config = quantization.Int8DynamicActivationInt8WeightConfig()
        else:
            major, minor = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
            if (major, minor) < FP8_CAPABILITY:
                here = f"one of {major}.{minor}" if major else "none"
                raise MethodError(
                    f"torchao-fp8 needs a GPU of compute capability 8.9 or more; here is {here}"
                )
            config = quantization.Float8DynamicActivationFloat8WeightConfig(granularity=quantization.PerRow())
        chosen = {layer for _, layer in _linears(backbone, base)}
        quantization.quantize_(backbone, config, filter_fn=lambda layer, _: layer in chosen)

    return apply


METHODS = [
    Method(
        "bnb-nf4", "bitsandbytes NF4", 4, 16,
        "bitsandbytes: Linear weights on the 4-bit NormalFloat grid in blocks of 64, activations as they are",
        _bitsandbytes("nf4"),
    ),
    Method(
        "bnb-fp4", "bitsandbytes FP4", 4, 16,
        "bitsandbytes: Linear weights on the 4-bit float grid in blocks of 64, activations as they are",
        _bitsandbytes("fp4"),
    ),
    Method(
        "bnb-int8", "bitsandbytes LLM.int8", 8, 8,
        "bitsandbytes: Linear layers in LLM.int8, whose outlier channels (beyond 6) stay in 16 bits",
        _bitsandbytes("int8"),
    ),
    Method(
        "torchao-w8a8", "torchao W8A8", 8, 8,
        "torchao: Linear weights int8 by output channel, activations int8 by token",
        _torchao("int8"),
    ),
    Method(
        "torchao-fp8", "torchao FP8", 8, 8,
        "torchao: Linear weights float8 by output channel, activations float8 by token",
        _torchao("fp8"),
    ),
]  # fmt: skip
