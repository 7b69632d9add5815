"""Stage 3: the text encoder and the many-step U-Net, trained together.

v-prediction on Stable Diffusion's schedule rescaled to zero terminal SNR (Lin et al. 2023,
arXiv:2305.08891): with the ordinary schedule the last timestep still shows the mean colour of the
picture, and a model of flat backgrounds then reads colours from there instead of from the caption.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from generator.shapes.networks import build_text_encoder, build_unet, build_vae, load
from generator.shapes.pipeline import noise_levels
from generator.shapes.render import pictures
from generator.shapes.scenes import tokenize
from generator.shapes.training.loop import CHECKPOINTS, Recipe, train

RECIPE = Recipe("teacher", steps=11_500, batch=32, lr=1.2e-3, seed=21, warmup=150, checkpoint_every=250)
POOL = 98_304  # pictures; each is seen about five times, every time under other noise


def run() -> None:
    """Train and save the teacher U-Net and the text encoder."""
    unet, text = build_unet().to(memory_format=torch.channels_last), build_text_encoder()
    latents, tokens = latent_pool(load(build_vae(), "vae"), RECIPE.seed, POOL)
    alpha, sigma = noise_levels()
    nothing = tokenize([""])

    def losses(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(latents), (RECIPE.batch,), generator=generator)
        z, ids = latents[rows].float(), tokens[rows]
        dropped = torch.rand(RECIPE.batch, generator=generator) < 0.1  # for classifier-free guidance
        ids = torch.where(dropped[:, None], nothing, ids)
        t = sample_timesteps(RECIPE.batch, generator)
        a, s = alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
        noise = torch.randn(z.shape, generator=generator)
        x = (a * z + s * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            v = unet(x, t, text(ids).last_hidden_state).sample
        return {"v": (v.float() - (a * noise - s * z)).square().mean()}

    train(RECIPE, {"teacher": unet, "text_encoder": text}, losses)


def sample_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Timesteps whose share of noise sigma/(alpha + sigma) is logit-normal(0.3, 1.2); 15 % are the last one.

    The bare schedule spends most of its 1,000 steps where a flat picture is long decided.
    """
    alpha, sigma = noise_levels()
    share = torch.sigmoid(torch.randn(count, generator=generator) * 1.2 + 0.3)
    t = torch.searchsorted(sigma / (alpha + sigma), share).clamp(max=len(alpha) - 1)
    last = torch.rand(count, generator=generator) < 0.15
    return torch.where(last, len(alpha) - 1, t)


@torch.no_grad()
def latent_pool(vae: AutoencoderKL, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Latents (count, 8, 16, 16) in float16 and token ids of `count` pictures, kept on disk between runs."""
    path = Path(CHECKPOINTS) / f"latents-{seed}-{count}.pt"
    if path.exists():
        return torch.load(path)
    latents, tokens = [], []
    for i in tqdm(range(count // 128), desc="latents"):
        x, _, captions = pictures(seed * 10_000_019 + i, 128)
        x = (x * 2 - 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents.append(vae.encode(x).latent_dist.mean.half())
        tokens.append(tokenize(captions))
    pool = torch.cat(latents), torch.cat(tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(pool, path)
    return pool
