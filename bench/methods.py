"""The table of the field: every method on the shapes world, on captions that no calibration saw.

    .venv/bin/python bench/methods.py [-n 500] [--methods fp16,w8a8,…] [-o FILE.json] > TABLE.md

All methods draw the same captions from the same noise, so each is compared with full precision picture by
picture: intervals are 95 % t intervals of the mean, of paired differences where it says so. JAQ and its parts
are scored by the CLIP that searches optimise; "judge" is the other one. A caption is right if the reader
(`generator/shapes/reader.py`) finds everything in the picture that the caption names. A toy: nothing here is
evidence about real models.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from scipy.special import stdtrit

from generator.fidelity import psnr, ssim
from generator.methods import all_methods
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.prompts.shapes import SHAPES_STREAMS
from generator.quantize import numbers_bytes, size_bytes
from generator.shapes.networks import WEIGHTS, load
from generator.shapes.reader import ATTRIBUTES, Reader, correct
from generator.shapes.scenes import sample_scenes
from generator.sweep import render, software_versions
from qsched.jaq import jaq, paired_gain

BASE = MODELS["shapes"]
METHODS = (
    "fp16,w8a8,w6a6,w4a16,w4a8,w4a6,w4a5,w4a4,mixdq-w8a8,mixdq-w4a8,svdquant-w4a4,qdiffusion-w4a8,s2p-w4a8,"
    "qsched-w4a8,ptqd-w4a8,ptqd-released-w4a8"
)
# Which of two is nearer to full precision: (nearer if the papers are right, other).
CLAIMS = (
    ("svdquant-w4a4", "w4a4"),
    ("mixdq-w4a8", "w4a8"),
    ("mixdq-w8a8", "w8a8"),
    ("w8a8", "svdquant-w4a4"),
    ("s2p-w4a8", "qdiffusion-w4a8"),
    ("qdiffusion-w4a8", "w4a8"),
    ("ptqd-w4a8", "w4a8"),
    ("ptqd-w4a8", "ptqd-released-w4a8"),
    ("qsched-w4a8", "w4a8"),
)
BATCH = 50


def captions_right(reader, pictures, scenes):
    """1.0 where everything the caption names was found, else 0.0; (n,)."""
    parts = [correct(reader, pictures, scenes, attribute) for attribute in ATTRIBUTES]
    return np.nanmin(parts, axis=0)


def measure(method, prompts, scenes, scorers, reader, full):
    """Bytes, and for each measure one number a picture; the pictures themselves under "pictures"."""
    began = time.process_time()
    pipeline = BASE.load()
    numbers = method.apply(pipeline, BASE)
    applied = time.process_time() - began
    size = size_bytes(getattr(pipeline, BASE.backbone)) + numbers_bytes(numbers)
    pictures = torch.cat(
        [render(pipeline, BASE, prompts[i : i + BATCH]) for i in range(0, len(prompts), BATCH)]
    )
    texts = [prompt.text for prompt in prompts]
    values = {"right": captions_right(reader, pictures, scenes)}
    for name, scorer in scorers.items():
        clip_score, clip_iqa = scorer.scores(pictures, texts)
        values |= {f"{name}_score": clip_score, f"{name}_iqa": clip_iqa}
        values[f"{name}_jaq"] = jaq(clip_score, clip_iqa).values
    if full is not None:
        values |= {"psnr": psnr(full, pictures), "ssim": ssim(full, pictures)}
    return {"size_bytes": size, "apply_cpu_s": round(applied, 1), "values": values, "pictures": pictures}


def interval(values):
    """Mean and half width of its 95 % t interval."""
    n = len(values)
    return values.mean(), stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n)


def rows(found):
    """The lines of the table, in Markdown."""
    scores = ["JAQ", "Δ JAQ to fp16", "Δ JAQ by the judge", "CLIPScore", "CLIP-IQA"]
    columns = ["method", "MB", *scores, "caption right", "Δ right", "PSNR, dB", "SSIM"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    first = found["fp16"]["values"]
    for name, outcome in found.items():
        values = outcome["values"]
        cells = [name, f"{outcome['size_bytes'] / 1e6:.2f}", f"{values['clip_jaq'].mean():.3f}"]
        for key, scale, digits in (("clip_jaq", 1, 3), ("judge_jaq", 1, 3)):
            cells.append(difference(first[key], values[key], scale, digits) if name != "fp16" else "")
        cells += [f"{values['clip_score'].mean():.1f}", f"{values['clip_iqa'].mean():.3f}"]
        cells.append(f"{100 * values['right'].mean():.1f} %")
        cells.append(difference(first["right"], values["right"], 100, 1) if name != "fp16" else "")
        for key, digits in (("psnr", 1), ("ssim", 3)):
            mean, margin = interval(values[key]) if key in values else (None, None)
            cells.append("" if mean is None else f"{mean:.{digits}f} ± {margin:.{digits}f}")
        yield f"| {' | '.join(cells)} |"


def difference(before, after, scale, digits):
    """Mean of after − before with its 95 % interval."""
    gain = paired_gain(before, after)
    low, mean, high = (scale * x for x in (gain.low, gain.gain, gain.high))
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def claims(found):
    """For each claim that can be checked: paired differences of distance to full precision."""
    for nearer, other in CLAIMS:
        if nearer in found and other in found:
            a, b = (found[name]["values"] for name in (other, nearer))
            yield (
                f"- {nearer} − {other}: PSNR {difference(a['psnr'], b['psnr'], 1, 2)} dB, "
                f"SSIM {difference(a['ssim'], b['ssim'], 1, 4)}, "
                f"JAQ {difference(a['clip_jaq'], b['clip_jaq'], 1, 4)}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    methods, known = options.methods.split(","), all_methods()
    if methods[0] != "fp16" or not set(methods) <= set(known):
        parser.error(f"--methods: fp16 first, then any of {', '.join(known)}")
    prompts = shapes_prompts("heldout", options.n)
    scenes = sample_scenes(SHAPES_STREAMS["heldout"], options.n)
    scorers = {name: BASE.scorer(name) for name in ("clip", "judge")}
    reader, full, found = load(Reader(), "reader"), None, {}
    for name in methods:
        print(name, file=sys.stderr, flush=True)
        found[name] = measure(known[name], prompts, scenes, scorers, reader, full)
        pictures = found[name].pop("pictures")
        full = pictures if full is None else full
    print("\n".join(rows(found)))
    print(f"\n{options.n} held-out captions, {BASE.steps} steps. Nearer to full precision, paired:\n")
    print("\n".join(claims(found)))
    if options.output:
        weights = hashlib.sha256((WEIGHTS / "unet.safetensors").read_bytes()).hexdigest()
        means = {
            name: {**outcome, "values": {key: float(x.mean()) for key, x in outcome["values"].items()}}
            for name, outcome in found.items()
        }
        record = {"captions": options.n, "unet_sha256": weights, **software_versions(), "methods": means}
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
