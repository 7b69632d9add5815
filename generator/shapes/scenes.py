"""What a picture of the shapes world shows, the caption that says so, and the words captions are made of.

A scene is one object, two objects in a relation, or two or three equal objects, on a background.
Scenes are drawn from a numpy generator, so that a seed gives an endless stream of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

COLOURS = {
    "red": (0.87, 0.13, 0.13),
    "orange": (0.98, 0.55, 0.08),
    "yellow": (0.98, 0.88, 0.15),
    "green": (0.13, 0.62, 0.22),
    "cyan": (0.15, 0.80, 0.86),
    "blue": (0.13, 0.27, 0.85),
    "purple": (0.50, 0.15, 0.68),
    "pink": (0.98, 0.55, 0.74),
    "white": (0.96, 0.96, 0.96),
    "black": (0.07, 0.07, 0.08),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "diamond", "heart")
TEXTURES = ("plain", "striped", "dotted", "checked")
RELATIONS = ("above", "below", "left of", "right of", "inside")
ANTONYMS = ("a good picture", "a bad picture")

CONTEXT = 20  # tokens of the longest caption, with BOS and EOS, rounded up to a multiple of four
PAD, BOS, EOS = 0, 1, 2
VOCABULARY = (
    "<pad>", "<bos>", "<eos>",
    "a", "an", "on", "background", "of", "inside", "above", "below", "left", "right",
    "small", "big", "two", "three", "good", "bad", "picture",
    *TEXTURES[1:], *COLOURS, *SHAPES, *(f"{s}es" if s == "cross" else f"{s}s" for s in SHAPES),
)  # fmt: skip
_TOKEN = {word: i for i, word in enumerate(VOCABULARY)}


@dataclass(frozen=True)
class Look:
    """A colour, a texture and, for objects, a shape."""

    colour: str
    texture: str = "plain"
    shape: str = ""

    def words(self) -> list[str]:
        """The adjectives and the noun, in the order a caption has them."""
        return [*([] if self.texture == "plain" else [self.texture]), self.colour, self.shape]


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn.

    `places` has (x, y, radius) for every drawn object, in units where the picture is [-1, 1]²
    with y downward. A counted scene (`kind` "two" or "three") draws its single look several times.
    """

    kind: str  # "small", "big", "two", "three" or one of RELATIONS
    background: Look
    looks: tuple[Look, ...]
    places: tuple[tuple[float, float, float], ...]


def sample_scene(rng: np.random.Generator) -> Scene:
    """One scene: 30 % single objects, 50 % pairs in a relation, 20 % counted objects."""
    colours = list(rng.permutation(list(COLOURS))[:3])
    background = Look(str(colours[0]), _texture(rng, plain=0.55))
    group = rng.choice(3, p=(0.3, 0.5, 0.2))
    if group == 0:
        return _single(rng, background, str(colours[1]))
    if group == 1:
        return _related(rng, background, str(colours[1]), str(colours[2]))
    return _counted(rng, background, str(colours[1]))


def sample_scenes(seed: int, count: int) -> list[Scene]:
    """The first `count` scenes of the stream `seed`."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng) for _ in range(count)]


def _texture(rng: np.random.Generator, plain: float = 0.46) -> str:
    rest = (1 - plain) / 3
    return str(rng.choice(TEXTURES, p=(plain, rest, rest, rest)))


def _look(rng: np.random.Generator, colour: str, shapes: tuple[str, ...] = SHAPES) -> Look:
    return Look(colour, _texture(rng), str(rng.choice(shapes)))


def _single(rng: np.random.Generator, background: Look, colour: str) -> Scene:
    kind = str(rng.choice(("small", "big")))
    radius = (0.70 if kind == "big" else 0.40) + rng.uniform(-0.05, 0.05)
    x, y = rng.uniform(-0.5, 0.5, 2) * (1 - radius)
    return Scene(kind, background, (_look(rng, colour),), ((x, y, radius),))


def _related(rng: np.random.Generator, background: Look, first: str, second: str) -> Scene:
    relation = str(rng.choice(RELATIONS))
    if relation == "inside":
        # Only shapes with a full middle can hold another one.
        looks = (_look(rng, first), _look(rng, second, ("circle", "square", "diamond")))
        outer = (*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.72, 0.82))
        inner = (*(np.array(outer[:2]) + rng.uniform(-0.04, 0.04, 2)), rng.uniform(0.30, 0.36))
        return Scene(relation, background, looks, (inner, outer))
    along, across = rng.uniform(0.42, 0.50), rng.uniform(-0.18, 0.18)
    x, y = {
        "above": (across, -along), "below": (across, along),
        "left of": (-along, across), "right of": (along, across),
    }[relation]  # fmt: skip
    radii = rng.uniform(0.33, 0.40, 2)
    looks = (_look(rng, first), _look(rng, second))
    return Scene(relation, background, looks, ((x, y, radii[0]), (-x, -y, radii[1])))


def _counted(rng: np.random.Generator, background: Look, colour: str) -> Scene:
    kind = str(rng.choice(("two", "three")))
    count, start, radius = 2 + (kind == "three"), rng.uniform(0, 2 * math.pi), rng.uniform(0.29, 0.35)
    angles = start + 2 * math.pi * np.arange(count) / count
    places = tuple((0.48 * math.cos(a), 0.48 * math.sin(a), radius) for a in angles)
    return Scene(kind, background, (_look(rng, colour),), places)


def caption(scene: Scene) -> str:
    """The sentence for a scene: "a striped red circle above a blue star on a checked yellow background"."""
    background = _noun_phrase([*scene.background.words()[:-1], "background"])
    first = scene.looks[0].words()
    if scene.kind in RELATIONS:
        second = scene.looks[1].words()
        if scene.kind == "inside":
            first, second = ["small", *first], ["big", *second]
        return f"{_noun_phrase(first)} {scene.kind} {_noun_phrase(second)} on {background}"
    if scene.kind in ("two", "three"):
        first[-1] += "es" if first[-1] == "cross" else "s"
        return f"{scene.kind} {' '.join(first)} on {background}"
    return f"{_noun_phrase([scene.kind, *first])} on {background}"


def _noun_phrase(words: list[str]) -> str:
    return f"{'an' if words[0] == 'orange' else 'a'} {' '.join(words)}"


def alternatives(scene: Scene, attribute: str) -> list[Scene]:
    """The scene, then the same scene with one attribute changed to each other value it could have had.

    `attribute` is "background", "colour", "shape" (the last two: of the first object) or "relation".
    A colour that another part of the scene has is no alternative; a scene without a relation has none.
    """
    look = scene.looks[0]
    taken = {scene.background.colour, *(other.colour for other in scene.looks)}
    if attribute == "background":
        others = [c for c in COLOURS if c not in taken]
        changed = [replace(scene, background=replace(scene.background, colour=c)) for c in others]
    elif attribute == "colour":
        others = [c for c in COLOURS if c not in taken]
        changed = [replace(scene, looks=(replace(look, colour=c), *scene.looks[1:])) for c in others]
    elif attribute == "shape":
        others = [s for s in SHAPES if s != look.shape]
        changed = [replace(scene, looks=(replace(look, shape=s), *scene.looks[1:])) for s in others]
    elif attribute == "relation":
        if scene.kind not in RELATIONS[:4]:
            return [scene]
        changed = [replace(scene, kind=r) for r in RELATIONS[:4] if r != scene.kind]
    else:
        raise ValueError(f"attribute {attribute!r}: expected background, colour, shape or relation")
    return [scene, *changed]


def tokenize(texts: list[str]) -> Tensor:
    """Token ids of shape (len(texts), CONTEXT): BOS, words, EOS, padding.

    Raises ValueError for a word outside VOCABULARY or a text that is too long.
    """
    ids = torch.full((len(texts), CONTEXT), PAD)
    for row, text in enumerate(texts):
        words = text.split()
        unknown = [word for word in words if word not in _TOKEN]
        if unknown or len(words) > CONTEXT - 2:
            raise ValueError(
                f"caption {text!r}: {f'unknown word {unknown[0]!r}' if unknown else 'too many words'}; "
                f"expected at most {CONTEXT - 2} words of the shapes vocabulary"
            )
        tokens = [BOS, *(_TOKEN[word] for word in words), EOS]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids
