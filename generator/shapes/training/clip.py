"""Stage 2: a CLIP of the shapes world, twice (the one that is optimised and the one that judges).

InfoNCE over a batch; beside it, for one attribute of each picture, a choice among the true caption and all
captions in which only that attribute is wrong, so that the model must read shapes and relations and not only
colours; and the antonym pair of CLIP-IQA, with the known severity of a damage as soft target.
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
    "clip": Recipe("clip", steps=4000, batch=48, lr=1e-3, seed=11),
    "judge": Recipe("judge", steps=2500, batch=48, lr=1e-3, seed=12),
}
CHOICES = 8  # captions of a choice; attributes with fewer alternatives fill up with none
ATTRIBUTES, SHARES = ("background", "colour", "shape", "relation"), (0.1, 0.15, 0.45, 0.3)


def run(name: str) -> None:
    """Train and save the CLIP `name`, "clip" or "judge"."""
    recipe = RECIPES[name]
    model = build_clip(name, trained=False).to(memory_format=torch.channels_last)

    def losses(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        seed = recipe.seed * 10_000_019 + step
        x, scenes, captions = pictures(seed, recipe.batch)
        x, severity = degrade(x, generator)
        choices, valid = _choices(scenes, np.random.default_rng(seed))
        x = normalised(x).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(x)
            text = model.encode_text(tokenize([*captions, *choices, *ANTONYMS]))
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)

        n = recipe.batch
        own, others, antonyms = text[:n], text[n:-2].view(n, CHOICES - 1, -1), text[-2:]
        among = scale * image @ own.T
        same = torch.tensor([[a == b for b in captions] for a in captions]) & ~torch.eye(n, dtype=torch.bool)
        among = among.masked_fill(same, -1e4)  # an equal caption is not a wrong one
        against = scale * torch.einsum("nd,nwd->nw", image, others).masked_fill(~valid, -1e4)
        choice = torch.cat([among.diagonal()[:, None], against], 1)
        clear = 1 - 0.5 * severity  # a damaged picture says less about its caption
        target, first = torch.arange(n), torch.zeros(n, dtype=torch.long)
        contrast = F.cross_entropy(among, target, reduction="none")
        contrast = contrast + F.cross_entropy(among.T, target, reduction="none")
        chosen = F.cross_entropy(choice, first, reduction="none")
        good = scale * image @ (antonyms[0] - antonyms[1])
        quality = F.binary_cross_entropy_with_logits(good, (1 - severity).clamp(0.03, 0.97))
        return {
            "contrast": (clear * contrast).mean() / 2,
            "choice": (clear * chosen).mean(),
            "quality": quality,
        }

    train(recipe, {name: model}, losses)


def _choices(scenes: list[Scene], rng: np.random.Generator) -> tuple[list[str], Tensor]:
    """CHOICES - 1 wrong captions a picture, flat, and which of them exist, (n, CHOICES - 1)."""
    captions, valid = [], torch.zeros(len(scenes), CHOICES - 1, dtype=torch.bool)
    for i, scene in enumerate(scenes):
        attribute = rng.choice(ATTRIBUTES, p=SHARES)
        wrong = alternatives(scene, attribute)[1:] or alternatives(scene, "shape")[1:]
        wrong = [wrong[j] for j in rng.permutation(len(wrong))[: CHOICES - 1]]
        valid[i, : len(wrong)] = True
        captions += [caption(other) for other in wrong] + [""] * (CHOICES - 1 - len(wrong))
    return captions, valid
