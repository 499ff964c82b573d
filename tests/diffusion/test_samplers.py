"""Tests of samplers against published steps and trajectories."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.diffusion import cases
from weatherlib.diffusion import forward, samplers, sampling

_TRAJECTORIES = {
    "ddim10": (samplers.ddim, {"steps": 10}),
    "ddim50": (samplers.ddim, {"steps": 50}),
    "ddim10_linspace": (samplers.ddim, {"steps": 10, "spacing": "linspace"}),
    "ddim10_trailing": (samplers.ddim, {"steps": 10, "spacing": "trailing"}),
    "dpmpp1_10": (samplers.dpm_solver, {"steps": 10, "order": 1}),
    "dpmpp2m_10": (samplers.dpm_solver, {"steps": 10}),
    "dpmpp2m_20": (samplers.dpm_solver, {"steps": 20}),
    "dpmpp3_12": (samplers.dpm_solver, {"steps": 12, "order": 3}),
}


def _assert_near(found, expected, tolerance):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def _replay(sampler, outputs):
    """Returns a denoiser that says what was said at each step, whatever the field."""
    place = {int(t): i for i, t in enumerate(sampler.timesteps)}
    numbers = np.full(sampler.schedule.steps, -1)
    numbers[list(place)] = list(place.values())

    def denoise(x, t):
        del x
        return jnp.asarray(outputs)[jnp.asarray(numbers)[t[0]]]

    return denoise


@pytest.mark.parametrize("name", _TRAJECTORIES)
def test_the_published_trajectory_comes_out(name, strict_numerics):
    expected = cases.arrays("samplers")
    make, options = _TRAJECTORIES[name]
    sampler = make(cases.linear(), **options)
    timesteps = expected[f"{name}_timesteps"]
    np.testing.assert_array_equal(sampler.timesteps, timesteps)
    whole = expected[f"{name}_x"]
    denoise = _replay(sampler, expected[f"{name}_eps"])
    found = jax.jit(
        lambda start: sampling.sample(
            sampler, denoise, start, keep=range(sampler.steps + 1)
        )
    )(jnp.asarray(whole[0]))
    for reached, wanted in zip(found.kept, whole):
        _assert_near(reached, wanted, tolerances.DIFFUSION_SAMPLER)
    _assert_near(found.x, whole[-1], tolerances.DIFFUSION_SAMPLER)
    sampling.check(found, sampler)


def _only(sampler, t):
    """Returns the sampler with just its step from a step of noise."""
    index = np.flatnonzero(sampler.timesteps == t)
    tables = ("timesteps", "of_x", "of_noise", "of_x0", "of_random")
    cut = {name: getattr(sampler, name)[index] for name in tables}
    return dataclasses.replace(sampler, **cut)


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("ddpm_fixed_small_prev", samplers.ancestral, {}),
        ("ddpm_fixed_large_prev", samplers.ancestral, {"variance": "large"}),
        ("ddpm_clip_prev", samplers.ancestral, {"clip": 1.0}),
        ("ddim_eta0_prev", samplers.ddim, {"steps": 1000}),
        ("ddim_eta05_prev", samplers.ddim, {"steps": 1000, "eta": 0.5}),
    ],
)
def test_the_published_single_steps_come_out(name, make, options):
    expected = cases.arrays("samplers")
    sampler = make(cases.linear(), **options)
    for i, t in enumerate(expected["step_t"]):
        output, x = (jnp.asarray(expected[f"step_{n}"][i]) for n in ("eps", "x"))
        noises = jnp.asarray(expected["step_noise"][i])[None]
        found = sampling.sample(
            _only(sampler, t), lambda _, __, output=output: output, x, noises=noises
        )
        tolerance = tolerances.DIFFUSION_SAMPLER
        if name.startswith("ddpm"):
            tolerance = tolerances.DIFFUSION_ANCESTRAL
            if t <= 2:
                tolerance = tolerances.DIFFUSION_ANCESTRAL_LAST_STEPS
        _assert_near(found.x, expected[name][i], tolerance)


def test_one_step_for_members_at_different_noise_is_the_ancestral_one():
    expected = cases.arrays("samplers")
    t = jnp.asarray(expected["step_t"])
    for name, options in (
        ("ddpm_fixed_small_prev", {}),
        ("ddpm_clip_prev", {"clip": 1.0}),
    ):
        found = forward.denoising_step(
            cases.linear(),
            *(jnp.asarray(expected[f"step_{n}"]) for n in ("eps", "x")),
            t,
            jnp.asarray(expected["step_noise"]),
            **options,
        )
        _assert_near(found[:4], expected[name][:4], tolerances.DIFFUSION_ANCESTRAL)
        _assert_near(
            found[4:], expected[name][4:], tolerances.DIFFUSION_ANCESTRAL_LAST_STEPS
        )


_EVERY = {
    "ancestral": lambda s, **o: samplers.ancestral(s, **o),
    "ancestral in 100": lambda s, **o: samplers.ancestral(s, 100, **o),
    "large variance": lambda s, **o: samplers.ancestral(s, variance="large", **o),
    "ddim": lambda s, **o: samplers.ddim(s, 40, **o),
    "ddim with noise": lambda s, **o: samplers.ddim(s, 100, eta=1.0, **o),
    "ddim visited": lambda s, **o: samplers.ddim(
        s, 30, spacing="linspace", next_step="visited", **o
    ),
    "solver 1": lambda s, **o: samplers.dpm_solver(s, 40, order=1, **o),
    "solver 2": lambda s, **o: samplers.dpm_solver(s, 20, **o),
    "solver 2 heun": lambda s, **o: samplers.dpm_solver(s, 20, rule="heun", **o),
    "solver 3": lambda s, **o: samplers.dpm_solver(s, 20, order=3, **o),
    "trailing solver": lambda s, **o: samplers.dpm_solver(
        s, 20, spacing="trailing", **o
    ),
    "solver even in ratios": lambda s, **o: samplers.dpm_solver(
        s, 20, spacing="log_snr", **o
    ),
    "ddim even in ratios": lambda s, **o: samplers.ddim(s, 40, spacing="log_snr", **o),
    "leading solver": lambda s, **o: samplers.dpm_solver(s, 40, spacing="leading", **o),
    "solver 1 with noise": lambda s, **o: samplers.dpm_solver(
        s, 100, order=1, stochastic=True, **o
    ),
    "solver 2 with noise": lambda s, **o: samplers.dpm_solver(
        s, 50, stochastic=True, **o
    ),
    "heun with noise": lambda s, **o: samplers.dpm_solver(
        s, 50, stochastic=True, rule="heun", **o
    ),
}


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        *((name, "epsilon") for name in _EVERY),
        *(("ddim with noise", p) for p in ("x0", "v")),
        *(("solver 2", p) for p in ("x0", "v")),
    ],
)
def test_every_sampler_draws_from_the_distribution(name, prediction, strict_numerics):
    """The best denoiser of a normal distribution is known."""
    schedule = cases.linear()
    mean, spread = jnp.float32(0.4), jnp.float32(0.5)
    denoise = cases.gaussian_denoiser(schedule, mean, spread, prediction)
    sampler = _EVERY[name](schedule, prediction=prediction)
    key = jax.random.key(3)
    start = sampling.first_noise(key, (4000, 1))
    found = jax.jit(lambda x: sampling.sample(sampler, denoise, x, key))(start)
    assert abs(float(found.x.mean()) - 0.4) < 0.03
    assert abs(float(found.x.std()) - 0.5) < 0.04


def test_higher_orders_come_nearer_to_the_exact_way():
    schedule = cases.linear()
    denoise = cases.gaussian_denoiser(schedule, jnp.float32(0.4), jnp.float32(0.5))
    start = sampling.first_noise(jax.random.key(0), (64, 2))

    def end(sampler):
        return np.asarray(sampling.sample(sampler, denoise, start).x)

    exact = end(samplers.dpm_solver(schedule, 600, order=2))
    errors = [
        np.abs(end(samplers.dpm_solver(schedule, 16, order=order)) - exact).max()
        for order in (1, 2)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_the_solver_of_first_order_is_ddim():
    schedule = cases.linear()
    denoise = cases.gaussian_denoiser(schedule, jnp.float32(0.4), jnp.float32(0.5))
    start = sampling.first_noise(jax.random.key(0), (8, 2))
    first = samplers.dpm_solver(schedule, 10, order=1, spacing="trailing")
    ddim = samplers.ddim(schedule, 10, spacing="trailing")
    found, expected = (sampling.sample(s, denoise, start).x for s in (first, ddim))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_truncated_steps_do_not_lead_from_noise_to_a_field_and_spaced_ones_do():
    schedule = cases.prediff()
    denoise = cases.gaussian_denoiser(schedule, jnp.float32(3.0), jnp.float32(0.1))
    key = jax.random.key(1)
    start = sampling.first_noise(key, (500, 1))
    ends = {
        spacing: sampling.sample(
            samplers.ancestral(schedule, 20, spacing=spacing), denoise, start, key
        ).x
        for spacing in ("truncated", "leading", "trailing")
    }
    assert abs(float(ends["truncated"].mean()) - 3) > 1
    assert abs(float(ends["leading"].mean()) - 3) < 0.05
    assert abs(float(ends["trailing"].mean()) - 3) < 0.05


@pytest.mark.parametrize("spread", [0.1, 0.4])
def test_even_ratios_keep_small_differences_that_even_times_lose(spread):
    """Samples are proportional to their first noise, so two of them tell all."""
    schedule = cases.prediff()
    denoise = cases.gaussian_denoiser(schedule, jnp.float32(0), jnp.float32(spread))

    def kept(spacing):
        sampler = samplers.dpm_solver(schedule, 20, spacing=spacing)
        ends = sampling.sample(sampler, denoise, jnp.array([[1.0], [-1.0]])).x
        return float(ends[0, 0] - ends[1, 0]) / (2 * spread)

    assert kept("log_snr") == pytest.approx(1, abs=0.02)
    assert kept("linspace") < kept("log_snr")
    if spread == 0.1:
        assert kept("linspace") < 0.75


def test_temperature_scales_the_noise():
    schedule = cases.linear()
    hot, cold = (samplers.ancestral(schedule, temperature=t) for t in (1.0, 0.5))
    np.testing.assert_allclose(cold.of_random, hot.of_random / 2)
    assert not samplers.ancestral(schedule, temperature=0.0).is_random


def test_a_clipped_field_stays_within_bounds():
    schedule = cases.linear()
    denoise = cases.gaussian_denoiser(schedule, jnp.float32(2.0), jnp.float32(0.5))
    key = jax.random.key(0)
    start = sampling.first_noise(key, (50, 2))
    for make in (samplers.ancestral, samplers.ddim, samplers.dpm_solver):
        sampler = make(schedule, clip=0.5)
        assert float(sampling.sample(sampler, denoise, start, key).x.max()) < 0.51


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (samplers.ancestral, {"variance": "tiny"}, "variance 'tiny' is neither"),
        (samplers.ancestral, {"temperature": -1.0}, "temperature must not be neg"),
        (samplers.ancestral, {"prediction": "eps"}, "PreDiff calls"),
        (samplers.ancestral, {"clip": 0.0}, "clip must be positive"),
        (samplers.ancestral, {"steps": 1001}, "1001 steps do not fit"),
        (samplers.ddim, {"eta": 2.0}, "eta must be in"),
        (samplers.ddim, {"next_step": "far"}, "next_step 'far' is neither"),
        (samplers.ddim, {"spacing": "even"}, "spacing 'even' is unknown"),
        (samplers.dpm_solver, {"order": 4}, "order must be 1, 2 or"),
        (samplers.dpm_solver, {"order": 3, "stochastic": True}, "order must be"),
        (samplers.dpm_solver, {"rule": "ralston"}, "rule 'ralston' is neither"),
        (samplers.dpm_solver, {"spacing": "truncated"}, "is not leading, linspace"),
        (samplers.dpm_solver, {"steps": 1000}, "steps must be in 1..999"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(cases.linear(), **options)
