"""Tests of the loop that runs samplers, and of guidance."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion import cases
from weatherlib.diffusion import guidance, samplers, sampling

SCHEDULE = cases.prediff(steps=200)
DENOISE = cases.gaussian_denoiser(SCHEDULE, jnp.float32(0.4), jnp.float32(0.5))
ANCESTRAL = samplers.ancestral(SCHEDULE)
SOLVER = samplers.dpm_solver(SCHEDULE, 12)


def _start(members=4, key=0):
    return sampling.first_noise(jax.random.key(key), (members, 3, 2))


def test_a_key_repeats_its_samples_and_another_gives_others():
    run = jax.jit(lambda x, key: sampling.sample(ANCESTRAL, DENOISE, x, key).x)
    start = _start()
    first, again, other = (run(start, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_raw_keys_are_keys():
    start = _start()
    found = sampling.sample(ANCESTRAL, DENOISE, start, jax.random.PRNGKey(1))
    expected = sampling.sample(ANCESTRAL, DENOISE, start, jax.random.key(1))
    np.testing.assert_array_equal(found.x, expected.x)


def test_a_member_does_not_depend_on_how_many_are_drawn_at_once():
    run = jax.jit(lambda x, key: sampling.sample(ANCESTRAL, DENOISE, x, key).x)
    key = jax.random.key(5)
    keys = sampling.member_keys(key, 0, 5)
    whole = run(sampling.first_noise(keys, (5, 3, 2)), keys)
    later = sampling.member_keys(key, 3, 2)
    np.testing.assert_array_equal(
        jax.random.key_data(later), jax.random.key_data(keys[3:])
    )
    part = run(sampling.first_noise(later, (2, 3, 2)), later)
    np.testing.assert_allclose(part, whole[3:], atol=1e-6)


def test_given_noises_are_those_that_a_key_would_draw():
    key = jax.random.key(5)
    start = _start()
    noises = jnp.stack(
        [
            jax.random.normal(jax.random.fold_in(key, i + 1), start.shape)
            for i in range(SCHEDULE.steps)
        ]
    )
    found = sampling.sample(ANCESTRAL, DENOISE, start, noises=noises)
    drawn = sampling.sample(ANCESTRAL, DENOISE, start, key)
    np.testing.assert_allclose(found.x, drawn.x, atol=1e-5)


def test_noisy_fields_are_kept_after_the_steps_asked_for():
    start = _start()
    every = sampling.sample(SOLVER, DENOISE, start, keep=range(13)).kept
    some = sampling.sample(SOLVER, DENOISE, start, keep=(12, 0, 5))
    np.testing.assert_array_equal(every[0], start)
    np.testing.assert_allclose(some.kept, every[np.array([12, 0, 5])], atol=1e-6)
    np.testing.assert_array_equal(some.kept[0], some.x)
    assert sampling.sample(SOLVER, DENOISE, start).kept.shape == (0, *start.shape)


def test_it_runs_under_vmap_and_grad(strict_numerics):
    start = _start()

    def loss(x):
        return (sampling.sample(SOLVER, DENOISE, x).x ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(start)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-3
    apart = jax.vmap(lambda x: sampling.sample(SOLVER, DENOISE, x[None]).x[0])(start)
    np.testing.assert_allclose(
        apart, sampling.sample(SOLVER, DENOISE, start).x, atol=1e-6
    )


def test_fields_may_be_bfloat16():
    start = _start().astype(jnp.bfloat16)
    found = sampling.sample(SOLVER, DENOISE, start).x
    assert found.dtype == jnp.bfloat16
    wide = sampling.sample(SOLVER, DENOISE, start.astype(jnp.float32)).x
    assert np.abs(found.astype(np.float32) - wide).max() < 0.1


def test_progress_is_told_after_each_step():
    told = []
    run = jax.jit(
        lambda x: sampling.sample(
            SOLVER, DENOISE, x, progress=lambda done, total: told.append((done, total))
        )
    )
    jax.block_until_ready(run(_start()))
    jax.effects_barrier()
    assert sorted(told) == [(i, 12) for i in range(1, 13)]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((ANCESTRAL,), {}, "draws noise: give a key"),
        ((ANCESTRAL,), {"noises": jnp.zeros((3, 4, 3, 2))}, r"shape \(200, 4, 3, 2\)"),
        ((SOLVER,), {"keep": (1, 1)}, "keep must be different numbers in 0..12"),
        ((SOLVER,), {"keep": (13,)}, "keep must be different numbers in 0..12"),
        ((ANCESTRAL, jax.random.split(jax.random.key(0))), {}, "each of 4 fields"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, message):
    sampler, *rest = arguments
    with pytest.raises(ValueError, match=message):
        sampling.sample(sampler, DENOISE, _start(), *rest, **options)


def test_a_denoiser_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 3, 2\), but returned \(4, 3\)"):
        sampling.sample(SOLVER, lambda x, t: x[..., 0], _start())


def test_a_denoiser_that_is_no_number_is_reported():
    found = sampling.sample(SOLVER, lambda x, t: x * jnp.nan, _start())
    with pytest.raises(ValueError, match="the samples are not finite: the denoiser"):
        sampling.check(found, SOLVER)


def _mean_energy(x, t, target):
    """Returns how far the mean of each member is off."""
    del t
    return 0.5 * (x.mean(range(1, x.ndim)) - target) ** 2 * x[0].size


def _push(x, t, target):
    del t
    return (x * target).sum()


def _moved(sampler, strength):
    """Returns how far a constant push moves the mean of the samples."""
    key = jax.random.key(1)
    start = _start(300)
    push = guidance.Guidance(
        energy=_push,
        scale=0.02 if strength == "deviation" else 0.5,
        target=-jnp.ones(()),
        strength=strength,
    )
    run = jax.jit(functools.partial(sampling.sample, sampler, DENOISE))
    none = dataclasses.replace(push, scale=0.0)
    pushed, free = (run(start, key, guidance=g).x for g in (push, none))
    return float((pushed - free).mean())


@pytest.mark.parametrize("strength", ["deviation", "variance"])
def test_guidance_moves_samples_alike_whatever_the_sampler_and_its_steps(strength):
    reference = _moved(ANCESTRAL, strength)
    assert reference > 0.05
    for other in (
        samplers.ancestral(SCHEDULE, 50),
        samplers.ddim(SCHEDULE, 40),
        SOLVER,
    ):
        assert abs(_moved(other, strength) / reference - 1) < 0.25


@pytest.mark.parametrize(
    ("on", "through"), [("noisy", True), ("denoised", True), ("denoised", False)]
)
def test_guidance_brings_the_mean_nearer_to_what_is_known(on, through):
    key = jax.random.key(1)
    start = _start(50)
    known = guidance.Guidance(
        energy=_mean_energy,
        target=jnp.full(50, 1.0),
        scale=2.0,
        on=on,
        through_denoiser=through,
        strength="variance",
    )
    run = jax.jit(functools.partial(sampling.sample, ANCESTRAL, DENOISE))
    free, guided = run(start, key).x, run(start, key, guidance=known).x
    error = [float(np.abs(x.mean((1, 2)) - 1).mean()) for x in (free, guided)]
    assert error[1] < 0.7 * error[0]


def test_the_pull_of_an_ancestral_step_is_the_published_one():
    """The mean moves by its standard deviation times the gradient."""
    gradient = jnp.asarray(0.7)
    t = 120
    place = list(ANCESTRAL.timesteps).index(t)
    one = samplers.Sampler(
        schedule=SCHEDULE,
        prediction="epsilon",
        timesteps=ANCESTRAL.timesteps[place : place + 1],
        of_x=ANCESTRAL.of_x[place : place + 1],
        of_noise=ANCESTRAL.of_noise[place : place + 1],
        of_x0=ANCESTRAL.of_x0[place : place + 1],
        of_random=np.zeros(1),
    )
    push = guidance.Guidance(energy=_push, target=gradient, scale=3.0)
    start = _start()
    free = sampling.sample(one, DENOISE, start).x
    pushed = sampling.sample(one, DENOISE, start, guidance=push).x
    spread = np.exp(SCHEDULE.posterior_log_variance_clipped[t] / 2)
    np.testing.assert_allclose(pushed - free, -spread * 3 * 0.7, rtol=1e-4)


def test_guidance_is_an_argument_that_does_not_compile_anew():
    traces = []

    def energy(x, t, target):
        traces.append(t)
        return _mean_energy(x, t, target)

    run = jax.jit(functools.partial(sampling.sample, SOLVER, DENOISE))
    start = _start()
    ends = [
        run(
            start,
            guidance=guidance.Guidance(
                energy=energy, scale=scale, target=jnp.full(4, goal)
            ),
        ).x
        for scale, goal in ((0.1, 1.0), (0.2, -1.0))
    ]
    assert len(traces) == 1
    assert float(ends[0].mean()) > float(ends[1].mean())


def test_weights_of_an_energy_are_arguments_too():
    def energy(weight, x, t, target):
        del t, target
        return (x * weight).sum()

    traces = []

    def run(start, held):
        traces.append(start)
        return sampling.sample(SOLVER, DENOISE, start, guidance=held).x

    jitted = jax.jit(run)
    ends = [
        jitted(
            _start(),
            guidance.Guidance(energy=jax.tree_util.Partial(energy, jnp.asarray(w))),
        )
        for w in (-0.01, 0.01)
    ]
    assert len(traces) == 1
    assert (ends[0] > ends[1]).all()


def test_guidance_without_a_number_is_reported_with_its_step():
    """The root of a negative number, once the field has become so."""

    def energy(x, t, target):
        del target
        return jnp.where(t[0] < 100, jnp.nan, 1.0) * x.sum() * 0.001

    found = jax.jit(functools.partial(sampling.sample, SOLVER, DENOISE))(
        _start(), guidance=guidance.Guidance(energy=energy)
    )
    first = int(np.argmax(SOLVER.timesteps < 100))
    assert int(found.failed_step) == first
    assert np.isfinite(found.x).all()
    with pytest.raises(ValueError, match=f"not finite in step {first + 1} of 12 "):
        sampling.check(found, SOLVER)


@pytest.mark.parametrize("on", ["noisy", "denoised"])
def test_an_energy_that_is_no_number_is_reported_whatever_its_gradient(on):
    def energy(x, t, target):
        del t, target
        return 0.001 * x.sum() + jnp.log(-jnp.ones(()))

    known = guidance.Guidance(energy=energy, on=on, through_denoiser=False)
    found = sampling.sample(SOLVER, DENOISE, _start(), guidance=known)
    with pytest.raises(ValueError, match="energy or a gradient that is not finite in"):
        sampling.check(found, SOLVER)


def test_names_of_guidance_are_checked():
    with pytest.raises(ValueError, match="on must be noisy or denoised, found 'x'"):
        guidance.Guidance(energy=_push, on="x")
    with pytest.raises(ValueError, match="strength must be deviation or variance"):
        guidance.Guidance(energy=_push, strength="std")
