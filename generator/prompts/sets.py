"""The prompt sets that have a name: where each comes from, its licence, and how its file is laid out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from generator.prompts.errors import PromptError
from generator.prompts.reading import Fields, read_prompts
from generator.prompts.shapes import shapes_prompts
from study.gallery import Prompt

SHIPPED = Path(__file__).parent / "data"
HF = "https://huggingface.co/datasets"
RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PromptSet:
    """A published set. `file` is its name in the cache; `member` the file in an archive at `url`.

    `sha256` is of the file as published, where it could be checked; where it is None, that of the first
    download is recorded and every later one must equal it.
    """

    id: str
    title: str
    licence: str
    file: str | None
    url: str | None = None
    member: str | None = None
    sha256: str | None = None
    fields: Fields = field(default_factory=Fields)


SETS = {
    prompt_set.id: prompt_set
    for prompt_set in (
        PromptSet("shapes", "the shapes world, 1,000 captions drawn from a seed", "Apache-2.0", None),
        PromptSet(
            "partiprompts",
            "PartiPrompts, 1,632 prompts in 12 categories (Yu et al. 2022)",
            "Apache-2.0",
            "partiprompts.tsv",
            sha256="fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb",
        ),
        PromptSet(
            "mjhq",
            "MJHQ-30K, 30,000 prompts in 10 categories; -n 5000 is the subset of SVDQuant and Q-Sched",
            "Playground v2.5 Community Licence, not redistributable",
            "meta_data.json",
            f"{HF}/playgroundai/MJHQ-30K/resolve/main/meta_data.json",
        ),
        PromptSet(
            "sdci",
            "sDCI, summarised captions of Densely Captioned Images (Urbanek et al. 2024)",
            "CC BY-NC 4.0",
            "sDCI.yaml",
            f"{HF}/mit-han-lab/svdquant-datasets/resolve/main/sDCI.yaml",
        ),
        PromptSet(
            "coco",
            "COCO 2014, one caption for each image of Karpathy's val split",
            "CC BY 4.0",
            "dataset_coco.json",
            "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
            member="dataset_coco.json",
        ),
        PromptSet(
            "stable-diffusion-prompts",
            "Gustavosta's Stable-Diffusion-Prompts, the evaluation split",
            "not stated by its publisher",
            "eval.parquet",
            f"{HF}/Gustavosta/Stable-Diffusion-Prompts/resolve/main/data/eval.parquet",
            fields=Fields(text="Prompt"),
        ),
        PromptSet(
            "geneval",
            "GenEval, 553 prompts in 6 tasks (Ghosh et al. 2023)",
            "MIT",
            "geneval_metadata.jsonl",
            f"{RAW}/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/prompts/evaluation_metadata.jsonl",
            sha256="5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
            fields=Fields(text="prompt", category="tag"),
        ),
        PromptSet(
            "drawbench",
            "DrawBench, 200 prompts (Saharia et al. 2022), one a line",
            "not stated by its publisher; cite Imagen",
            "drawbench.txt",
        ),
    )
}


def load_prompts(spec: str, fields: Fields | None = None) -> list[Prompt]:
    """The prompts that `--prompts` names: a set ("mjhq"), a file of its layout ("mjhq=FILE"), or any file.

    `fields` names the fields of a file; those of a set are known. Raises PromptError.
    """
    name, equals, path = spec.partition("=")
    if name in SETS and (equals or not path):
        if fields and fields != Fields():
            raise PromptError(f"{name}: the fields of a named set are known; leave out --*-field")
        if name == "shapes" and not equals:
            return shapes_prompts()
        return read_prompts(Path(path) if equals else located(SETS[name]), SETS[name].fields)
    if not Path(spec).suffix and not Path(spec).exists():
        raise PromptError(f"{spec!r}: neither a file nor a set; the sets are {', '.join(SETS)}")
    return read_prompts(Path(spec), fields)


def cache_folder() -> Path:
    """Where downloaded sets are kept: $PAIRSTUDY_CACHE, or the user's cache folder."""
    if folder := os.environ.get("PAIRSTUDY_CACHE"):
        return Path(folder) / "prompts"
    import platformdirs

    return Path(platformdirs.user_cache_dir("pairstudy", appauthor=False)) / "prompts"


def found(prompt_set: PromptSet) -> Path | None:
    """The file of a set, shipped or in the cache; None if it is not here."""
    places = [folder / prompt_set.file for folder in (SHIPPED, cache_folder()) if prompt_set.file]
    return next((place for place in places if place.exists()), None)


def located(prompt_set: PromptSet) -> Path:
    """The file of a set; PromptError with the ways to get it if it is not here."""
    if path := found(prompt_set):
        return path
    ways = [
        f"put {prompt_set.file} into {cache_folder()}",
        f"say where it is with {prompt_set.id}=FILE",
    ]
    if prompt_set.url:
        ways.append(
            f"let it be downloaded with: generator prompts show {prompt_set.id} --download "
            f"(licence: {prompt_set.licence}; from {prompt_set.url})"
        )
    raise PromptError(f"{prompt_set.id}: not here; {', or '.join(ways)}")
