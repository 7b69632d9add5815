import numpy as np
import pytest

from qsched.coefficients import Coefficients
from qsched.parametrisations import paper, released
from qsched.racing import race

TARGET = paper(4)([1.04, 0.97, 0.96, 1.03])
NOISE = np.random.default_rng(0).normal(size=64)


class Bowl:
    """Scores with a known best point; prompts differ a lot, and a little in what they prefer."""

    def __init__(self, target=TARGET, taste=0.0, stop_after=None):
        self.target, self.taste, self.stop_after = target, taste, stop_after
        self.drawn = []

    def render(self, coefficients, prompts):
        if self.stop_after is not None and len(self.drawn) >= self.stop_after:
            raise KeyboardInterrupt
        self.drawn.append((coefficients, prompts))
        return coefficients

    def score(self, c, prompts):
        d = np.subtract(c.c_x + c.c_eps, self.target.c_x + self.target.c_eps)
        slopes = np.random.default_rng(1).normal(size=64)[prompts.start : prompts.stop]
        return NOISE[prompts.start : prompts.stop] - (d @ d) + self.taste * slopes * d[0]

    @property
    def images(self):
        return sum(len(prompts) for _, prompts in self.drawn)


def raced(bowl, **options):
    return race(bowl.render, bowl.score, paper(4), **{"prompts": 64, "spread": 0.08, "races": 4, **options})


def test_it_comes_near_the_optimum_with_few_images():
    bowl = Bowl(taste=0.01)
    found = raced(bowl)
    best = found.best.coefficients
    start = sum((1 - t) ** 2 for t in TARGET.c_x + TARGET.c_eps)
    left = sum((a - t) ** 2 for a, t in zip(best.c_x + best.c_eps, TARGET.c_x + TARGET.c_eps, strict=True))
    assert left < 0.01 * start
    assert found.settings["images"] == bowl.images < 161 * 20  # the grid of Algorithm 1 as we run it
    assert len(found.best.scores) == len(found.identity.scores) == 64


def test_no_prompt_is_drawn_twice_for_a_candidate():
    bowl = Bowl()
    raced(bowl)
    seen = [(c, i) for c, prompts in bowl.drawn for i in prompts]
    assert len(seen) == len(set(seen))


def test_it_is_never_worse_than_where_it_began():
    start = [1.3, 1.3, 0.7, 0.7]  # far outside of the box, and the best
    bowl = Bowl(target=paper(4)(start))
    found = raced(bowl, starts=[start], spread=0.01)
    assert found.best.coefficients == paper(4)(start)
    identity = raced(Bowl(target=Coefficients.identity(4)))
    assert identity.best == identity.identity


def test_boxes_follow_a_top_that_is_outside_of_the_first():
    far = paper(4)([1.25, 1.2, 0.8, 1.01])
    found = raced(Bowl(target=far), spread=0.1, races=5).best
    assert paper(4).nearest(found.coefficients) == pytest.approx(paper(4).nearest(far), abs=0.02)


def test_a_good_start_is_the_centre_of_the_first_box():
    near = paper(4)([1.05, 0.96, 0.95, 1.04])
    begun = raced(Bowl(), starts=[paper(4).nearest(near)], races=1)
    assert begun.best.mean > raced(Bowl(), races=1).best.mean
    far = raced(Bowl(), starts=[[1.05, 0.96, 0.95, 1.04]], races=1, spread=1e-3, candidates=8)
    drawn = [paper(4).nearest(point.coefficients) for point in far.points[2:]]
    assert np.abs(np.subtract(drawn, [1.05, 0.96, 0.95, 1.04])).max() < 1.1e-3


def test_the_same_seed_is_the_same_search():
    assert raced(Bowl()) == raced(Bowl())
    assert raced(Bowl(), seed=1).points != raced(Bowl()).points


def test_an_interrupted_race_goes_on_from_its_journal(tmp_path):
    journal = tmp_path / "race.jsonl"
    with pytest.raises(KeyboardInterrupt):
        raced(Bowl(stop_after=30), journal=journal)
    with journal.open("a") as file:
        file.write('{"c_x": [1.0')  # the line that was being written
    again, whole = Bowl(), Bowl()
    assert raced(again, journal=journal) == raced(whole)
    assert 0 < len(again.drawn) < len(whole.drawn)
    with pytest.raises(ValueError, match="begun under other settings"):
        raced(Bowl(), journal=journal, seed=5)


def test_progress_tells_images_and_the_leader():
    seen = []
    found = raced(Bowl(), progress=lambda images, best: seen.append((images, best)))
    assert [images for images, _ in seen] == sorted({images for images, _ in seen})
    assert seen[-1] == (found.settings["images"], found.best)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"first": 65}, "first ≤ prompts"), ({"races": 0}, "a race"), ({"spread": 0}, "positive")],
)
def test_settings_that_do_not_fit_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        raced(Bowl(), **options)


def test_two_numbers_are_enough():
    bowl = Bowl(target=released(4)([1.05, 0.95]))
    found = race(bowl.render, bowl.score, released(4), prompts=32, spread=0.1)
    assert found.best.coefficients.c_x[0] == pytest.approx(1.05, abs=0.02)
    assert found.best.coefficients.c_x[-1] == 1
