import copy
import os

import pytest

if not os.environ.get("CI"):  # in CI a missing diffusers is a failure
    pytest.importorskip("diffusers")
import torch

from qsched.affine import fuse
from qsched.trajectories import by_step, recorded, replayed
from tests.qsched.test_schedulers import make, sample


def run(scheduler, model, batches=(2, 3), **step):
    """Sample two batches one after the other, as a pipeline does."""
    for seed, size in enumerate(batches):
        scheduler.set_timesteps(4)
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(size, 4, 8, 8, generator=generator)
        for t in scheduler.timesteps:
            x = scheduler.step(model(x), t, x, generator=generator, return_dict=False, **step)[0]


def test_a_recorded_run_is_the_run():
    expected = sample(make("TCDScheduler", qsched=False), eta=0.3)
    scheduler = make("TCDScheduler", qsched=False)
    with recorded(scheduler) as visits:
        got = sample(scheduler, eta=0.3)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert [visit.index for visit in visits] == [0, 1, 2, 3]
    assert all(torch.equal(visit.after, x) for visit, x in zip(visits, expected, strict=True))
    assert torch.equal(visits[1].sample, expected[0])
    assert torch.equal(visits[1].output, 0.7 * expected[0])
    assert "step" not in vars(scheduler)  # as it was


def test_a_replayed_run_sees_the_recorded_samples():
    scheduler = make("TCDScheduler", qsched=False)
    with recorded(scheduler) as path:
        run(scheduler, lambda x: 0.7 * x, eta=0.3)
    with replayed(scheduler, path) as visits:
        run(scheduler, lambda x: 0.9 * x, eta=0.3)
    steps, others = by_step(path), by_step(visits)
    assert [len(x) for x, _ in steps] == [5] * 4
    for (x, output), (same, other) in zip(steps, others, strict=True):
        assert torch.equal(x, same)
        assert torch.allclose(output / 0.7, other / 0.9, rtol=1e-5, atol=1e-6)


def test_another_run_than_the_recorded_one_is_refused():
    scheduler = make("TCDScheduler", qsched=False)
    with recorded(scheduler) as path:
        run(scheduler, torch.tanh, batches=(2, 2))
    with replayed(scheduler, path[4:]), pytest.raises(ValueError, match="begins elsewhere"):
        run(scheduler, torch.tanh, batches=(2,))  # the first batch, where the second was recorded
    with replayed(scheduler, path), pytest.raises(ValueError, match=r"samples \(3, 4, 8, 8\)"):
        run(scheduler, torch.tanh, batches=(3,))
    with replayed(scheduler, path), pytest.raises(ValueError, match="8 steps in all"):
        run(scheduler, torch.tanh, batches=(2, 2, 2))


def test_a_fused_sampler_stays_fused():
    fused = fuse(make("TCDScheduler", c_x=[1.5] * 4), eta=0.3)
    expected = sample(copy.deepcopy(fused))
    with recorded(fused) as outer, recorded(fused) as inner:  # one within the other, too
        sample(fused)
    fused.set_timesteps(4)
    assert all(torch.equal(a, b) for a, b in zip(sample(fused), expected, strict=True))
    for visits in (outer, inner):
        assert all(torch.equal(visit.after, x) for visit, x in zip(visits, expected, strict=True))


def test_half_runs_are_refused():
    scheduler = make("TCDScheduler", qsched=False)
    with recorded(scheduler) as visits:
        run(scheduler, lambda x: x)
    with pytest.raises(ValueError, match="whole runs"):
        by_step(visits[:-1])
    with pytest.raises(ValueError, match="whole runs"):
        by_step([])
