"""Finding Q-Sched coefficients for a quantized model: builds the pipeline and the scorers, calls the search.

The search sees one CLIP and a few prompts. What it found is then measured on prompts it never saw, beside a
control that tells repair from taste: the full-precision model under the very same coefficients, and under
coefficients searched for itself. All are scored twice, by the CLIP that was optimised and by one that was
not.
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
from qsched.journal import Point
from qsched.parametrisations import paper
from qsched.racing import race
from qsched.search import SearchResult, search
from study.gallery import Prompt

VARIANT, K = "clip", 2.0
BATCH = 64
SPREAD = 0.1  # of a race's first box: as wide as the released search's


def calibrate(
    base: BaseModel, method: Method, path: Path, *, how: str = "grid", captions: int = 20, heldout: int = 384
) -> None:
    """Search, measure and write `path`; journals beside it let an interrupted search go on.

    `how` is "grid", Algorithm 1, or "race" (`qsched.racing`). The full-precision model is searched in the
    same way, for the control.
    """
    quantized, full = base.load(), base.load()
    scheduler = type(quantized.scheduler).__name__
    method.apply(quantized, base)
    prompts, unseen = shapes_prompts("calibration", captions), shapes_prompts("heldout", heldout)
    objective, judge = base.scorer("clip"), base.scorer("judge")
    path.parent.mkdir(parents=True, exist_ok=True)
    found, journals = {}, []
    for label, pipeline in {method.id: quantized, "full precision": full}.items():
        journals.append(path.with_suffix(f".{label.replace(' ', '-')}.journal"))
        found[label] = _searched(pipeline, base, label, how, prompts, objective, journals[-1])
    best, own = found[method.id].best.coefficients, found["full precision"].best.coefficients

    gains = {"calibration": paired_gain(found[method.id].identity.scores, found[method.id].best.scores)}
    scorers = {"": objective, "_judged": judge}

    def measured(pipeline: DiffusionPipeline, coefficients: Coefficients) -> dict[str, NDArray[np.float64]]:
        drawn = pictures(pipeline, base, coefficients, unseen)
        return {suffix: scores(scorer, drawn, unseen) for suffix, scorer in scorers.items()}

    compared = ((quantized, {"held_out": best}), (full, {"control": best, "control_searched": own}))
    for pipeline, settings in compared:
        click.echo(f"measuring on {heldout} held-out prompts: {', '.join(settings).replace('_', ' ')} …")
        before = measured(pipeline, Coefficients.identity(base.steps))
        for label, coefficients in settings.items():
            after = measured(pipeline, coefficients)
            gains |= {label + suffix: paired_gain(before[suffix], after[suffix]) for suffix in scorers}
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
        search={
            "how": how,
            **{
                name: value
                for name, value in found[method.id].settings.items()
                if name not in _SAID_ELSEWHERE
            },
            "nfe": base.steps * sum(len(point.scores) for point in found[method.id].points),
            "full_precision": {"c_x": list(own.c_x), "c_eps": list(own.c_eps)},
        },
        scores=Scores(**gains),
        versions=software_versions(),
    )
    write_coefficients(path, file)
    for journal in journals:
        journal.unlink()


_SAID_ELSEWHERE = {"base_model", "method", "jaq_variant", "k", "captions", "versions", "steps", "prompts"}


def _searched(
    pipeline: DiffusionPipeline,
    base: BaseModel,
    label: str,
    how: str,
    prompts: Sequence[Prompt],
    scorer: ClipScorer,
    journal: Path,
) -> SearchResult:
    settings = {
        "base_model": base.id,
        "method": label,
        "jaq_variant": VARIANT,
        "k": K,
        "captions": len(prompts),
        "versions": software_versions(),
    }
    with tqdm(desc=f"search, {label}", unit="candidate" if how == "grid" else "image") as bar:

        def progress(done: int, total: int | None, best: Point) -> None:
            bar.total = total
            bar.update(done - bar.n)
            bar.set_postfix_str(f"best JAQ {best.mean:.4f}")

        if how == "grid":
            return search(
                lambda coefficients: pictures(pipeline, base, coefficients, prompts),
                lambda images: scores(scorer, images, prompts),
                steps=base.steps,
                settings=settings,
                journal=journal,
                progress=progress,
            )
        return race(
            lambda coefficients, some: pictures(pipeline, base, coefficients, [prompts[i] for i in some]),
            lambda images, some: scores(scorer, images, [prompts[i] for i in some]),
            paper(base.steps),
            prompts=len(prompts),
            spread=SPREAD,
            settings=settings,
            journal=journal,
            progress=lambda images, best: progress(images, None, best),
        )


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
