import numpy as np
import torch

from generator.shapes.networks import load
from generator.shapes.reader import ATTRIBUTES, Reader, Reading, correct, truth
from generator.shapes.render import pictures
from generator.shapes.scenes import COLOURS, SHAPES, alternatives


class Oracle(torch.nn.Module):
    """Reads any picture as the scenes it was given."""

    def __init__(self, scenes):
        super().__init__()
        self.scenes = scenes

    def forward(self, _):
        background, shapes, places = truth(self.scenes)
        one_hot = torch.nn.functional.one_hot
        return Reading(
            one_hot(background, len(COLOURS)).float(), one_hot(shapes, len(SHAPES) + 1).float(), places
        )


def test_a_perfect_reading_is_right_and_a_reading_of_a_changed_scene_is_wrong_in_that_alone():
    _, scenes, _ = pictures(1, 200)
    for attribute in ATTRIBUTES:
        assert np.nanmean(correct(Oracle(scenes), None, scenes, attribute)) == 1
        changed = [alternatives(scene, attribute)[-1] for scene in scenes]
        assert np.nanmean(correct(Oracle(scenes), None, changed, attribute)) == 0
    assert (
        np.nanmean(correct(Oracle(scenes), None, [alternatives(s, "shape")[-1] for s in scenes], "colour"))
        == 1
    )


def test_the_committed_reader_reads_drawn_pictures():
    x, scenes, _ = pictures(999_331, 256)
    right = {a: np.nanmean(correct(load(Reader(), "reader"), x, scenes, a)) for a in ATTRIBUTES}
    assert right["background"] > 0.99
    assert min(right.values()) > 0.9, right
