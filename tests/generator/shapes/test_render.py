import torch

from generator.shapes.render import pictures, render
from generator.shapes.scenes import COLOURS, SHAPES, Look, Scene


def draw(*looks, places, background="white", kind="big"):
    scene = Scene(kind, Look(background), looks, places)
    return render([scene], torch.Generator().manual_seed(0))[0]


def test_a_seed_gives_the_same_pictures_and_another_seed_others():
    first, scenes, captions = pictures(5, 8)
    again, _, _ = pictures(5, 8)
    assert first.shape == (8, 3, 64, 64)
    assert torch.equal(first, again)
    assert 0 <= first.min() <= first.max() <= 1
    assert len(scenes) == len(captions) == 8
    assert not torch.equal(first, pictures(6, 8)[0])


def test_each_shape_has_about_the_area_geometry_gives_it():
    # In units of the squared radius: pi r² for the disc, 4 r² for the square …
    area = {
        "circle": 3.1416 * 0.96**2, "square": 1.68**2, "ring": 3.1416 * (0.98**2 - 0.46**2),
        "cross": 2 * 0.64 * 1.92 - 0.64**2, "diamond": 2 * 0.78 * 1.08,
    }  # fmt: skip
    for shape in SHAPES:
        picture = draw(Look("blue", "plain", shape), places=((0.0, 0.0, 0.7),))
        covered = (picture[0] < 0.55).float().sum().item() / (32 * 0.7) ** 2
        if shape in area:
            assert abs(covered - area[shape]) < 0.05 * area[shape], shape
        else:
            assert 0.9 < covered < 2.8, shape


def test_colours_land_where_the_scene_puts_them():
    for name, rgb in COLOURS.items():
        other = "black" if name == "white" else "white"
        picture = draw(Look(name, "plain", "circle"), places=((0.0, -0.5, 0.4),), background=other)
        assert (picture[:, 14:18, 30:34].mean((1, 2)) - torch.tensor(rgb)).abs().max() < 0.15
        assert (picture[:, 60:, :].mean((1, 2)) - torch.tensor(COLOURS[other])).abs().max() < 0.2


def test_the_first_object_lies_on_top():
    looks = (Look("red", "plain", "circle"), Look("blue", "plain", "square"))
    picture = draw(*looks, places=((0.0, 0.0, 0.3), (0.0, 0.0, 0.8)), kind="inside")
    centre, around = picture[:, 32, 32], picture[:, 32, 12]
    assert centre[0] > 0.6 > centre[2]
    assert around[2] > 0.6 > around[0]
