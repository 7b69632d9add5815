"""Weights: found in a folder, in the cache or on the Hugging Face hub; looked over, then loaded.

What can be known before a run is told before it: a licence to accept, too little disk, too little memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import psutil
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import constants, hf_hub_download, model_info, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from generator.models.entries import Entry, ModelError

# Parts of Stable Diffusion that would change pictures after the fact: a black picture is no method's doing.
DROPPED = {"safety_checker": None, "requires_safety_checker": False, "add_watermarker": False}
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Weights:
    """Where the weights lie and which they are."""

    folder: Path
    revision: str
    lora: Path | None = None
    lora_revision: str | None = None


def device() -> torch.device:
    """The first GPU if there is one (CUDA_VISIBLE_DEVICES chooses), else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(entry: Entry) -> str:
    """What the model computes in on `device()`."""
    return entry.dtype if device().type == "cuda" else "float32"


def ready(entry: Entry) -> dict[str, str]:
    """Download what is missing, look over what is there; what a gallery should record of it.

    Raises ModelError: not to be had, incomplete, or too large for disk or memory.
    """
    weights = located(entry)
    _must_fit(entry, weights.folder)
    facts = {
        "weights": entry.hub,
        "revision": weights.revision,
        "licence": entry.licence,
        "dtype": dtype(entry),
    }
    if entry.lora:
        facts |= {"lora": f"{entry.lora.hub}/{entry.lora.file}", "lora_revision": weights.lora_revision or ""}
    return facts


def load(entry: Entry) -> DiffusionPipeline:
    """The pipeline, its scheduler and LoRA in place, on `device()`."""
    weights = located(entry)
    pipeline_class = _class(entry, entry.pipeline)
    takes = pipeline_class.__init__.__code__.co_varnames
    pipeline = pipeline_class.from_pretrained(
        weights.folder,
        dtype=getattr(torch, dtype(entry)),
        variant=entry.variant if _has_variant(weights.folder, entry.variant) else None,
        use_safetensors=True,
        local_files_only=True,
        **{name: value for name, value in DROPPED.items() if name in takes},
    )
    if entry.scheduler:
        changes = entry.scheduler.model_extra or {}
        scheduler = _class(entry, entry.scheduler.class_)
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **changes)
    if weights.lora:
        pipeline.load_lora_weights(weights.lora.parent, weight_name=weights.lora.name)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


def _class(entry: Entry, name: str) -> type[DiffusionPipeline]:
    found = getattr(diffusers, name, None)
    if found is None:
        raise ModelError(f"{entry.id}: diffusers {diffusers.__version__} has no class {name!r}")
    return found


# ---------------------------------------------------------------- finding


def located(entry: Entry) -> Weights:
    """The weights of an entry, downloaded if they are not here. Raises ModelError."""
    folder, revision = _pipeline_folder(entry)
    if entry.lora is None:
        return Weights(folder, revision)
    if Path(entry.lora.hub).is_dir():
        lora = Path(entry.lora.hub) / entry.lora.file
        if not lora.exists():
            raise ModelError(f"{entry.id}: {lora}: no such file")
        return Weights(folder, revision, lora, _sha256([lora]))
    wanted = entry.lora
    lora = Path(
        asked(entry, wanted.hub, lambda: hf_hub_download(wanted.hub, wanted.file, revision=wanted.revision))
    )
    return Weights(folder, revision, lora, _commit(lora))


def _pipeline_folder(entry: Entry) -> tuple[Path, str]:
    folder = Path(entry.hub)
    if folder.is_dir():
        if gaps := _gaps(folder):
            raise ModelError(
                f"{entry.id}: {folder} is no complete diffusers pipeline; it lacks {', '.join(gaps)}"
            )
        return folder, _sha256(sorted((folder / entry.backbone).glob("*.safetensors")))
    if entry.hub.startswith((".", "/", "~")):
        raise ModelError(f"{entry.id}: {entry.hub}: no such folder")
    try:
        folder = Path(snapshot_download(entry.hub, revision=entry.revision, local_files_only=True))
        if not _gaps(folder):
            return folder, folder.name
    except (FileNotFoundError, HFValidationError):
        pass
    return _downloaded(entry)


def _downloaded(entry: Entry) -> tuple[Path, str]:
    info = asked(
        entry, entry.hub, lambda: model_info(entry.hub, revision=entry.revision, files_metadata=True)
    )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    files = needed(list(sizes), entry.variant)
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    total, free = sum(sizes[file] for file in files), shutil.disk_usage(cache).free
    if total > free:
        raise ModelError(
            f"{entry.id}: its weights take {total / 1e9:.1f} GB, {cache} has {free / 1e9:.1f} GB free; "
            "HF_HOME names another cache"
        )
    folder = Path(
        asked(entry, entry.hub, lambda: snapshot_download(entry.hub, revision=info.sha, allow_patterns=files))
    )
    if gaps := _gaps(folder):
        raise ModelError(f"{entry.id}: {entry.hub} lacks {', '.join(gaps)} as safetensors")
    return folder, folder.name


def asked(entry: Entry, hub: str, call: Callable[[], Any]) -> Any:
    """The answer of the hub, or why there is none as a ModelError."""
    page = f"https://huggingface.co/{hub}"
    try:
        return call()
    except HFValidationError:
        raise ModelError(f"{entry.id}: {hub}: neither a folder nor an id of the hub") from None
    except GatedRepoError:
        raise ModelError(
            f"{entry.id}: {hub} asks for its terms to be accepted: do so at {page}, then set HF_TOKEN to a "
            "token of that account"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"{entry.id}: the hub knows no {hub}, or HF_TOKEN may not see it") from None
    except RevisionNotFoundError:
        raise ModelError(f"{entry.id}: {hub} has no revision {entry.revision}") from None
    except (HTTPError, OSError) as error:
        raise ModelError(
            f"{entry.id}: {hub} is not in {constants.HF_HUB_CACHE}, and the hub does not answer "
            f"({str(error).splitlines()[0]}); --weights FOLDER takes a diffusers pipeline from a folder"
        ) from None


def needed(files: Sequence[str], variant: str | None) -> list[str]:
    """The files of a repository that a pipeline is loaded from: configurations, and weights as safetensors.

    Of each component the weights of the variant are taken, or those without one where it has none.
    """
    parts = [file for file in files if file.count("/") == 1 and not file.startswith(tuple(DROPPED))]
    weights = [file for file in parts if file.endswith((".safetensors", ".safetensors.index.json"))]
    marked = [file for file in weights if variant and _is_variant(file, variant)]
    having = {file.partition("/")[0] for file in marked}
    plain = [file for file in weights if file.partition("/")[0] not in having and _is_plain(file)]
    small = [file for file in parts if file.endswith((".json", ".txt", ".model")) and file not in weights]
    return sorted(["model_index.json", *small, *marked, *plain])


def _is_variant(file: str, variant: str) -> bool:
    """As model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, model.safetensors.index.fp16.json."""
    return re.search(rf"\.{re.escape(variant)}(-\d+-of-\d+)?\.", file.rpartition("/")[2]) is not None


def _is_plain(file: str) -> bool:
    return (
        re.fullmatch(r"\w+(-\d+-of-\d+)?\.safetensors(\.index\.json)?", file.rpartition("/")[2]) is not None
    )


def _has_variant(folder: Path, variant: str | None) -> bool:
    return variant is not None and any(_is_variant(str(file), variant) for file in folder.glob("*/*"))


def _gaps(folder: Path) -> list[str]:
    """What a folder lacks to be a diffusers pipeline: parts that are not there, models without weights."""
    index = folder / "model_index.json"
    if not index.exists():
        return ["model_index.json"]
    gaps = []
    for name, kind in json.loads(index.read_text(encoding="utf-8")).items():
        if name.startswith("_") or name in DROPPED or not isinstance(kind, list) or kind[0] is None:
            continue
        part = folder / name
        if not part.is_dir() or ((part / "config.json").exists() and not _whole(part)):
            gaps.append(name)
    return gaps


def _whole(part: Path) -> bool:
    """Whether a component has weights, and all the files that its index names."""
    if not any(part.glob("*.safetensors")):
        return False
    indices = [
        json.loads(file.read_text(encoding="utf-8")) for file in part.glob("*.safetensors.index*.json")
    ]
    return all((part / file).exists() for index in indices for file in index["weight_map"].values())


# ---------------------------------------------------------------- looking over


def _must_fit(entry: Entry, folder: Path) -> None:
    """ModelError if the weights alone are more than the memory of the device has free."""
    need = weight_bytes(entry, folder)
    if device().type == "cuda":
        free, where = torch.cuda.mem_get_info()[0], torch.cuda.get_device_name()
    else:
        free, where = psutil.virtual_memory().available, "this machine"
    if need > free:
        raise ModelError(
            f"{entry.id}: its weights alone take {need / 1e9:.1f} GB of memory in {dtype(entry)}, "
            f"{where} has {free / 1e9:.1f} GB free"
        )


def weight_bytes(entry: Entry, folder: Path) -> int:
    """Bytes of all weights of a pipeline folder once loaded, counted in the headers of its files.

    Raises ModelError for a file that broke off, or holds no weights.
    """
    variant = entry.variant if _has_variant(folder, entry.variant) else None
    files = [file.relative_to(folder).as_posix() for file in folder.glob("*/*.safetensors")]
    numbers = 0
    for file in set(needed(files, variant)) & set(files):
        try:
            with safe_open(folder / file, framework="pt") as opened:
                shapes = [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118
        except SafetensorError as error:
            raise ModelError(f"{entry.id}: {folder / file}: not a whole file of weights: {error}") from None
        numbers += sum(map(math.prod, shapes))
    return numbers * DTYPE_BYTES[dtype(entry)]


def _sha256(files: Sequence[Path]) -> str:
    """One sha256 over files, for weights that have no commit."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _commit(file: Path) -> str:
    """The commit of a file in the hub's cache: …/snapshots/<commit>/…"""
    parts = file.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else "unknown"
