"""The shapes world's networks: shapes of the real thing (diffusers, transformers, open_clip), in small.

`build_*` return float32 modules; `load` fills one from the committed weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import open_clip
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DecoderOutput
from open_clip.model import CLIP
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from generator.shapes.render import SIZE
from generator.shapes.scenes import BOS, CONTEXT, EOS, PAD, VOCABULARY

Module = TypeVar("Module", bound=nn.Module)
WEIGHTS = Path(__file__).parent / "weights"
LATENT_CHANNELS, LATENT_SIZE, TEXT_WIDTH = 8, SIZE // 4, 128


class PatchAutoencoderKL(AutoencoderKL):
    """AutoencoderKL on 4×4 patches of the picture: 64×64×3 is 16×16×48 to it.

    All its layers work at the latents' resolution, which a CPU can train in minutes; the ordinary layout,
    with few channels at 64×64, was tried first and learned far slower.
    """

    def _encode(self, x: Tensor) -> Tensor:
        return super()._encode(F.pixel_unshuffle(x, 4))

    def _decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        sample = F.pixel_shuffle(super()._decode(z).sample, 4)
        return DecoderOutput(sample=sample) if return_dict else (sample,)


def build_vae() -> PatchAutoencoderKL:
    """64×64×3 pictures to 16×16×8 latents, whitened per channel inside `quant_conv` once trained."""
    return PatchAutoencoderKL(
        in_channels=48,
        out_channels=48,
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(96,),
        layers_per_block=2,
        norm_num_groups=8,
        latent_channels=LATENT_CHANNELS,
        sample_size=LATENT_SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def build_unet() -> UNet2DConditionModel:
    """Stable Diffusion's U-Net at 4 M parameters; the text is also pooled into the time embedding."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder() -> CLIPTextModel:
    """A causal text transformer with a BOS token, as CLIP's, so that BOS-aware quantizers have work to do."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            hidden_act="gelu",
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    )


def build_clip(name: str, trained: bool = True) -> CLIP:
    """One of the two small CLIPs, "clip" or "judge", through open_clip's own model registry.

    They share neither architecture (a ViT, a ResNet) nor seed: searches optimise the first, the second
    judges what they found.
    """
    open_clip.add_model_config(Path(__file__).parent / "open_clip")
    weights = str(WEIGHTS / f"{name}.safetensors") if trained else None
    return open_clip.create_model(f"shapes-{name}", pretrained=weights, load_weights=trained)


def load(module: Module, name: str) -> Module:
    """Fill `module` from the committed weights `name` (stored as float16) and set it to evaluation."""
    weights = {key: value.float() for key, value in load_file(WEIGHTS / f"{name}.safetensors").items()}
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False)
