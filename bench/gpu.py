"""SDXL's U-Net and FLUX's transformer at full size, random weights: bytes, memory and time a step, by method.

    python bench/gpu.py [--models sdxl,flux] [--methods bf16,bf16-compiled,…] [-o bench/results/gpu.json]
    python bench/gpu.py --small --device cpu        # the same code on tiny models, to see that it runs

Each model is run at its usual size (SDXL 512×512, FLUX 1024×1024), batch 1: 3 warm-ups, 10 runs, CUDA events,
median; the peak of memory is torch's, weights and activations. bf16 eager and compiled are measured in the
same run, and every time is also given as a ratio to bf16 eager. Random weights tell nothing of quality. Our
own methods simulate integer arithmetic, and keep the dequantized weight beside the integers: their memory
and time are those of the simulation, their bytes are true. bitsandbytes and torchao have real kernels.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel

from generator.methods import MethodError, all_methods, libraries
from generator.methods.mixdq import mixdq
from generator.methods.svdquant import svdquant
from generator.models import ENTRIES
from generator.quantize import Dynamic, Weights, quantize_model, size_bytes
from generator.sweep import software_versions

WARM_UP, RUNS = 3, 10
SDXL = {
    "sample_size": 64,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
FLUX = {"num_layers": 19, "num_single_layers": 38, "guidance_embeds": False}
SMALL_SDXL = {
    "block_out_channels": (32, 64, 64),
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (2, 4, 4),
}
SMALL_FLUX = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2}
NAIVE = {"w8a8": (8, 8), "w4a8": (4, 8), "w4a4": (4, 4)}
METHODS = (
    "bf16,bf16-compiled,w8a8,w4a8,w4a4,mixdq-w8a8,svdquant-w4a4,"
    "bnb-nf4,bnb-int8,torchao-w8a8,torchao-w8a8-compiled,torchao-fp8,torchao-fp8-compiled"
)


def build(name, device, small):
    """The model with random weights in bf16, what `keep` names, and the arguments of a call."""
    make, settings = (UNet2DConditionModel, SDXL) if name == "sdxl" else (FluxTransformer2DModel, FLUX)
    if small:
        settings = settings | (SMALL_SDXL if name == "sdxl" else SMALL_FLUX)
    with torch.device("meta"):
        model = make(**settings).to(torch.bfloat16)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(0, 0.02)
    if name == "flux":
        model.pos_embed = type(model.pos_embed)(theta=10000, axes_dim=model.config.axes_dims_rope)

    def noise(*shape):
        return torch.randn(shape, device=device, dtype=torch.bfloat16)

    if name == "sdxl":
        side = 8 if small else 64
        conditions = {"text_embeds": noise(1, 1280), "time_ids": torch.ones(1, 6, device=device)}
        call = {"sample": noise(1, 4, side, side), "timestep": torch.tensor(999.0, device=device)}
        call |= {"encoder_hidden_states": noise(1, 77, 2048), "added_cond_kwargs": conditions}
    else:
        tokens, words = (16, 8) if small else (4096, 256)
        call = {"hidden_states": noise(1, tokens, 64), "encoder_hidden_states": noise(1, words, 4096)}
        call |= {
            "pooled_projections": noise(1, 768),
            "timestep": torch.ones(1, device=device, dtype=torch.bfloat16),
        }
        call |= {
            "img_ids": torch.zeros(tokens, 3, device=device),
            "txt_ids": torch.zeros(words, 3, device=device),
        }
    keep = ENTRIES["sdxl-turbo" if name == "sdxl" else "flux-schnell"].keep
    return model, tuple(keep), {**call, "return_dict": False}


class Holder:
    """A pipeline of a backbone alone, and the base model that goes with it, for methods that want both."""

    backbone = "model"

    def __init__(self, model, keep):
        self.model, self.keep, self.id = model, keep, "random"


def apply(method, model, keep, call):
    """The model under a method; it may be changed in place."""
    if method in NAIVE:
        weights, acts = NAIVE[method]
        return quantize_model(model, Weights(weights), Dynamic(acts), keep)
    if method == "mixdq-w8a8":
        mixdq(model, lambda: model(**call), 8, keep)
    elif method == "svdquant-w4a4":
        svdquant(model, lambda: model(**call), rank=32)
    elif method != "bf16":
        holder = Holder(model, keep)
        {each.id: each for each in libraries.METHODS}[method].apply(holder, holder)
        return holder.model
    return model


@torch.no_grad()
def measure(name, method, device, small):
    """Bytes, peak memory and milliseconds a step of one method, or why there are none."""
    compiled = method.endswith("-compiled")
    model, keep, call = build(name, device, small)
    parameters = sum(p.numel() for p in model.parameters())
    began = time.perf_counter()
    try:
        model = apply(method.removesuffix("-compiled"), model, keep, call)
    except MethodError as error:
        return {"method": method, "left_out": str(error)}
    applied = time.perf_counter() - began
    size = size_bytes(model)
    if compiled:
        model.compile()
    for _ in range(WARM_UP):
        model(**call)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(RUNS):
        if cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            model(**call)
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            started = time.perf_counter()
            model(**call)
            times.append(1000 * (time.perf_counter() - started))
    return {
        "method": method,
        "parameters": parameters,
        "size_bytes": size,
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "ms_a_step": statistics.median(times),
        "ms": times,
        "apply_s": round(applied, 1),
    }


def lines(name, rows):
    """A table in Markdown."""
    eager = next((row["ms_a_step"] for row in rows if row["method"] == "bf16"), None)
    yield f"\n{name}\n\n| method | GB | peak memory, GB | ms a step | × bf16 eager |\n|---|---|---|---|---|"
    for row in rows:
        if "left_out" in row:
            yield f"| {row['method']} | left out: {row['left_out']} | | | |"
            continue
        peak = f"{row['peak_bytes'] / 1e9:.2f}" if row["peak_bytes"] else ""
        ratio = f"{row['ms_a_step'] / eager:.2f}" if eager else ""
        size = f"{row['size_bytes'] / 1e9:.3f}"
        yield f"| {row['method']} | {size} | {peak} | {row['ms_a_step']:.1f} | {ratio} |"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="sdxl,flux")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    device, methods = torch.device(options.device), options.methods.split(",")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU here; see --small --device cpu")
    known = {*METHODS.split(","), *all_methods()}
    if not set(methods) <= known:
        parser.error(f"--methods: expected some of {METHODS}")
    found = {}
    for name in options.models.split(","):
        rows = found[name] = []
        for method in methods:
            print(f"{name}, {method}", file=sys.stderr, flush=True)
            rows.append(measure(name, method, device, options.small))
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            torch.compiler.reset()
        print("\n".join(lines(name, rows)))
    if options.output:
        where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        options.output.parent.mkdir(parents=True, exist_ok=True)
        record = {"device": where, "small": options.small, **software_versions(), "models": found}
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
