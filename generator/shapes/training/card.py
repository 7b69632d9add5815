"""Stage 5: measure the trained world and write its model card, numbers and all.

python -m generator.shapes.training card
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torchvision.utils import make_grid, save_image
from tqdm import tqdm

from generator.metrics import ClipScorer
from generator.models import MODELS, BaseModel
from generator.prompts.shapes import SHAPES_STREAMS, shapes_prompts
from generator.shapes.networks import WEIGHTS, build_vae, load
from generator.shapes.pipeline import build_pipeline
from generator.shapes.reader import ATTRIBUTES, Reader, correct
from generator.shapes.render import pictures, render
from generator.shapes.scenes import Scene, alternatives, caption, sample_scenes
from generator.sweep import render as draw
from study.gallery import Prompt

CAPTIONS = 500
CARD = WEIGHTS / "README.md"


def run() -> None:
    """Draw the held-out captions, check and score them, write the card and a contact sheet."""
    base = MODELS["shapes"]
    prompts = shapes_prompts("heldout", CAPTIONS)
    scenes = sample_scenes(SHAPES_STREAMS["heldout"], CAPTIONS)
    captions = [prompt.text for prompt in prompts]
    pipeline = build_pipeline()
    drawn = {
        "real pictures (the ceiling)": render(scenes, torch.Generator().manual_seed(0)),
        "student, 4 steps": _batches(pipeline, base, prompts),
    }
    reader = load(Reader(), "reader")
    scorers = {name: base.scorer(name) for name in ("clip", "judge")}

    rows = []
    for label, images in drawn.items():
        row = {"pictures": label}
        for attribute in ATTRIBUTES:
            row[f"{attribute} right"] = (
                f"{100 * np.nanmean(correct(reader, images, scenes, attribute)):.1f} %"
            )
        for name, scorer in scorers.items():
            clip_score, clip_iqa = scorer.scores(images, captions)
            row[f"CLIPScore ({name})"] = f"{clip_score.mean():.1f}"
            row[f"CLIP-IQA ({name})"] = f"{clip_iqa.mean():.3f}"
            for attribute in ATTRIBUTES:
                row[f"{attribute} chosen ({name})"] = (
                    f"{100 * chosen(scorer, images, scenes, attribute):.1f} %"
                )
        rows.append(row)
    sheet = torch.nn.functional.interpolate(drawn["student, 4 steps"][:48], scale_factor=2)
    save_image(make_grid(sheet, 8, pad_value=0.5), WEIGHTS / "student.png")
    CARD.write_text(_card(rows, _psnr()))


def _batches(pipeline: StableDiffusionPipeline, base: BaseModel, prompts: list[Prompt]) -> Tensor:
    starts = tqdm(range(0, len(prompts), 50), desc="drawing")
    return torch.cat([draw(pipeline, base, prompts[i : i + 50]) for i in starts])


def chosen(scorer: ClipScorer, images: Tensor, scenes: list[Scene], attribute: str) -> float:
    """How often the caption scores higher than all captions in which only this attribute is wrong, 0 to 1.

    Over the scenes that have such captions (a scene of one object has no relation).
    """
    right = []
    for picture, scene in zip(scorer.image_features(images), scenes, strict=True):
        captions = [caption(other) for other in alternatives(scene, attribute)]
        if len(captions) > 1:
            right.append(int((scorer.text_features(captions) @ picture).argmax()) == 0)
    return float(np.mean(right))


@torch.no_grad()
def _psnr() -> float:
    vae = load(build_vae(), "vae")
    x, _, _ = pictures(SHAPES_STREAMS["heldout"], 256)
    y = vae.decode(vae.encode(x * 2 - 1).latent_dist.mean).sample / 2 + 0.5
    return float(-10 * torch.log10((y.clamp(0, 1) - x).square().mean()))


def _card(rows: list[dict[str, str]], psnr: float) -> str:
    names = [key for key in rows[0] if key != "pictures"]
    table = [f"| | {' | '.join(row['pictures'] for row in rows)} |", f"|---{'|---' * len(rows)}|"]
    table += [f"| {name} | {' | '.join(row[name] for row in rows)} |" for name in names]
    shipped = sorted(path for path in WEIGHTS.glob("*.safetensors") if path.stem != "teacher")
    sizes = [f"| `{path.name}` | {path.stat().st_size:,} |" for path in shipped]
    return CARD_TEXT.format(
        captions=CAPTIONS,
        table="\n".join(table),
        psnr=psnr,
        sizes="\n".join(sizes),
        stages="\n".join(_stages()),
    )


def _stages() -> list[str]:
    out = []
    for stage in ("vae", "clip", "judge", "reader", "teacher", "student"):
        lines = [json.loads(line) for line in (WEIGHTS / f"{stage}.log.jsonl").read_text().splitlines()]
        recipe, last = [line["recipe"] for line in lines if "recipe" in line][-1], lines[-1]
        skip = ("step", "pictures_per_second")
        losses = ", ".join(f"{k} {v}" for k, v in last.items() if k not in skip)
        out.append(
            f"| {stage} | {last['step']:,} of {recipe['steps']:,} | {recipe['batch']} | {recipe['lr']} | "
            f"{recipe['seed']} | {losses} |"
        )
    return out


CARD_TEXT = Path(__file__).with_name("card.md").read_text()
