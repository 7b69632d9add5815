"""Stage 1: the autoencoder. L1 + MSE + a little KL; the latents are whitened afterwards."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from generator.shapes.networks import LATENT_CHANNELS, build_vae
from generator.shapes.render import pictures
from generator.shapes.training.loop import Recipe, save_weights, train

RECIPE = Recipe("vae", steps=1500, batch=32, lr=2e-3, seed=1, weight_decay=1e-4, checkpoint_every=300)


def run() -> None:
    """Train, whiten and save the autoencoder."""
    vae = build_vae().to(memory_format=torch.channels_last)

    def losses(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        x = pictures(RECIPE.seed * 10_000_019 + step, RECIPE.batch)[0] * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist
            y = vae.decode(posterior.sample()).sample
        y = y.float()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).float().mean()
        return {"l1": F.l1_loss(y, x), "mse": 2 * F.mse_loss(y, x), "kl": 5e-4 * kl}

    trained = train(RECIPE, {"vae": vae}, losses)["vae"]
    whiten(trained)
    save_weights(trained, "vae")


@torch.no_grad()
def whiten(vae: AutoencoderKL, seed: int = 7, count: int = 2048) -> None:
    """Fold each latent channel's mean and deviation into the 1×1 convolutions around the latents.

    Afterwards the latents of pictures have mean 0 and deviation 1 in every channel, which a scalar
    `scaling_factor` could not give, and every pipeline that uses this VAE gets it for free.
    """
    batches = [pictures(seed + i, 128)[0] * 2 - 1 for i in range(count // 128)]
    z = torch.cat([vae.encode(x).latent_dist.mean for x in batches])
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    into, back = vae.quant_conv, vae.post_quant_conv
    c = LATENT_CHANNELS
    into.weight[:c] /= deviation[:, None, None, None]
    into.bias[:c] = (into.bias[:c] - mean) / deviation
    into.bias[c:] -= 2 * deviation.log()
    back.bias += (back.weight[:, :, 0, 0] @ mean[:, None])[:, 0]
    back.weight *= deviation[None, :, None, None]
