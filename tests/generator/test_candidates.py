import dataclasses

import pytest
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler

from generator.candidates import Candidates
from generator.methods import all_methods
from generator.methods.qsched import set_scheduler
from generator.models import MODELS
from generator.prompts import shapes_prompts
from generator.sweep import render
from qsched.coefficients import Coefficients

BASE, PROMPTS = MODELS["shapes"], shapes_prompts("heldout", 6)
ONE, OTHER = Coefficients.identity(4), Coefficients.from_ends(0.95, 1.02, 1.04, 0.97, 4)


def pipeline(method="w4a4", scheduler=None):
    loaded = BASE.load()
    all_methods()[method].apply(loaded, BASE)
    if scheduler:
        loaded.scheduler = scheduler.from_config(loaded.scheduler.config)
    return loaded


def pictures(loaded, base, coefficients, prompts):
    """As a run draws them, with nothing remembered."""
    scheduler = loaded.scheduler
    set_scheduler(loaded, coefficients)
    drawn = render(loaded, base, prompts)
    loaded.scheduler = scheduler
    return drawn


@pytest.mark.parametrize(
    ("base", "method", "scheduler"),
    [
        (BASE, "w4a4", None),
        (BASE, "s2p-w4a8", None),  # its layers look at the timestep of the backbone's call
        (dataclasses.replace(BASE, arguments={}), "fp16", LCMScheduler),
        (dataclasses.replace(BASE, arguments={}), "fp16", EulerDiscreteScheduler),
        (dataclasses.replace(BASE, guidance=3.0), "fp16", None),  # two rows a prompt
    ],
    ids=["w4a4", "by step", "lcm", "euler", "guided"],
)
def test_the_pictures_are_those_of_a_whole_run(base, method, scheduler):
    loaded = pipeline(method, scheduler)
    own, forward = loaded.scheduler, loaded.unet.forward
    draw = Candidates(loaded, base, PROMPTS)
    for coefficients, some in [(ONE, range(2)), (OTHER, range(2)), (OTHER, range(2, 6))]:
        whole = pictures(loaded, base, coefficients, PROMPTS[some.start : some.stop])
        assert torch.equal(draw(coefficients, some), whole)
    if method == "fp16":  # other batch sizes round otherwise, and on a quantization grid a little is much
        assert torch.allclose(draw(ONE), pictures(loaded, base, ONE, PROMPTS), atol=1e-4)
    assert loaded.scheduler is own
    assert loaded.unet.forward == forward


def test_texts_and_the_first_evaluation_are_computed_once():
    loaded, rows, texts = pipeline("fp16"), [], []
    loaded.unet.conv_in.register_forward_hook(lambda module, given, _: rows.append(len(given[0])))
    loaded.text_encoder.register_forward_hook(lambda *_: texts.append(1))
    draw = Candidates(loaded, BASE, PROMPTS)
    for coefficients in (ONE, OTHER, Coefficients.from_ends(1.1, 1.0, 1.0, 1.0, 4)):
        draw(coefficients)
    assert sum(rows) == draw.evaluations == len(PROMPTS) * (1 + 3 * (BASE.steps - 1))
    assert len(texts) == 1


def test_an_interrupted_drawing_leaves_the_pipeline_as_it_was():
    loaded = pipeline("fp16")
    own, forward = loaded.scheduler, loaded.unet.forward

    def interrupted(*_):
        raise KeyboardInterrupt

    handle = loaded.unet.mid_block.register_forward_pre_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        Candidates(loaded, BASE, PROMPTS)(OTHER)
    handle.remove()
    assert (loaded.scheduler, loaded.unet.forward) == (own, forward)
