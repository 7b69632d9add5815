import copy

import pytest
import torch
from torch import nn

from generator.latents import latent_dataset
from generator.models import MODELS
from generator.prompts import noise_seed, shapes_prompts
from generator.sweep import render
from qsched.trajectories import by_step, recorded

SHAPES = MODELS["shapes"]


@pytest.fixture(scope="module")
def pipeline():
    return SHAPES.load()


def test_all_steps_are_what_full_precision_sees(pipeline):
    prompts = shapes_prompts("calibration", 3)
    found = latent_dataset(pipeline, SHAPES, prompts, per_prompt=None)
    with recorded(pipeline.scheduler) as visits:
        render(pipeline, SHAPES, prompts)
    assert len(found) == 12
    assert found.timesteps == tuple(pipeline.scheduler.timesteps.tolist())
    samples = by_step(visits)
    for step, t in enumerate(found.timesteps):
        call = found.batch(torch.nonzero(found.timestep == t).flatten())
        assert torch.equal(call["sample"], samples[step][0])
        with torch.no_grad():
            assert torch.allclose(pipeline.unet(**call)[0], samples[step][1], atol=1e-4)


def test_one_step_of_a_prompt_is_drawn_at_random_and_runs_end_there(pipeline):
    prompts = shapes_prompts("calibration", 40)
    calls = []
    handle = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    found = latent_dataset(pipeline, SHAPES, prompts)
    handle.remove()
    assert len(found) == 40
    assert {float(t) for t in found.timestep} == set(found.timesteps)
    first = torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(noise_seed(prompts[0].prompt_id)))
    seen_first = (found.rows[("sample",)] == first).all((1, 2, 3)).any()
    wanted = torch.randperm(4, generator=torch.Generator().manual_seed(0))[0]
    assert bool(seen_first) == (wanted == 0)
    # Two looks at prompts, 4 steps each; then batches of 32 and 8 prompts by their last steps, and the last
    # call of a batch never returns.
    assert len(calls) < 4 + 4 + 3 + 3 + 1


class Guided:
    """A pipeline that shows its backbone each prompt twice, and arguments of every kind."""

    class Backbone(nn.Module):
        def forward(self, hidden_states, timestep, img_ids=None, added=None, return_dict=True):
            assert added["text"].shape == (len(hidden_states), 5)
            assert img_ids.shape == (12, 3)
            return (0.5 * hidden_states,)

    def __init__(self):
        self.transformer = self.Backbone()

    def __call__(self, prompt, num_inference_steps, generator, **_):
        x = torch.stack([torch.randn(12, 4, generator=g) for g in generator])
        text = torch.tensor([float(len(t)) for t in prompt])[:, None].expand(-1, 5)
        ids = torch.arange(36.0).view(12, 3)
        for i in range(num_inference_steps):
            both, t = torch.cat([x, x + 100]), torch.tensor(1 - i / num_inference_steps).expand(2 * len(x))
            added = {"text": torch.cat([text, -text]), "scale": 3.5}
            x = x - self.transformer(both, t, img_ids=ids, added=added)[0][: len(x)]
        return type("Output", (), {"images": x})


def test_guidance_and_arguments_that_samples_share():
    """12 samples in all, as many as there are ids: what grows with the prompts is not shared."""
    base = copy.copy(SHAPES)
    object.__setattr__(base, "backbone", "transformer")
    object.__setattr__(base, "arguments", {})
    found = latent_dataset(Guided(), base, shapes_prompts("calibration", 3), per_prompt=2)
    assert len(found) == 12
    assert found.timesteps == (1.0, 0.75, 0.5, 0.25)
    call = found.batch(torch.tensor([0, 5, 11]))
    assert call["hidden_states"].shape == (3, 12, 4)
    assert torch.equal(call["img_ids"], torch.arange(36.0).view(12, 3))
    assert call["added"]["scale"] == 3.5
    assert torch.equal(call["added"]["text"][:, 0] > 0, call["hidden_states"].mean((1, 2)) < 50)
    assert call["timestep"].shape == (3,)


@pytest.mark.parametrize("count", [0, 5])
def test_more_steps_than_there_are_are_refused(pipeline, count):
    with pytest.raises(ValueError, match=f"{count} steps of a prompt asked for, but the sampler has 4"):
        latent_dataset(pipeline, SHAPES, shapes_prompts("calibration", 2), per_prompt=count)
