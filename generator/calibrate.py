"""Finding Q-Sched coefficients for a quantized model: builds the pipeline and the scorers, calls the search.

The search sees one CLIP and a few prompts. What it found is then measured on prompts it never saw, beside
a control that tells repair from taste: the full-precision model under the very same coefficients. Both are
scored twice, by the CLIP that was optimised and by one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from generator.methods import Method
from generator.methods.qsched import set_scheduler
from generator.metrics import ClipScorer
from generator.models import BaseModel
from generator.prompts import shapes_prompts
from generator.sweep import render, software_versions
from qsched.coefficients import Coefficients, CoefficientsFile, Scores, write_coefficients
from qsched.jaq import jaq, paired_gain
from qsched.search import Point, search
from study.gallery import Prompt

VARIANT, K = "clip", 2.0
BATCH = 64


def calibrate(base: BaseModel, method: Method, path: Path, *, captions: int = 20, heldout: int = 384) -> None:
    """Search, measure and write `path`; a journal beside it lets an interrupted search go on."""
    pipeline = base.load()
    scheduler = type(pipeline.scheduler).__name__
    method.apply(pipeline, base)
    prompts = shapes_prompts("calibration", captions)
    objective, judge = base.scorer("clip"), base.scorer("judge")
    settings = {
        "base_model": base.id,
        "method": method.id,
        "jaq_variant": VARIANT,
        "k": K,
        "captions": captions,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = path.with_suffix(".journal")
    with tqdm(desc="search", unit="candidate") as bar:

        def progress(done: int, total: int, best: Point) -> None:
            bar.total = total
            bar.update(done - bar.n)
            bar.set_postfix_str(f"best JAQ {best.mean:.4f}")

        found = search(
            lambda coefficients: pictures(pipeline, base, coefficients, prompts),
            lambda images: scores(objective, images, prompts),
            steps=base.steps,
            settings={**settings, "versions": software_versions()},
            journal=journal,
            progress=progress,
        )

    best = found.best.coefficients
    unseen = shapes_prompts("heldout", heldout)
    gains = {"calibration": paired_gain(found.identity.scores, found.best.scores)}
    for label, candidate in {"held_out": pipeline, "control": base.load()}.items():
        click.echo(f"measuring on {heldout} held-out prompts: {label.replace('_', '-')} …")
        before = pictures(candidate, base, Coefficients.identity(base.steps), unseen)
        after = pictures(candidate, base, best, unseen)
        for scorer, suffix in ((objective, ""), (judge, "_judged")):
            gains[label + suffix] = paired_gain(scores(scorer, before, unseen), scores(scorer, after, unseen))
    file = CoefficientsFile(
        base_model=base.id,
        method=method.id,
        weight_bits=method.weight_bits,
        act_bits=method.act_bits,
        scheduler=scheduler,
        steps=base.steps,
        c_x=best.c_x,
        c_eps=best.c_eps,
        jaq_variant=VARIANT,
        k=K,
        calibration_prompts=tuple(prompt.prompt_id for prompt in prompts),
        search={name: found.settings[name] for name in ("grid", "refine", "evaluations")},
        scores=Scores(**gains),
        versions=software_versions(),
    )
    write_coefficients(path, file)
    journal.unlink()


def pictures(
    pipeline: DiffusionPipeline, base: BaseModel, coefficients: Coefficients, prompts: Sequence[Prompt]
) -> Tensor:
    """The prompts' pictures under `coefficients`, (n, 3, s, s) in [0, 1]; the scheduler stays as it was."""
    scheduler = pipeline.scheduler
    set_scheduler(pipeline, coefficients)
    try:
        batches = [render(pipeline, base, prompts[i : i + BATCH]) for i in range(0, len(prompts), BATCH)]
    finally:
        pipeline.scheduler = scheduler
    return torch.cat(batches)


def scores(scorer: ClipScorer, images: Tensor, prompts: Sequence[Prompt]) -> NDArray[np.float64]:
    """JAQ of each picture, (n,)."""
    clip_score, clip_iqa = scorer.scores(images, [prompt.text for prompt in prompts])
    return jaq(clip_score, clip_iqa, variant=VARIANT, k=K).values
