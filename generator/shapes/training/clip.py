"""Stage 2: a CLIP of the shapes world, twice (the one that is optimised and the one that judges).

InfoNCE over a batch, with two captions more for every picture in which one attribute is wrong, so that
the model must read shapes and colours and not only the gist; beside it the antonym pair of CLIP-IQA,
with the known severity of a damage as soft target.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generator.metrics import normalised
from generator.shapes.networks import build_clip
from generator.shapes.render import pictures
from generator.shapes.scenes import ANTONYMS, Scene, alternatives, caption, tokenize
from generator.shapes.training.degrade import degrade
from generator.shapes.training.loop import Recipe, train

RECIPES = {
    "clip": Recipe("clip", steps=1400, batch=48, lr=1e-3, seed=11),
    "judge": Recipe("judge", steps=1400, batch=48, lr=1e-3, seed=12),
}
WRONG = 2  # captions with one wrong attribute, per picture


def run(name: str) -> None:
    """Train and save the CLIP `name`, "clip" or "judge"."""
    recipe = RECIPES[name]
    model = build_clip(name, trained=False).to(memory_format=torch.channels_last)

    def losses(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        seed = recipe.seed * 10_000_019 + step
        x, scenes, captions = pictures(seed, recipe.batch)
        x, severity = degrade(x, generator)
        wrong = _wrong_captions(scenes, np.random.default_rng(seed))
        x = normalised(x).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(x)
            text = model.encode_text(tokenize([*captions, *wrong, *ANTONYMS]))
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)

        n = recipe.batch
        own, others, antonyms = text[:n], text[n:-2].view(n, WRONG, -1), text[-2:]
        among = scale * image @ own.T
        against = scale * torch.einsum("nd,nwd->nw", image, others)
        same = torch.tensor([[a == b for b in captions] for a in captions]) & ~torch.eye(n, dtype=torch.bool)
        among = among.masked_fill(same, -1e4)  # an equal caption is not a wrong one
        clear = 1 - 0.5 * severity  # a damaged picture says less about its caption
        target = torch.arange(n)
        contrast = F.cross_entropy(torch.cat([among, against], 1), target, reduction="none")
        contrast = contrast + F.cross_entropy(among.T, target, reduction="none")
        good = scale * image @ (antonyms[0] - antonyms[1])
        quality = F.binary_cross_entropy_with_logits(good, (1 - severity).clamp(0.03, 0.97))
        return {"contrast": (clear * contrast).mean() / 2, "quality": quality}

    train(recipe, {name: model}, losses)


def _wrong_captions(scenes: list[Scene], rng: np.random.Generator) -> list[str]:
    attributes = ("background", "colour", "shape", "relation")
    captions = []
    for scene in scenes:
        wrong = [other for a in attributes for other in alternatives(scene, a)[1:]]
        captions += [caption(wrong[i]) for i in rng.choice(len(wrong), WRONG, replace=False)]
    return captions
