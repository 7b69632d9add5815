"""Stage 4: the few-step student, phased distillation of the guided teacher (as PCM, arXiv:2405.18407).

The trajectory is cut at the four timesteps of the sampler. Within a phase the student must reach in one
deterministic step what the teacher reaches in SUBSTEPS steps with classifier-free guidance. Half of the
starting points are noised pictures, half are where the student itself arrives from pure noise: at
sampling time it only ever sees the latter.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from generator.shapes.networks import build_text_encoder, build_unet, build_vae, load
from generator.shapes.pipeline import STEPS, build_scheduler, noise_levels
from generator.shapes.scenes import tokenize
from generator.shapes.training.loop import Recipe, train
from generator.shapes.training.teacher import POOL, latent_pool
from generator.shapes.training.teacher import RECIPE as TEACHER

RECIPE = Recipe("student", steps=800, batch=32, lr=3e-4, seed=31, weight_decay=0.0, warmup=20, average=0.99)
SUBSTEPS, GUIDANCE = 3, 2.0


def run() -> None:
    """Distil and save the student U-Net."""
    teacher = load(build_unet(), "teacher").to(memory_format=torch.channels_last)
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    text = load(build_text_encoder(), "text_encoder")
    latents, tokens = latent_pool(load(build_vae(), "vae"), TEACHER.seed, POOL)
    unconditional = text(tokenize([""])).last_hidden_state
    phases = phase_boundaries()

    def losses(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(latents), (RECIPE.batch,), generator=generator)
        words = text(tokens[rows]).last_hidden_state
        noise = torch.randn(RECIPE.batch, *latents.shape[1:], generator=generator)
        phase = step % STEPS
        start, end = phases[phase], phases[phase + 1]
        x = noised(latents[rows].float(), noise, start)
        own = RECIPE.batch // 2
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            reached = noise[:own].contiguous(memory_format=torch.channels_last)
            for t, s in pairwise(phases[: phase + 1]):
                reached = ddim_step(reached, student(reached, t, words[:own]).sample.float(), t, s)
            x = torch.cat([reached, x[own:]]).contiguous(memory_format=torch.channels_last)
            target = _guided(teacher, x, words, unconditional, start, end)
        with torch.autocast("cpu", torch.bfloat16):
            v = student(x, start, words).sample.float()
        reached = ddim_step(x, v, start, end)
        # In units of the student's output, so that every phase weighs alike; Huber-like, so that a
        # picture on which teacher and student chose different layouts does not rule the batch.
        error = (reached - target) / _output_weight(start, end)
        return {f"phase_{phase}": (error.square().mean((1, 2, 3)) + 1e-4).sqrt().mean()}

    train(RECIPE, {"unet": student}, losses)


def phase_boundaries() -> list[int]:
    """The sampler's timesteps, then -1 for the clean picture."""
    scheduler = build_scheduler()
    scheduler.set_timesteps(STEPS)
    return [*scheduler.timesteps.tolist(), -1]


def _level(t: int) -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t; the clean picture is t = -1."""
    alpha, sigma = noise_levels()
    return (torch.tensor(1.0), torch.tensor(0.0)) if t < 0 else (alpha[t], sigma[t])


def noised(z: Tensor, noise: Tensor, t: int) -> Tensor:
    """The forward process alpha_t z + sigma_t noise."""
    alpha, sigma = _level(t)
    return alpha * z + sigma * noise


def ddim_step(x: Tensor, v: Tensor, t: int, s: int) -> Tensor:
    """DDIM from timestep t to s with a v-prediction (the same as TCD with eta = 0)."""
    (alpha, sigma), (alpha_s, sigma_s) = _level(t), _level(s)
    return alpha_s * (alpha * x - sigma * v) + sigma_s * (sigma * x + alpha * v)


def _output_weight(t: int, s: int) -> Tensor:
    (alpha, sigma), (alpha_s, sigma_s) = _level(t), _level(s)
    return (sigma_s * alpha - alpha_s * sigma).abs()


def _guided(
    teacher: UNet2DConditionModel, x: Tensor, words: Tensor, unconditional: Tensor, start: int, end: int
) -> Tensor:
    """Teacher's DDIM with guidance from `start` to `end` in SUBSTEPS steps."""
    both = torch.cat([words, unconditional.expand_as(words)])
    times = [round(start + (max(end, 0) - start) * i / SUBSTEPS) for i in range(SUBSTEPS)] + [end]
    for t, s in pairwise(times):
        with_text, without = teacher(torch.cat([x, x]), t, both).sample.float().chunk(2)
        x = ddim_step(x, without + GUIDANCE * (with_text - without), t, s)
    return x
