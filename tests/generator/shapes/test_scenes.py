from collections import Counter
from dataclasses import replace

import pytest
import torch

from generator.shapes.pipeline import build_tokenizer
from generator.shapes.scenes import (
    CONTEXT,
    RELATIONS,
    Look,
    Scene,
    alternatives,
    caption,
    sample_scenes,
    tokenize,
)

SCENES = sample_scenes(1, 2000)


def test_a_caption_says_what_the_scene_is():
    looks = (Look("red", "striped", "circle"), Look("blue", "plain", "star"))
    scene = Scene("above", Look("yellow", "checked"), looks, ((0, -0.5, 0.4), (0, 0.5, 0.4)))
    assert caption(scene) == "a striped red circle above a blue star on a checked yellow background"
    crosses = Scene("two", Look("orange"), (Look("pink", "plain", "cross"),), ((0, 0, 0.3),) * 2)
    assert caption(crosses) == "two pink crosses on an orange background"


def test_parts_of_a_scene_never_share_a_colour():
    for scene in SCENES:
        colours = [scene.background.colour, *(look.colour for look in scene.looks)]
        assert len(set(colours)) == len(colours)


def test_kinds_come_in_their_shares():
    kinds = Counter("relation" if s.kind in RELATIONS else s.kind for s in SCENES)
    for kind, share in {"relation": 0.5, "small": 0.15, "big": 0.15, "two": 0.1, "three": 0.1}.items():
        assert abs(kinds[kind] / len(SCENES) - share) < 0.04


def test_places_agree_with_the_relation():
    for scene in (s for s in SCENES if s.kind in RELATIONS):
        (x1, y1, r1), (x2, y2, r2) = scene.places
        truth = {
            "above": y1 < y2,
            "below": y1 > y2,
            "left of": x1 < x2,
            "right of": x1 > x2,
            "inside": abs(x1 - x2) + abs(y1 - y2) + r1 < r2,
        }
        assert truth[scene.kind]


def test_alternatives_change_one_thing_and_all_captions_differ():
    for scene in SCENES[:200]:
        for attribute in ("background", "colour", "shape", "relation"):
            choices = alternatives(scene, attribute)
            assert choices[0] == scene
            assert len({caption(c) for c in choices}) == len(choices)
    scene = next(s for s in SCENES if s.kind == "above")
    assert {c.kind for c in alternatives(scene, "relation")} == set(RELATIONS[:4])
    assert all(replace(c, kind="above") == scene for c in alternatives(scene, "relation"))


def test_every_caption_fits_and_both_tokenizers_agree():
    captions = [caption(s) for s in SCENES] + [""]
    ids = tokenize(captions)
    assert ids.shape == (len(captions), CONTEXT)
    other = build_tokenizer()(captions, padding="max_length", max_length=CONTEXT, return_tensors="pt")
    assert torch.equal(ids, other.input_ids)


def test_a_word_outside_the_vocabulary_is_named():
    with pytest.raises(ValueError, match=r"unknown word 'dog'"):
        tokenize(["a red dog"])
