"""What is to be voted on: which methods meet, on which prompts, and how many votes are wanted where."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from study.config import ConfigError, Protocol
from study.schema import GalleryRow, ImageRow, MethodRow, PromptRow

Row = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """What a protocol takes of the gallery: its method pairs, methods and prompts; all images there are."""

    digest: str
    pairs: list[tuple[str, str]]
    methods: list[str]  # of the pairs, in the gallery's order
    prompts: list[PromptRow]  # sorted by id
    images: dict[tuple[str, str, int, str], ImageRow]  # by method, prompt, replicate, variant

    @classmethod
    def of(cls, session: Session, protocol: Protocol) -> "Material":
        """Take from the study's gallery what the protocol asks for; nothing if there is no gallery yet.

        Raises
        ------
        ConfigError
            With the key that the gallery cannot satisfy.
        """
        digest = session.scalar(select(GalleryRow.digest))
        if digest is None:
            return cls("", [], [], [], {})
        methods = session.scalars(select(MethodRow)).all()
        order = session.scalars(select(ImageRow.method_id).order_by(ImageRow.id)).all()
        rank = {id_: place for place, id_ in enumerate(dict.fromkeys(order))}
        pairs = method_pairs(sorted(methods, key=lambda m: (rank.get(m.id, len(rank)), m.id)), protocol)
        shown = list(dict.fromkeys(id_ for pair in pairs for id_ in pair))
        images = session.scalars(select(ImageRow)).all()
        unwanted = set(protocol.prompts.leave_out_flagged)
        out = {
            i.prompt_id for i in images if i.method_id in shown and unwanted & set(i.body.get("flags") or ())
        }
        prompts = [p for p in session.scalars(select(PromptRow)) if p.id not in out]
        if out and not prompts:
            raise ConfigError("study.toml: prompts.leave_out_flagged: leaves no prompt of the gallery")
        return cls(
            digest,
            pairs,
            shown,
            chosen_prompts(prompts, protocol),
            {(i.method_id, i.prompt_id, i.replicate, i.variant): i for i in images},
        )


def method_pairs(methods: Sequence[MethodRow], protocol: Protocol) -> list[tuple[str, str]]:
    """The pairs of methods that meet.

    Raises
    ------
    ConfigError
        If study.toml names a method that is not there, or if no two may meet.
    """
    pairs, there = protocol.pairs, {method.id: method for method in methods}
    named = [
        *pairs.methods,
        *([pairs.against] if pairs.against else []),
        *(m for p in pairs.listed for m in p),
    ]
    for name in named:
        if name not in there:
            raise ConfigError(
                f"study.toml: pairs: method {name!r} is not in the gallery, which has {', '.join(there)}"
            )
    taken = [method.id for method in methods if not pairs.methods or method.id in pairs.methods]
    if pairs.listed:
        found = list(pairs.listed)
    elif pairs.against:
        found = [(pairs.against, other) for other in taken if other != pairs.against]
    else:
        found = list(combinations(taken, 2))
    if not pairs.across_base_models:
        meeting = [(a, b) for a, b in found if there[a].base_model == there[b].base_model]
        if pairs.listed and len(meeting) < len(found):
            a, b = next(pair for pair in found if pair not in meeting)
            raise ConfigError(
                f"study.toml: pairs.listed: {a!r} and {b!r} have different base models; "
                "across_base_models = true lets them meet"
            )
        if found and not meeting:
            raise ConfigError(
                "study.toml: pairs: no two methods share a base model; "
                "across_base_models = true lets them meet"
            )
        found = meeting
    if not found:
        raise ConfigError("study.toml: pairs: no two methods meet")
    return found


def chosen_prompts(prompts: Iterable[PromptRow], protocol: Protocol) -> list[PromptRow]:
    """The prompts that are shown, sorted: of each category the first n of its ids, shuffled with seed 0.

    So small choices nest in large ones.

    Raises
    ------
    ConfigError
        If a category is not there, or has fewer prompts than wanted.
    """
    by_category: dict[str, list[PromptRow]] = {}
    for prompt in sorted(prompts, key=lambda prompt: prompt.id):
        by_category.setdefault(prompt.category or "", []).append(prompt)
    wanted = protocol.prompts
    for name in wanted.categories:
        if name not in by_category:
            raise ConfigError(
                f"study.toml: prompts.categories: {name!r} is not in the gallery, "
                f"which has {', '.join(map(repr, by_category))}"
            )
    chosen: list[PromptRow] = []
    for name, rows in by_category.items():
        if wanted.categories and name not in wanted.categories:
            continue
        if wanted.per_category > len(rows):
            raise ConfigError(
                f"study.toml: prompts.per_category: {wanted.per_category} wanted, "
                f"category {name!r} has {len(rows)}"
            )
        random.Random(0).shuffle(rows)
        chosen += rows[: wanted.per_category or None]
    return sorted(chosen, key=lambda prompt: prompt.id)


def main_cells(material: Material, protocol: Protocol) -> tuple[list[Row], list[Row]]:
    """The quotas, and the pairs of images with the stratum of their quota, as rows for the tables."""
    by_prompt = protocol.quota.per == "prompt"
    quotas: dict[tuple[str, str, str], Row] = {}
    cells = []
    for prompt in material.prompts:
        stratum = prompt.id if by_prompt else prompt.category or ""
        for one, other in material.pairs:
            quotas.setdefault((one, other, stratum), {"method_1": one, "method_2": other, "stratum": stratum})
            cells.append(
                {
                    "kind": "main",
                    "prompt_id": prompt.id,
                    "method_1": one,
                    "method_2": other,
                    "stratum": stratum,
                    "image_1": material.images[one, prompt.id, 0, ""].id,
                    "image_2": material.images[other, prompt.id, 0, ""].id,
                }
            )
    return shuffled(list(quotas.values()), protocol.seed), shuffled(cells, protocol.seed)


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    """Give each row a place in a random order, evenly spread over [0, 1)."""
    places = list(range(len(rows)))
    random.Random(f"{seed}/order").shuffle(places)
    for place, row in zip(places, rows, strict=True):
        row.update(shuffle=(place + 0.5) / len(rows), votes=0)
    return rows
