"""Base models: what a .toml file may say, where weights are found, and every entry on a tiny checkpoint."""

import json
import shutil
from types import SimpleNamespace

import diffusers
import httpx2
import pytest
import torch
from click.testing import CliRunner
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from generator.cli import cli
from generator.models import ENTRIES, MODELS, ModelError, entries, find_entry, find_model, hub, of_entry
from generator.sweep import render
from qsched.schedulers import twin_of
from study.gallery import Prompt

PROMPTS = [Prompt(prompt_id="a", text="a red fox"), Prompt(prompt_id="b", text="two dogs")]
ONE_OF_EACH_FILE = {  # and one of each scheduler
    (entry.hub, entry.pipeline, str(entry.scheduler), bool(entry.lora)): entry.id
    for entry in sorted(ENTRIES.values(), key=lambda entry: -entry.steps)
}


def test_every_model_of_the_papers_is_here():
    few = {"sdxl-turbo": 4, "flux-schnell": 4, "pcm-sdxl": 2}
    few |= {f"pcm-sd15-{steps}": steps for steps in (2, 4, 8)}
    few |= {f"lcm-dreamshaper-{steps}": steps for steps in (2, 4, 8)}
    assert few.items() <= {entry.id: entry.steps for entry in ENTRIES.values()}.items()
    many = {f"{model}-{name}-50" for model in ("sd14", "sd21") for name in ("pndm", "unipc", "ddim", "euler")}
    assert many | {"sd15", "sdxl-50", "shapes"} <= set(MODELS)


def test_checkpoints_are_pinned_and_only_the_loras_are_not():
    for entry in ENTRIES.values():
        assert len(entry.revision) == 40
    assert {entry.lora.revision for entry in ENTRIES.values() if entry.lora} == {"main"}


@pytest.mark.parametrize("id_", ONE_OF_EACH_FILE.values())
def test_every_entry_draws_on_a_tiny_checkpoint_of_its_classes(tiny, id_):
    entry = tiny(ENTRIES[id_], steps=2)
    base = of_entry(entry)
    assert base.ready()["revision"].startswith("sha256:")
    pipeline = base.load()
    assert type(pipeline).__name__ == entry.pipeline
    assert all(p.dtype == torch.float32 for p in getattr(pipeline, entry.backbone).parameters())
    if entry.scheduler:
        assert type(pipeline.scheduler).__name__ == entry.scheduler.class_
    pictures = render(pipeline, base, PROMPTS)
    assert pictures.shape == (2, 3, entry.resolution, entry.resolution)
    assert pictures.isfinite().all()
    assert torch.equal(pictures, render(base.load(), base, PROMPTS))
    assert not torch.equal(pictures[0], pictures[1])


def test_few_step_models_have_schedulers_that_qsched_can_take_over(tiny):
    for id_ in ("sdxl-turbo", "flux-schnell", "pcm-sd15-2", "pcm-sdxl", "lcm-dreamshaper-4"):
        assert twin_of(type(of_entry(tiny(ENTRIES[id_])).load().scheduler).__name__), id_


def test_a_lora_is_fused_into_the_backbone(tiny):
    entry = tiny(ENTRIES["pcm-sd15-2"])
    fused, plain = of_entry(entry).load().unet, of_entry(entry.model_copy(update={"lora": None})).load().unet
    changed = {
        name
        for (name, a), b in zip(plain.named_parameters(), fused.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed
    assert all(name.endswith(("attn1.to_q.weight", "attn2.to_v.weight")) for name in changed)


# ---------------------------------------------------------------- .toml files

MINE = """
label = "Mine"
hub = "{hub}"
licence = "mine"
pipeline = "StableDiffusionPipeline"
backbone = "unet"
keep = ["conv_in"]
resolution = 16
steps = [2, 3]
guidance = 0.0
"""


def test_a_model_is_added_by_a_toml_file(tmp_path, checkpoints):
    path = tmp_path / "mine.toml"
    path.write_text(MINE.format(hub=checkpoints("StableDiffusionPipeline")), encoding="utf-8-sig")
    with pytest.raises(ModelError, match=r"say which one: .*mine.toml:mine-2, .*mine.toml:mine-3"):
        find_model(str(path))
    base = find_model(f"{path}:mine-3")
    assert (base.id, base.steps, base.label) == ("mine-3", 3, "Mine, 3 steps")
    assert render(base.load(), base, PROMPTS).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = [2, 3]", "steps = []"), "field 'steps': found"),
        (("steps = [2, 3]", "steps = [0]"), "field 'steps.0': found 0"),
        (("resolution = 16", "resolution = 20"), "field 'resolution': found 20; .*multiple of 8"),
        (('backbone = "unet"', 'backbone = "vae"'), "field 'backbone': found"),
        (('licence = "mine"', ""), "field 'licence' is missing"),
        (('label = "Mine"', 'label = "Mine"\ncfg = 7'), "unknown key 'cfg'"),
        (('label = "Mine"', "label = Mine"), "not valid TOML"),
        (
            ("guidance = 0.0", 'guidance = 0.0\n[[schedulers]]\nclass = "A"\n[[schedulers]]\nclass = "B"'),
            "several schedulers, so each needs a name",
        ),
    ],
)
def test_a_faulty_toml_file_is_named_with_its_field(tmp_path, change, message):
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace(*change))
    with pytest.raises(ModelError, match=rf"mine\.toml: .*{message}"):
        entries.read_entries(path)


def test_a_class_that_diffusers_lacks_is_named(tiny):
    entry = tiny(ENTRIES["sd15"], scheduler=entries.Scheduler.model_validate({"class": "NoScheduler"}))
    with pytest.raises(
        ModelError, match=rf"sd15: diffusers {diffusers.__version__} has no class 'NoScheduler'"
    ):
        of_entry(entry).load()


# ---------------------------------------------------------------- pinning


def test_pinning_writes_the_hubs_commits_and_leaves_the_rest_as_it_is(tmp_path, monkeypatch):
    heads = {"wangfuyun/PCM_Weights": "a" * 40, "stable-diffusion-v1-5/stable-diffusion-v1-5": "b" * 40}
    asked = []

    def model_info(hub, revision):
        asked.append(revision)
        return SimpleNamespace(sha=heads[hub])

    monkeypatch.setattr("generator.models.pin.model_info", model_info)
    path = tmp_path / "pcm-sd15.toml"
    result = CliRunner().invoke(cli, ["models", "pin", "pcm-sd15-4", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert asked == [None, "main"]
    entry = find_entry(f"{path}:pcm-sd15-4")
    assert (entry.revision, entry.lora.revision) == ("b" * 40, "a" * 40)
    own = find_entry("pcm-sd15-4")
    lora = own.lora.model_copy(update={"revision": "a" * 40})
    assert entry == own.model_copy(update={"revision": "b" * 40, "lora": lora})
    assert path.read_text().startswith("# Phased consistency models")

    path.write_text(MINE.format(hub="wangfuyun/PCM_Weights"))  # with no revision yet
    assert CliRunner().invoke(cli, ["models", "pin", str(path)]).exit_code == 0
    assert find_entry(f"{path}:pcm-sd15-3").revision == "a" * 40


def test_pinning_without_the_hub_or_a_file_is_told(tmp_path, monkeypatch):
    def model_info(*_, **__):
        raise httpx2.ConnectError("no route")

    monkeypatch.setattr("generator.models.pin.model_info", model_info)
    path = tmp_path / "mine.toml"
    path.write_text(MINE.format(hub="me/mine"))
    result = CliRunner().invoke(cli, ["models", "pin", str(path)])
    assert result.exit_code == 2 and "the hub does not answer (no route)" in result.stderr
    assert path.read_text() == MINE.format(hub="me/mine")
    result = CliRunner().invoke(cli, ["models", "pin", "sdxl-turbo"])
    assert result.exit_code == 2 and "say with --output where a copy goes" in result.stderr


# ---------------------------------------------------------------- weights


def test_weights_may_lie_in_a_folder(checkpoints, tmp_path):
    base = find_model("sdxl-turbo", checkpoints("StableDiffusionXLPipeline"))
    assert base.id == "sdxl-turbo"
    assert base.ready()["revision"].startswith("sha256:")
    with pytest.raises(ModelError, match=r"none: no such folder"):
        find_model("sdxl-turbo", tmp_path / "none").ready()
    copy = shutil.copytree(checkpoints("StableDiffusionXLPipeline"), tmp_path / "copy")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    for torn in (whole[:-1], whole[:100], b"version https://git-lfs.github.com/spec/v1\n"):
        weights.write_bytes(torn)
        with pytest.raises(ModelError, match=r"sdxl-turbo: .*unet.*safetensors: not a whole file of weights"):
            find_model("sdxl-turbo", copy).ready()
    weights.unlink()
    shutil.rmtree(copy / "tokenizer_2")
    with pytest.raises(ModelError, match=r"no complete diffusers pipeline; it lacks tokenizer_2, unet"):
        find_model("sdxl-turbo", copy).ready()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError))
    return tmp_path / "hub"


def answers(monkeypatch, error):
    response = httpx2.Response(403, request=httpx2.Request("GET", "https://huggingface.co"))

    def model_info(*_, **__):
        raise (
            error(response=response, message="no") if error is not httpx2.ConnectError else error("no route")
        )

    monkeypatch.setattr(hub, "model_info", model_info)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            GatedRepoError,
            r"accepted: do so at https://huggingface.co/black-forest-labs/FLUX.1-schnell, .*HF_TOKEN",
        ),
        (
            RepositoryNotFoundError,
            r"the hub knows no black-forest-labs/FLUX.1-schnell, or HF_TOKEN may not see",
        ),
        (httpx2.ConnectError, r"is not in .*hub, and the hub does not answer \(no route\); --weights FOLDER"),
    ],
)
def test_what_keeps_weights_from_us_is_told(cache, monkeypatch, error, message):
    answers(monkeypatch, error)
    with pytest.raises(ModelError, match=message):
        MODELS["flux-schnell"].ready()


FILES = {
    "model_index.json": 500,
    "sd_xl_turbo_1.0.safetensors": 13_000_000_000,
    "scheduler/scheduler_config.json": 500,
    "unet/config.json": 1_500,
    "unet/diffusion_pytorch_model.safetensors": 10_000_000_000,
    "unet/diffusion_pytorch_model.fp16.safetensors": 5_000_000_000,
    "unet/model.onnx": 5_000_000_000,
    "text_encoder/model.fp16-00001-of-00002.safetensors": 700_000_000,
    "text_encoder/model.fp16-00002-of-00002.safetensors": 700_000_000,
    "text_encoder/model.safetensors.index.fp16.json": 1_000,
    "vae/diffusion_pytorch_model.safetensors": 300_000_000,
    "vae/diffusion_pytorch_model.non_ema.safetensors": 300_000_000,
    "safety_checker/model.fp16.safetensors": 600_000_000,
    "tokenizer/merges.txt": 500_000,
}


def test_a_hub_that_is_no_place_is_told(tiny, cache):
    entry = tiny(ENTRIES["sdxl-turbo"]).model_copy(update={"hub": "runs/turbo/final"})
    with pytest.raises(ModelError, match="runs/turbo/final: neither a folder nor an id of the hub"):
        of_entry(entry).ready()


def test_too_little_disk_is_told_with_both_numbers_before_anything_is_downloaded(cache, monkeypatch):
    siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in FILES.items()]
    info = SimpleNamespace(siblings=siblings, sha="0" * 40)
    monkeypatch.setattr(hub, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000_000))
    with pytest.raises(
        ModelError, match=r"sdxl-turbo: its weights take 6.7 GB, .*hub has 2.0 GB free; HF_HOME"
    ):
        MODELS["sdxl-turbo"].ready()


def test_only_what_is_loaded_is_downloaded():
    assert set(hub.needed(list(FILES), "fp16")) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    }


def test_a_download_is_asked_for_at_its_commit_and_recorded(cache, monkeypatch, checkpoints):
    """The hub's part is played by a folder, under the name that the cache gives to a commit."""
    commit, asked = "c" * 40, []
    source = checkpoints("StableDiffusionXLPipeline")
    files = [file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()]

    def snapshot_download(repo, *, revision, local_files_only=False, allow_patterns=None):
        if local_files_only:
            raise FileNotFoundError
        asked.append((repo, revision, set(allow_patterns)))
        return shutil.copytree(source, cache / "snapshots" / revision)

    siblings = [SimpleNamespace(rfilename=name, size=1) for name in files]
    monkeypatch.setattr(hub, "model_info", lambda *_, **__: SimpleNamespace(siblings=siblings, sha=commit))
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert MODELS["sdxl-turbo"].ready()["revision"] == commit
    ((repo, revision, patterns),) = asked
    assert (repo, revision) == ("stabilityai/sdxl-turbo", commit)
    assert "unet/diffusion_pytorch_model.safetensors" in patterns


def test_too_little_memory_is_told_with_both_numbers(tiny, monkeypatch):
    entry = tiny(ENTRIES["sd15"])
    loaded = of_entry(entry).load()
    parts = [loaded.unet, loaded.vae, loaded.text_encoder]
    expected = sum(p.numel() * 4 for part in parts for p in part.parameters())
    stored = hub.weight_bytes(entry, hub.located(entry).folder)
    assert expected <= stored < 1.01 * expected  # buffers
    monkeypatch.setattr(hub.psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    with pytest.raises(
        ModelError, match=r"sd15: its weights alone take 0\.\d GB .* float32, this machine has 0"
    ):
        of_entry(entry).ready()


# ---------------------------------------------------------------- commands


def test_models_are_listed_and_shown(checkpoints):
    listed = CliRunner().invoke(cli, ["models", "list"]).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(MODELS)
    rows = json.loads(CliRunner().invoke(cli, ["models", "list", "--json"]).stdout)
    assert {"id": "sdxl-turbo", "label": "SDXL-Turbo, 4 steps", "steps": 4} in rows
    shown = json.loads(CliRunner().invoke(cli, ["models", "show", "pcm-sd15-4"]).stdout)
    assert shown["lora"]["file"] == "sd15/pcm_sd15_smallcfg_4step_converted.safetensors"
    folder = str(checkpoints("StableDiffusionXLPipeline"))
    shown = CliRunner().invoke(cli, ["models", "show", "sdxl-turbo", "--weights", folder, "--check"])
    assert json.loads(shown.stdout)["ready"]["dtype"] == "float32"


def test_an_unknown_model_is_bad_input():
    result = CliRunner().invoke(cli, ["models", "show", "sdxxl"])
    assert result.exit_code == 2
    assert "'sdxxl': unknown; see: generator models list" in result.stderr
