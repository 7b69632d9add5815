import inspect
import os

import pytest

if not os.environ.get("CI"):  # in CI a missing diffusers is a failure
    pytest.importorskip("diffusers")
import diffusers
import torch

from qsched import schedulers
from qsched.coefficients import Coefficients

FAMILIES = [
    "TCDScheduler",
    "LCMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
]
PREDICTIONS = [(family, None) for family in FAMILIES] + [(family, "v_prediction") for family in FAMILIES[:-1]]
C_X, C_EPS = [1.012, 0.997, 1.0, 0.967], [0.955, 1.003, 1.0, 1.099]


def make(family, prediction=None, qsched=True, **settings):
    """A scheduler of the family with settings that are not its defaults, and 4 timesteps."""
    if family == "FlowMatchEulerDiscreteScheduler":
        settings = {"shift": 3.0} | settings
    else:
        settings = {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing"} | settings
    if prediction:
        settings["prediction_type"] = prediction
    cls = getattr(schedulers, f"QSched{family}") if qsched else getattr(diffusers, family)
    scheduler = cls(**settings)
    scheduler.set_timesteps(4)
    return scheduler


def sample(scheduler, dtype=torch.float32, start=0, **step):
    """The whole loop with a model that just damps its input; every sample on the way."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=generator).to(dtype)
    trajectory = []
    for t in scheduler.timesteps[start:]:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(0.7 * scaled, t, x, generator=generator, **step).prev_sample
        trajectory.append(x)
    return trajectory


def equal(one, other):
    return all(a.dtype is b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("family", "prediction"), PREDICTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("c", [None, [1.0] * 4])
def test_ones_are_the_parent_bit_for_bit(family, prediction, dtype, c):
    parent = sample(make(family, prediction, qsched=False), dtype)
    assert equal(sample(make(family, prediction, c_x=c, c_eps=c), dtype), parent)


@pytest.mark.parametrize(("family", "prediction"), PREDICTIONS)
def test_a_step_is_the_parents_step_on_scaled_inputs(family, prediction):
    ours = make(family, prediction, c_x=C_X, c_eps=C_EPS)
    parent = make(family, prediction, qsched=False)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for i, t in enumerate(parent.timesteps):
        for scheduler in (ours, parent):
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(x, t)
        a = ours.step(0.5 * x, t, x, generator=generators[0])
        b = parent.step(C_EPS[i] * 0.5 * x, t, C_X[i] * x, generator=generators[1])
        assert a.keys() == b.keys()
        for key in a:
            assert torch.allclose(a[key], b[key], rtol=1e-6, atol=1e-6), (i, key)
        x = b.prev_sample


def noise_of(x, seed=5):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.fixture
def pair():
    """A sample x_t and a model output, as float64 for the formulas written out."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, 4, 8, 8, generator=generator).double() for _ in range(2)]


def stepped(scheduler, i, eps, x, **step):
    """One step of the scheduler at index i, in float32."""
    t = scheduler.timesteps[i]
    if hasattr(scheduler, "scale_model_input"):
        scheduler.scale_model_input(x.float(), t)
    generator = torch.Generator().manual_seed(5)
    return scheduler.step(eps.float(), t, x.float(), generator=generator, return_dict=False, **step)[
        0
    ].double()


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("i", [0, 1, 3])
def test_tcd_is_equation_4(eta, i, pair):
    x, eps = pair
    scheduler = make("TCDScheduler", c_x=C_X, c_eps=C_EPS)
    t = int(scheduler.timesteps[i])
    s = int(scheduler.timesteps[i + 1]) if i < 3 else 0
    s_prime = int((1 - torch.tensor(eta)) * s)  # floor in float32, as the sampler does
    abar = scheduler.alphas_cumprod.double()
    alpha, sigma = abar.sqrt(), (1 - abar).sqrt()

    x0 = (C_X[i] * x - sigma[t] * C_EPS[i] * eps) / alpha[t]
    expected = alpha[s_prime] * x0 + sigma[s_prime] * C_EPS[i] * eps
    if eta > 0 and i < 3:  # the last step adds no noise
        expected = alpha[s] / alpha[s_prime] * expected + (1 - abar[s] / abar[s_prime]).sqrt() * noise_of(x)
    # α_t is 0.07 at the first step, so float32 rounding is magnified.
    assert torch.allclose(stepped(scheduler, i, eps, x, eta=eta), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("i", [0, 3])
def test_lcm_by_hand(i, pair):
    x, eps = pair
    scheduler = make("LCMScheduler", c_x=C_X, c_eps=C_EPS)
    t = int(scheduler.timesteps[i])
    abar = scheduler.alphas_cumprod.double()
    c_skip, c_out = scheduler.get_scalings_for_boundary_condition_discrete(t)

    x0 = (C_X[i] * x - (1 - abar[t]).sqrt() * C_EPS[i] * eps) / abar[t].sqrt()
    expected = c_out * x0 + c_skip * C_X[i] * x
    if i < 3:
        s = int(scheduler.timesteps[i + 1])
        expected = abar[s].sqrt() * expected + (1 - abar[s]).sqrt() * noise_of(x)
    assert torch.allclose(stepped(scheduler, i, eps, x), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("i", [0, 3])
@pytest.mark.parametrize("family", ["EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_euler_and_flow_by_hand(family, i, pair):
    x, eps = pair
    scheduler = make(family, c_x=C_X, c_eps=C_EPS)
    sigma = scheduler.sigmas.double()
    expected = C_X[i] * x + (sigma[i + 1] - sigma[i]) * C_EPS[i] * eps
    assert torch.allclose(stepped(scheduler, i, eps, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("i", [0, 3])
def test_euler_ancestral_by_hand(i, pair):
    x, eps = pair
    scheduler = make("EulerAncestralDiscreteScheduler", c_x=C_X, c_eps=C_EPS)
    sigma_t, sigma_s = scheduler.sigmas.double()[i : i + 2]
    up = (sigma_s**2 * (sigma_t**2 - sigma_s**2) / sigma_t**2).sqrt()
    down = (sigma_s**2 - up**2).clamp(min=0).sqrt()
    # c scales neither the noise nor its σ_up.
    expected = C_X[i] * x + (down - sigma_t) * C_EPS[i] * eps + up * noise_of(x)
    assert torch.allclose(stepped(scheduler, i, eps, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(family, dtype):
    """The products are never rounded to half precision, the result once."""
    half = make(family, c_x=C_X, c_eps=C_EPS)
    full = make(family, c_x=C_X, c_eps=C_EPS)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    t = half.timesteps[0]
    for scheduler in (half, full):
        scheduler.is_scale_input_called = True
    tuples = [
        scheduler.step(y, t, y, generator=torch.Generator().manual_seed(1), return_dict=False)
        for scheduler, y in [(half, x), (full, x.float())]
    ]
    for ours, reference in zip(*tuples, strict=True):
        assert torch.equal(ours, reference.to(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_step_index_counts_from_the_start_of_the_schedule(family):
    """Image-to-image starts in the middle: the first step taken uses the coefficients of its own index."""
    c = [1.1, 1.1, 1.0, 1.0]
    ours, parent = make(family, c_x=c, c_eps=c), make(family, qsched=False)
    for scheduler in (ours, parent):
        scheduler.set_begin_index(2)
    assert equal(sample(ours, start=2), sample(parent, start=2))
    # Without a begin index it is found from the timestep.
    assert equal(sample(make(family, c_x=c, c_eps=c), start=2), sample(make(family, qsched=False), start=2))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_number_of_steps_is_refused(family):
    scheduler = make(family, c_x=C_X, c_eps=C_EPS)
    with pytest.raises(ValueError, match="coefficients for 4 steps, but 5 timesteps"):
        scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="coefficients for 4 steps"):  # and stays refused
        sample(scheduler)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_number_of_steps_is_interpolated_if_asked(family, tmp_path):
    c = {"c_x": [1.1, 1.0], "c_eps": [0.9, 1.2]}
    ours = getattr(schedulers, f"QSched{family}")(**c, interpolate=True)
    ours.save_pretrained(tmp_path)
    ours = type(ours).from_pretrained(tmp_path)  # what was asked for is in the config
    three = type(ours).from_config(ours.config, c_x=[1.1, 1.05, 1.0], c_eps=[0.9, 1.05, 1.2])
    for scheduler in (ours, three):
        scheduler.set_timesteps(3)
    for a, b in zip(sample(ours), sample(three), strict=True):
        assert torch.allclose(a, b, rtol=1e-6)
    ours.set_timesteps(2)
    assert ours.coefficients == Coefficients(**c)  # the numbers themselves stay


@pytest.mark.parametrize(
    ("c", "message"),
    [
        ({"c_x": [1.0, 1.0], "c_eps": [1.0]}, "c_x has 2 steps, but c_eps has 1"),
        ({"c_x": [1.0, 0.0]}, "finite and positive"),
        ({"c_eps": [float("nan")]}, "finite and positive"),
        ({"c_x": []}, "at least one step"),
    ],
)
def test_bad_coefficients_are_refused(c, message):
    with pytest.raises(ValueError, match=message):
        schedulers.QSchedTCDScheduler(**c)


def test_one_of_the_two_may_be_left_out():
    assert schedulers.QSchedTCDScheduler(c_eps=[1.1, 1.2]).config.c_x == [1.0, 1.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_pipelines_see_the_parents_parameters(family):
    ours, parent = getattr(schedulers, f"QSched{family}"), getattr(diffusers, family)
    for method in ("step", "set_timesteps"):
        assert inspect.signature(getattr(ours, method)) == inspect.signature(getattr(parent, method))
    own = set(inspect.signature(ours.__init__).parameters)
    assert own == set(inspect.signature(parent.__init__).parameters) | {"c_x", "c_eps", "interpolate"}


@pytest.mark.parametrize("family", FAMILIES)
def test_twin_of_a_parent_keeps_its_config(family):
    parent = make(family, qsched=False)
    twin = getattr(schedulers, f"QSched{family}").from_config(parent.config, c_x=C_X, c_eps=C_EPS)
    assert {k: twin.config[k] for k in parent.config if not k.startswith("_")} == {
        k: v for k, v in parent.config.items() if not k.startswith("_")
    }
    twin.set_timesteps(4)
    assert equal(sample(twin), sample(make(family, c_x=C_X, c_eps=C_EPS)))


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded(family, tmp_path):
    before = make(family, c_x=tuple(C_X), c_eps=C_EPS)
    before.save_pretrained(tmp_path)
    after = type(before).from_pretrained(tmp_path)
    assert (after.config.c_x, after.config.c_eps) == (C_X, C_EPS)
    after.set_timesteps(4)
    assert equal(sample(after), sample(before))


def test_pipeline_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    pipeline = diffusers.DDPMPipeline(unet, make("LCMScheduler", c_x=C_X, c_eps=C_EPS))
    pipeline.save_pretrained(tmp_path)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert type(loaded.scheduler) is schedulers.QSchedLCMScheduler
    images = []
    for one in (pipeline, loaded):
        one.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        images.append(one(num_inference_steps=4, generator=generator, output_type="np").images)
    assert images[0] == pytest.approx(images[1], abs=1e-5)


def test_flow_matching_takes_sigmas_and_mu():
    settings = {"use_dynamic_shifting": True}
    ours = schedulers.QSchedFlowMatchEulerDiscreteScheduler(c_x=C_X, c_eps=C_EPS, **settings)
    parent = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    for scheduler in (ours, parent):
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=0.6)
    assert torch.equal(ours.sigmas, parent.sigmas)
