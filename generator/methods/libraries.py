"""Quantizers of other libraries, as they come: bitsandbytes and torchao, and nunchaku's ready checkpoints.

The first two quantize Linear layers alone, so a U-Net's convolutions stay in 16 bits; all have kernels of
their own, so nothing is simulated. bitsandbytes' layers are what diffusers' `BitsAndBytesConfig` makes, put
in place one by one: diffusers itself refuses to quantize without a GPU, although bitsandbytes can.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from types import ModuleType

import torch
from diffusers import DiffusionPipeline
from torch import nn

from generator.methods import Method, MethodError
from generator.models import BaseModel
from generator.quantize import quantizable, replace

FP8_CAPABILITY = (8, 9)
# Where nunchaku has 4-bit kernels: Turing, Ampere, Ada (int4) and Blackwell (fp4); Hopper has no such units.
NUNCHAKU_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0))
NUNCHAKU_READY = {  # base model: module, class, checkpoint
    "sdxl-turbo": (
        "nunchaku.models.unets.unet_sdxl",
        "NunchakuSDXLUNet2DConditionModel",
        "nunchaku-tech/nunchaku-sdxl-turbo/svdq-{precision}_r32-sdxl-turbo.safetensors",
    ),
    "flux-schnell": (
        "nunchaku",
        "NunchakuFluxTransformer2dModel",
        "nunchaku-tech/nunchaku-flux.1-schnell/svdq-{precision}_r32-flux.1-schnell.safetensors",
    ),
}


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        how = "see its releases" if name.startswith("nunchaku") else "pip install 'pairstudy[libraries]'"
        raise MethodError(f"{name} cannot be imported ({error}): {how}") from error


def _linears(model: nn.Module, base: BaseModel) -> Iterator[tuple[str, nn.Linear]]:
    for name, layer in quantizable(model, base.keep).items():
        if isinstance(layer, nn.Linear):
            yield name, layer


def _bitsandbytes(kind: str) -> Callable[[DiffusionPipeline, BaseModel], None]:
    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        bnb = _library("bitsandbytes")
        # At every product it tells that it casts to 16 bits, which the notes of the method say once.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
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
                # For a kernel of some CPUs' the first product repacks the weight, which takes whole blocks of
                # a row only, and which state_dict() undoes wrongly. The other way takes any CPU and width.
                new.support_avx512bf16_for_cpu = False
                stored = bnb.nn.Params4bit(weight.cpu(), requires_grad=False, **new.weight.__dict__)
            new.weight, new.bias = stored.to(device), layer.bias  # moving it quantizes it
            replace(backbone, {name: new.eval()})

    return apply


def _torchao(kind: str) -> Callable[[DiffusionPipeline, BaseModel], None]:
    def apply(pipeline: DiffusionPipeline, base: BaseModel) -> None:
        _check_torchao(kind)
        quantization = _library("torchao.quantization")
        config = quantization.Int8DynamicActivationInt8WeightConfig()
        if kind == "fp8":
            config = quantization.Float8DynamicActivationFloat8WeightConfig(granularity=quantization.PerRow())
        backbone = getattr(pipeline, base.backbone)
        chosen = {layer for _, layer in _linears(backbone, base)}
        quantization.quantize_(backbone, config, filter_fn=lambda layer, _: layer in chosen)

    return apply


def _check_torchao(kind: str) -> None:
    _library("torchao.quantization")
    if kind == "fp8" and _capability() < FP8_CAPABILITY:
        needs = "torchao-fp8 needs a GPU of compute capability 8.9 or more"
        raise MethodError(f"{needs}; here is {_told(_capability())}")


def _nunchaku(pipeline: DiffusionPipeline, base: BaseModel) -> None:
    """Put the ready checkpoint in place of the backbone; nunchaku fetches it, or takes it from its cache."""
    _check_nunchaku(base)
    module, name, checkpoint = NUNCHAKU_READY[base.id]
    precision = "fp4" if _capability()[0] == 12 else "int4"
    made = getattr(_library(module), name).from_pretrained(checkpoint.format(precision=precision))
    old = getattr(pipeline, base.backbone)
    setattr(pipeline, base.backbone, made.to(old.device))


def _check_nunchaku(base: BaseModel) -> None:
    if base.id not in NUNCHAKU_READY:
        ready = ", ".join(NUNCHAKU_READY)
        raise MethodError(f"nunchaku has no ready checkpoint of {base.id}; there are those of {ready}")
    if _capability() not in NUNCHAKU_CAPABILITIES:
        known = ", ".join(_told(each) for each in NUNCHAKU_CAPABILITIES)
        raise MethodError(
            f"nunchaku runs on GPUs of compute capability {known}; here is {_told(_capability())}"
        )
    _library(NUNCHAKU_READY[base.id][0])


def _capability() -> tuple[int, int]:
    """Of the first GPU; (0, 0) without one."""
    return torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)


def _told(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}" if capability[0] else "no GPU"


METHODS = [
    Method(
        "bnb-nf4", "bitsandbytes NF4", 4, 16,
        "bitsandbytes: Linear weights on the 4-bit NormalFloat grid in blocks of 64, activations as they are",
        _bitsandbytes("nf4"), check=lambda _: _library("bitsandbytes"),
    ),
    Method(
        "bnb-fp4", "bitsandbytes FP4", 4, 16,
        "bitsandbytes: Linear weights on the 4-bit float grid in blocks of 64, activations as they are",
        _bitsandbytes("fp4"), check=lambda _: _library("bitsandbytes"),
    ),
    Method(
        "bnb-int8", "bitsandbytes LLM.int8", 8, 8,
        "bitsandbytes: Linear layers in LLM.int8, whose outlier channels (beyond 6) stay in 16 bits",
        _bitsandbytes("int8"), check=lambda _: _library("bitsandbytes"),
    ),
    Method(
        "torchao-w8a8", "torchao W8A8", 8, 8,
        "torchao: Linear weights int8 by output channel, activations int8 by token",
        _torchao("int8"), check=lambda _: _check_torchao("int8"),
    ),
    Method(
        "torchao-fp8", "torchao FP8", 8, 8,
        "torchao: Linear weights float8 by output channel, activations float8 by token",
        _torchao("fp8"), check=lambda _: _check_torchao("fp8"),
    ),
    Method(
        "nunchaku-w4a4", "SVDQuant W4A4 (nunchaku)", 4, 4,
        "the ready SVDQuant checkpoint of nunchaku, on its own kernels",
        _nunchaku, check=_check_nunchaku,
    ),
]  # fmt: skip
