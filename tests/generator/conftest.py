"""Tiny random checkpoints of the pipelines that the model entries name: the same classes, built from code."""

import functools
import json

import open_clip
import pytest
import small_run
import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from generator import calibrate
from generator.measure import scorers
from generator.measure.weights import WEIGHTS
from generator.methods import mixdq, ptqd, svdquant
from generator.quantize import lowrank
from qsched.racing import race
from qsched.search import search

TINY = 16  # pixels
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
UNET = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "sample_size": TINY // 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
}


def tokenizer():
    vocabulary = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(vocabulary)}
    return CLIPTokenizer(ids, merges=[], model_max_length=77)


def text_encoder(width, kind=CLIPTextModel):
    config = CLIPTextConfig(
        vocab_size=2 * len(LETTERS) + 2,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=2 * len(LETTERS),
        eos_token_id=2 * len(LETTERS) + 1,
        pad_token_id=2 * len(LETTERS) + 1,
    )
    return kind(config).eval()


def vae(channels=4):
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=channels,
        use_quant_conv=channels == 4,
        use_post_quant_conv=channels == 4,
        shift_factor=0.1,
    )


def stable_diffusion():
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(16),
        tokenizer=tokenizer(),
        unet=UNet2DConditionModel(**UNET, attention_head_dim=8, cross_attention_dim=16),
        scheduler=PNDMScheduler(**BETAS, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def lcm():
    return LatentConsistencyModelPipeline(
        vae=vae(),
        text_encoder=text_encoder(16),
        tokenizer=tokenizer(),
        unet=UNet2DConditionModel(**UNET, attention_head_dim=8, cross_attention_dim=16, time_cond_proj_dim=8),
        scheduler=LCMScheduler(**{**BETAS, "steps_offset": 0}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl():
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(16),
        text_encoder_2=text_encoder(16, CLIPTextModelWithProjection),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=UNet2DConditionModel(
            **UNET,
            attention_head_dim=(2, 4),
            cross_attention_dim=32,
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
        ),
        scheduler=EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
        add_watermarker=False,
    )


def flux():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *((c, -3.0) for c in LETTERS)]
    config = T5Config(
        vocab_size=len(pieces) + 100,
        d_model=24,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        relative_attention_num_buckets=8,
    )
    return FluxPipeline(
        vae=vae(channels=4),
        text_encoder=text_encoder(16),
        tokenizer=tokenizer(),
        text_encoder_2=T5EncoderModel(config).eval(),
        tokenizer_2=T5Tokenizer(pieces, extra_ids=100),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


BUILDERS = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": sdxl,
    "LatentConsistencyModelPipeline": lcm,
    "FluxPipeline": flux,
}


def lora(unet, path):
    """A LoRA over the attention of a U-Net, in the layout that PCM's authors publish."""
    tensors = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(("attn1.to_q", "attn2.to_v")):
            key = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{key}.lora_down.weight"] = torch.randn(2, layer.in_features)
            tensors[f"{key}.lora_up.weight"] = torch.randn(layer.out_features, 2)
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folder of a tiny checkpoint by pipeline class, and of LoRAs for those with a U-Net."""
    root, made = tmp_path_factory.mktemp("checkpoints"), {}

    def folder(kind):
        if kind not in made:
            torch.manual_seed(0)
            pipeline = BUILDERS[kind]()
            made[kind] = root / kind
            pipeline.save_pretrained(made[kind], safe_serialization=True)
            if hasattr(pipeline, "unet"):
                lora(pipeline.unet, made[kind] / "lora" / "lora.safetensors")
        return made[kind]

    return folder


@pytest.fixture
def tiny(checkpoints):
    """The entry, with the tiny checkpoint in place of its own, and pictures as small."""

    def shrunk(entry, **changes):
        folder = checkpoints(entry.pipeline)
        lora = entry.lora and entry.lora.model_copy(
            update={"hub": str(folder / "lora"), "file": "lora.safetensors"}
        )
        return entry.model_copy(update={"hub": str(folder), "resolution": TINY, "lora": lora, **changes})

    return shrunk


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The small run, uninterrupted; not to be changed."""
    folder = tmp_path_factory.mktemp("sweep") / "gallery"
    assert small_run.run(folder).new == small_run.TOTAL
    return folder


VISION = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 32, "head_width": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "layers": 1, "width": 32, "heads": 2}  # of the tokenizer
CLIPS = {
    "clip": scorers.CLIP,
    "clip-b16": scorers.CLIP_B16,
    "clip-b32": scorers.CLIP_B32,
    "hpsv2.1": scorers.HPS,
}


@pytest.fixture(scope="session")
def tiny_clips(tmp_path_factory):
    """A folder of the published CLIPs by their files' names: small random networks of open_clip's."""
    configs, folder = tmp_path_factory.mktemp("configs"), tmp_path_factory.mktemp("scorers")
    for width, name in enumerate(CLIPS.values(), 8):
        config = {"embed_dim": 2 * width, "vision_cfg": VISION, "text_cfg": TEXT}
        (configs / f"tiny-{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(configs)
    for seed, (id_, name) in enumerate(CLIPS.items()):
        torch.manual_seed(seed)
        torch.save(open_clip.create_model(f"tiny-{name}").state_dict(), folder / WEIGHTS[id_].file)
    return folder


@pytest.fixture
def tiny_scorers(tiny_clips, monkeypatch):
    """The folder, whose networks are loaded where the published ones would be; the last word is the noun."""
    own = scorers.open_clip_scorer
    monkeypatch.setattr(scorers, "open_clip_scorer", lambda name, file: own(f"tiny-{name}", file))
    monkeypatch.setattr(scorers, "spacy_nouns", lambda: lambda text: text.split()[-1:])
    return tiny_clips


@pytest.fixture
def small_methods(monkeypatch):
    """Ranks and calibrations of the methods as small as the tiny checkpoints."""
    monkeypatch.setattr(svdquant, "RANK", 4)
    monkeypatch.setattr(svdquant, "CALIBRATION_PROMPTS", 2)
    monkeypatch.setattr(mixdq, "CALIBRATION_PROMPTS", 2)
    monkeypatch.setattr(mixdq, "SENSITIVITY_PROMPTS", 1)
    monkeypatch.setattr(mixdq, "SPLITS", (1.0,))
    monkeypatch.setattr(ptqd, "measure", functools.partial(ptqd.measure, count=2))
    monkeypatch.setattr(lowrank, "EXPONENTS", ((0.0, 0.0), (0.5, 0.5)))
    monkeypatch.setattr(lowrank, "ITERATIONS", 2)


@pytest.fixture
def small_searches(monkeypatch):
    """Searches of few candidates."""
    monkeypatch.setattr(calibrate, "search", functools.partial(search, grid=(0.95, 1.05), refine=False))
    monkeypatch.setattr(calibrate, "race", functools.partial(race, candidates=4, races=1))
