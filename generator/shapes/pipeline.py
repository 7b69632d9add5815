"""The shapes world as a diffusers pipeline: `StableDiffusionPipeline` itself, with small parts."""

from __future__ import annotations

import functools

import torch
from diffusers import StableDiffusionPipeline, TCDScheduler
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from generator.shapes.networks import build_text_encoder, build_unet, build_vae, load
from generator.shapes.scenes import BOS, CONTEXT, EOS, PAD, VOCABULARY

# Stable Diffusion's betas, rescaled so that the last timestep is pure noise; the U-Net predicts v.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "steps_offset": 1,
}
STEPS = 4


def build_scheduler() -> TCDScheduler:
    """The few-step student's own scheduler; LCM and Euler ones are made from its config."""
    return TCDScheduler(**SCHEDULE)


@functools.cache
def noise_levels() -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t of all 1,000 timesteps, each (1000,), alpha² + sigma² = 1."""
    signal = build_scheduler().alphas_cumprod
    return signal.sqrt(), (1 - signal).sqrt()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, BOS before and EOS behind; the same ids as `scenes.tokenize`."""
    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=VOCABULARY[PAD])
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(VOCABULARY[BOS], BOS), (VOCABULARY[EOS], EOS)]
    words.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=CONTEXT,
        pad_token=VOCABULARY[PAD],
        bos_token=VOCABULARY[BOS],
        eos_token=VOCABULARY[EOS],
    )


def build_pipeline(unet: str = "unet") -> StableDiffusionPipeline:
    """The pipeline with the committed weights in float32: 4 steps, no guidance, TCD with eta 0."""
    pipeline = StableDiffusionPipeline(
        vae=load(build_vae(), "vae"),
        text_encoder=load(build_text_encoder(), "text_encoder"),
        tokenizer=build_tokenizer(),
        unet=load(build_unet(), unet).to(memory_format=torch.channels_last),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
