"""Captions of the shapes world, drawn from seeds."""

from __future__ import annotations

from study.gallery import Prompt

# Streams of the shapes world: none of them is one that its models were trained on.
SHAPES_STREAMS = {"shapes": 777_001, "calibration": 777_002, "heldout": 777_003}
SHAPES_SET_SIZE = 1000


def shapes_prompts(stream: str = "shapes", count: int = SHAPES_SET_SIZE) -> list[Prompt]:
    """Captions of the shapes world: `stream` is a key of SHAPES_STREAMS, ids are "<stream>-0000", …"""
    from generator.shapes.scenes import RELATIONS, caption, sample_scenes  # needs torch

    kinds = {"small": "single", "big": "single", "two": "counted", "three": "counted"}
    scenes = sample_scenes(SHAPES_STREAMS[stream], count)
    return [
        Prompt(
            prompt_id=f"{stream}-{i:04d}",
            text=caption(scene),
            category="relation" if scene.kind in RELATIONS else kinds[scene.kind],
        )
        for i, scene in enumerate(scenes)
    ]
