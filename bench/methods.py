"""The table of the field: every method on the shapes world, on captions that no calibration saw.

    python bench/methods.py [GALLERY] [-n 500] [--methods fp16,w8a8,…] [--plot FILE.svg] > TABLE.md

Draws and measures a gallery as `generator run` and `generator measure` do: interrupted, the same command goes
on; where all is drawn, it prints the table again in minutes. All methods draw the same captions from the same
noise, so each is compared with full precision picture by picture: intervals are 95 % t intervals, of paired
differences where it says so.

JAQ and its parts are scored by the CLIP that searches optimise; "the judge" is the other one. A caption is
right if the reader (`generator/shapes/reader.py`) finds everything in the picture that the caption names.
LPIPS and Inception have no weights here: the reader's distance is LPIPS' formula on the reader's features,
every channel weighed 1, and the Fréchet distance is taken in the judge's features. Neither is comparable
with LPIPS or FID of anything else. A toy: nothing here is evidence about real models.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit

from elo.labels import place_labels
from elo.plots import BLUE, GREY, new_figure, save_plot, style
from generator.errors import InputError
from generator.measure.frechet import frechet_distance
from generator.measure.lpips import unit_distance
from generator.measure.measures import load_measures
from generator.measure.run import Reference, measure, read_pictures
from generator.methods import all_methods, spent_on
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.prompts.shapes import SHAPES_STREAMS
from generator.shapes.networks import load
from generator.shapes.reader import ATTRIBUTES, Reader, Reading, right
from generator.shapes.scenes import Scene, sample_scenes
from generator.sweep import counted, run
from qsched.coefficients import CoefficientsError
from qsched.jaq import paired_gain
from study.gallery import Gallery, read_gallery

BASE, KNOWN = MODELS["shapes"], all_methods()
METHODS = (
    "fp16,w8a8,w6a6,w4a16,w4a8,w4a6,w4a5,w4a4,mixdq-w8a8,mixdq-w4a8,svdquant-w4a4,qdiffusion-w8a8,"
    "qdiffusion-w4a8,s2p-w8a8,s2p-w4a8,bnb-int8,bnb-nf4,torchao-w8a8,qsched-w4a8,qsched-svdquant-w4a4,ptqd-w4a8,"
    "ptqd-released-w4a8,ptqd-svdquant-w4a4"
)
# Which of two is nearer to full precision: (nearer if the papers are right, other).
CLAIMS = (
    ("svdquant-w4a4", "w4a4"),
    ("mixdq-w4a8", "w4a8"),
    ("mixdq-w8a8", "w8a8"),
    ("w8a8", "svdquant-w4a4"),
    ("qdiffusion-w4a8", "w4a8"),
    ("s2p-w4a8", "qdiffusion-w4a8"),
    ("s2p-w4a8", "w4a8"),
    ("s2p-w8a8", "qdiffusion-w8a8"),
    ("qsched-w4a8", "w4a8"),
    ("qsched-svdquant-w4a4", "svdquant-w4a4"),
    ("ptqd-w4a8", "w4a8"),
    ("ptqd-w4a8", "ptqd-released-w4a8"),
    ("ptqd-svdquant-w4a4", "svdquant-w4a4"),
)
BATCH, ROUNDS = 50, 200
TAPS = (2, 4, 5, 7)  # the residual blocks of the reader's body
ORANGE = "#D55E00"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Of one method: stored bytes, NFEs its calibration took, numbers by picture, and features (n, d)."""

    size_bytes: int
    nfe: int
    values: Mapping[str, Values]
    features: NDArray[np.float32]


def available(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the methods that can be applied here; and the others, with what they lack."""
    there, missing = [], []
    for name in names:
        check = KNOWN[name].check
        try:
            if check:
                check(BASE)
            there.append(name)
        except (InputError, CoefficientsError) as error:
            missing.append(f"{name}: {error}")
    return there, missing


@functools.cache
def applied_nfe(name: str) -> int:
    """Evaluations of the backbone while a quantizer is applied."""
    pipeline = BASE.load()
    with counted(getattr(pipeline, BASE.backbone)) as rows:
        KNOWN[name].apply(pipeline, BASE)
    return sum(rows)


def calibration_nfe(name: str, kept: Path) -> int:
    """All that a method's calibration took: while it is applied, and before, for its files.

    Counted once: the file `kept` holds what was found of each method.
    """
    found: dict[str, int] = json.loads(kept.read_text()) if kept.exists() else {}
    if name not in found:
        method = KNOWN[name]
        found[name] = spent_on(method, BASE) + applied_nfe((method.over or method).id)
        kept.write_text(json.dumps(found, indent=1) + "\n")
    return found[name]


@torch.no_grad()
def found_of(gallery: Gallery, scenes: Sequence[Scene]) -> dict[str, Found]:
    """Measure every method of the gallery; what takes long is kept beside its pictures."""
    loaded, _ = load_measures(["clip", "judge", "psnr", "ssim"], None, embedded=True)
    reference, kept = Reference.of(gallery, "fp16"), gallery.root / "metrics.parquet"
    table = measure(gallery, loaded, reference, kept, batch_size=BATCH)
    numbers = {
        name: {metric: column["value"].to_numpy() for metric, column in of_method.groupby("metric")}
        for name, of_method in table.sort_values("prompt_id").groupby("method")
    }
    reader, judge = load(Reader(), "reader"), BASE.scorer("judge")
    full, found = None, {}
    for method in gallery.methods:
        images = sorted((im for im in gallery.images if im.method == method.id), key=lambda im: im.prompt_id)
        pictures = read_pictures(gallery.root, images)
        reading, layers = read(reader, pictures)
        full = full or layers  # fp16 comes first
        whole = np.nanmin([right(reading, scenes, attribute) for attribute in ATTRIBUTES], axis=0)
        far = unit_distance(full, layers).double().numpy()
        features = torch.cat([judge.image_features(part) for part in pictures.split(BATCH)]).numpy()
        values = {**numbers[method.id], "right": whole, "reader": far}
        nfe = calibration_nfe(method.id, gallery.root / "nfe.json")
        found[method.id] = Found(method.size_bytes, nfe, values, features)
    return found


def read(reader: Reader, pictures: torch.Tensor) -> tuple[Reading, list[torch.Tensor]]:
    """What the reader finds, and its features (n, c, h, w) behind each residual block."""
    layers: list[torch.Tensor] = []
    handles = [
        reader.body[i].register_forward_hook(lambda _module, _arguments, output: layers.append(output))
        for i in TAPS
    ]
    try:
        return reader(pictures), layers
    finally:
        for handle in handles:
            handle.remove()


def frechet(full: NDArray[np.float32], own: NDArray[np.float32]) -> tuple[float, float]:
    """The distance, and 1.96 standard errors by bootstrap over captions, both pictures of one together."""
    rng, n = np.random.default_rng(0), len(full)
    drawn = [frechet_distance(full[rows], own[rows]) for rows in rng.integers(0, n, (ROUNDS, n))]
    return frechet_distance(full, own), 1.96 * float(np.std(drawn, ddof=1))


def mean_and_margin(values: Values) -> tuple[float, float]:
    """Mean and half width of its 95 % t interval."""
    n = len(values)
    return float(values.mean()), float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n))


def difference(before: Values, after: Values, digits: int, scale: float = 1) -> str:
    """Mean of after − before with its 95 % interval."""
    gain = paired_gain(scale * before, scale * after)
    return f"{gain.gain:+.{digits}f} [{gain.low:+.{digits}f}, {gain.high:+.{digits}f}]"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(cells)} |"


def scores(found: Mapping[str, Found]) -> Iterator[str]:
    """What each method takes and how its pictures score, beside full precision's."""
    full, rows = found["fp16"].values, []
    for name, each in found.items():
        values = each.values
        changes = [
            difference(full["jaq"], values["jaq"], 3),
            difference(full["jaq-judge"], values["jaq-judge"], 3),
            difference(full["right"], values["right"], 1, 100),
        ]
        rows.append(
            [
                name,
                f"{each.size_bytes / 1e6:.2f}",
                f"{each.nfe:,}",
                f"{values['clip-score'].mean():.1f}",
                f"{values['clip-iqa'].mean():.3f}",
                f"{values['jaq'].mean():.3f}",
                *(changes[:2] if name != "fp16" else ["", ""]),
                f"{100 * values['right'].mean():.1f} %",
                changes[2] if name != "fp16" else "",
            ]
        )
    columns = ["method", "MB", "NFE", "CLIPScore", "CLIP-IQA", "JAQ", "Δ JAQ", "Δ JAQ by the judge"]
    yield from markdown([*columns, "caption right", "Δ right, %"], rows)


def distances(found: Mapping[str, Found]) -> Iterator[str]:
    """How far each method's pictures are from full precision's."""
    rows = []
    for name, each in found.items():
        if name == "fp16":
            continue
        cells = [
            (*mean_and_margin(each.values["psnr_to_fp16"]), 1),
            (*mean_and_margin(each.values["ssim_to_fp16"]), 3),
            (*mean_and_margin(100 * each.values["reader"]), 2),
            (*(1000 * x for x in frechet(found["fp16"].features, each.features)), 2),
        ]
        rows.append([name, *(f"{mean:.{digits}f} ± {margin:.{digits}f}" for mean, margin, digits in cells)])
    columns = ["PSNR, dB", "SSIM", "distance by the reader, ×100", "Fréchet distance by the judge, ×1000"]
    yield from markdown(["method", *columns], rows)


def claims(found: Mapping[str, Found]) -> Iterator[str]:
    """For each claim that can be checked: paired differences of distances to full precision, and of JAQ."""
    for nearer, other in CLAIMS:
        if nearer in found and other in found:
            a, b = found[other].values, found[nearer].values
            parts = [
                f"PSNR {difference(a['psnr_to_fp16'], b['psnr_to_fp16'], 2)} dB",
                f"reader {difference(a['reader'], b['reader'], 2, 100)}",
                f"JAQ {difference(a['jaq'], b['jaq'], 3)}",
                f"by the judge {difference(a['jaq-judge'], b['jaq-judge'], 3)}",
            ]
            yield f"- {nearer} − {other}: {', '.join(parts)}"


def plot(found: Mapping[str, Found], path: Path) -> None:
    """Bytes against distance to full precision."""
    names = [name for name in found if name != "fp16"]
    size = np.array([found[name].size_bytes / 1e6 for name in names])
    intervals = [mean_and_margin(found[name].values["psnr_to_fp16"]) for name in names]
    mean, margin = np.array(intervals).T
    figure = new_figure(8, 6.4)
    with style():
        ax = figure.add_subplot()
        for i, name in enumerate(names):
            colour = ORANGE if KNOWN[name].over else BLUE if found[name].nfe else GREY
            ax.errorbar(size[i], mean[i], margin[i], fmt="o", ms=5, lw=1.2, color=colour, zorder=3)
        # Room on the left, where many methods stand one above the other.
        ax.set(xscale="log", xlim=(1.75, 8.2), ylim=(22, 58))
        ax.set(xlabel="stored backbone, MB (log scale)", ylabel="PSNR to full precision, dB")
        ax.set_xticks([2, 3, 4, 5, 6, 8], ["2", "3", "4", "5", "6", "8"])
        ax.minorticks_off()
        ax.grid(axis="y", color="#e6e6e6", lw=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        full, number = found["fp16"].size_bytes / 1e6, len(found["fp16"].features)
        ax.set_title(
            f"{number} held-out captions, 95 % intervals; full precision: {full:.2f} MB\n"
            "grey: not calibrated · blue: calibrated or trained · orange: another's model, own sampler",
            fontsize=8,
            color="#555555",
            loc="left",
        )
        shown, none = np.ones(len(names), bool), np.empty((0, 2))
        place_labels(ax, names, size, mean, mean - margin, mean + margin, shown, none)
    save_plot(ax, path)


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gallery", type=Path, nargs="?", default=Path("runs/field"))
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    names = options.methods.split(",")
    if names[0] != "fp16" or not set(names) <= set(KNOWN):
        parser.error(f"--methods: fp16 first, then any of {', '.join(KNOWN)}")
    names, missing = available(names)
    prompts = shapes_prompts("heldout", options.n)
    scenes = sample_scenes(SHAPES_STREAMS["heldout"], options.n)
    chosen = [KNOWN[name] for name in names]
    run(BASE, chosen, prompts, options.gallery, prompt_set="shapes, held out", batch_size=BATCH)
    found = found_of(read_gallery(options.gallery), scenes)
    print("\n".join(scores(found)), "\n")
    print("\n".join(distances(found)), "\n")
    print(f"{options.n} held-out captions, {BASE.steps} steps, paired differences:\n")
    print("\n".join(claims(found)))
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
