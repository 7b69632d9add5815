import json

import numpy as np
import pytest

from qsched.coefficients import Coefficients
from qsched.search import search

TARGET = Coefficients.from_ends(1.025, 0.975, 0.95, 1.0, steps=4)


def bowl(c, target=TARGET):
    """Per-prompt scores with a known best point; the prompts differ by a constant."""
    distance = sum((a - b) ** 2 for a, b in zip(c.c_x + c.c_eps, target.c_x + target.c_eps, strict=True))
    return 1.5 - distance + np.array([-0.1, 0.0, 0.1])


class Renderer:
    """Hands the coefficients through as the images, and remembers them."""

    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def __call__(self, coefficients):
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append(coefficients)
        return coefficients


def test_finds_the_optimum_of_a_bowl():
    render = Renderer()
    result = search(render, bowl, steps=4)
    assert result.best.coefficients == TARGET
    assert result.best.mean == pytest.approx(1.5)
    assert len(result.points) == len(render.calls) == len(set(render.calls)) == 161
    assert result.settings == {"grid": [0.95, 1.0, 1.05], "refine": True, "evaluations": 161, "steps": 4}


def test_the_identity_comes_first():
    render = Renderer()
    result = search(render, bowl, steps=4, grid=(0.9, 1.1), refine=False)
    assert render.calls[0] == result.identity.coefficients == Coefficients.identity(4)
    assert result.points[0] == result.identity
    assert len(result.points) == 1 + 2**4  # it is not on this grid


def test_the_identity_can_win():
    result = search(
        Renderer(), lambda c: bowl(c, Coefficients.identity(2)), steps=2, grid=(0.9, 1.1), refine=False
    )
    assert result.best == result.identity


def test_equal_scores_go_to_the_point_nearest_to_the_identity():
    one = Coefficients.identity(1)
    assert search(Renderer(), lambda c: [1.0, 2.0], steps=1).best.coefficients == one
    others = search(Renderer(), lambda c: [float(c != one)], steps=1, grid=(0.7, 1.1, 1.2), refine=False)
    assert others.best.coefficients == Coefficients((1.1,), (1.1,))


def test_one_step_has_no_ends_to_vary():
    result = search(Renderer(), lambda c: bowl(c, Coefficients((0.975,), (1.05,))), steps=1)
    assert result.best.coefficients == Coefficients((0.975,), (1.05,))
    assert len(result.points) == 9 + 8


def test_progress_counts_every_point():
    seen = []
    result = search(Renderer(), bowl, steps=4, progress=lambda *report: seen.append(report))
    assert [done for done, _, _ in seen] == list(range(1, 162))
    assert {total for _, total, _ in seen} == {161}
    assert seen[-1][2] == result.best
    bests = [best.mean for _, _, best in seen]
    assert bests == sorted(bests)


def test_an_interrupted_search_goes_on_from_its_journal(tmp_path):
    journal, settings = tmp_path / "search.jsonl", {"model": "w4a8", "seed": 0}
    with pytest.raises(KeyboardInterrupt):
        search(Renderer(stop_after=100), bowl, steps=4, settings=settings, journal=journal)
    journal.write_text(journal.read_text() + '{"c_x": [1.0, 1.')  # the line that was being written
    render = Renderer()
    result = search(render, bowl, steps=4, settings=settings, journal=journal)
    assert len(render.calls) == 61
    assert result == search(Renderer(), bowl, steps=4, settings=settings)
    # A third run finds everything there, and writes nothing.
    before, render = journal.read_bytes(), Renderer()
    assert search(render, bowl, steps=4, settings=settings, journal=journal) == result
    assert (render.calls, journal.read_bytes()) == ([], before)


def test_a_journal_of_another_search_is_refused(tmp_path):
    journal = tmp_path / "search.jsonl"
    search(Renderer(), bowl, steps=4, refine=False, settings={"seed": 0}, journal=journal)
    with pytest.raises(ValueError, match="begun under other settings"):
        search(Renderer(), bowl, steps=4, settings={"seed": 1}, journal=journal)


def test_another_file_is_not_taken_for_a_journal(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match=r"begun under other settings; .* They were: mine"):
        search(Renderer(), bowl, steps=4, journal=tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("line", ["{}", "text", json.dumps({"c_x": [1], "c_eps": [-1], "scores": [1]})])
def test_a_damaged_journal_is_refused(tmp_path, line):
    journal = tmp_path / "search.jsonl"
    journal.write_text(f'{{"steps": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=r"search\.jsonl:2: not a point"):
        search(Renderer(), bowl, steps=1, journal=journal)


@pytest.mark.parametrize("scores", [[float("nan")], [], 1.0, [[1.0]]])
def test_bad_scores_are_refused(scores):
    with pytest.raises(ValueError, match="one finite number a prompt"):
        search(Renderer(), lambda _: scores, steps=2)


def test_scores_of_other_prompts_are_refused():
    with pytest.raises(ValueError, match="returned 1 numbers, but 2"):
        search(Renderer(), lambda c: [1.0] * (2 if c == Coefficients.identity(2) else 1), steps=2)


def test_a_grid_of_one_value_is_refused():
    with pytest.raises(ValueError, match="two values"):
        search(Renderer(), bowl, steps=2, grid=(1.0, 1.0))
