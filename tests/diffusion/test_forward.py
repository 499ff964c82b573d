"""Tests of noise added to fields, of conversions and of losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tolerances
from tests.diffusion import cases
from weatherlib import diffusion
from weatherlib.diffusion import forward, losses

SHAPE = (3, 2, 4, 5)


def _fields(seed=0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed))
    return tuple(jax.random.normal(key, SHAPE, dtype) for key in keys)


def test_noise_is_added_as_published(strict_numerics):
    expected = cases.arrays("samplers")
    x0, noise = (jnp.asarray(expected[name]) for name in ("x0", "noise"))
    for t, wanted in zip(expected["add_noise_t"], expected["add_noise"]):
        found = forward.add_noise(cases.linear(), x0, jnp.full(2, t), noise)
        np.testing.assert_allclose(found, wanted, atol=tolerances.DIFFUSION_SAMPLER)


def test_the_published_field_follows_from_the_noise():
    expected = cases.arrays("samplers")
    t = jnp.asarray(expected["step_t"])
    x, output = (jnp.asarray(expected[f"step_{name}"]) for name in ("x", "eps"))
    found = forward.to_x0(cases.linear(), output, x, t, "epsilon")
    np.testing.assert_allclose(
        found, expected["pred_x0"], rtol=tolerances.DIFFUSION_FAR_X0_RTOL, atol=2e-5
    )


@given(
    kind=st.sampled_from(["linear", "scaled_linear", "cosine"]),
    t=st.lists(st.integers(0, 89), min_size=3, max_size=3),
    seed=st.integers(0, 9),
)
@settings(max_examples=25)
def test_each_prediction_stands_for_the_others(kind, t, seed):
    schedule = diffusion.make_schedule(diffusion.ScheduleConfig(kind=kind, steps=90))
    x0, noise = _fields(seed)
    t = jnp.asarray(t)
    x = forward.add_noise(schedule, x0, t, noise)
    v = forward.velocity(schedule, x0, t, noise)
    for prediction, output in (("epsilon", noise), ("x0", x0), ("v", v)):
        np.testing.assert_allclose(
            forward.to_x0(schedule, output, x, t, prediction), x0, atol=2e-3
        )
        np.testing.assert_allclose(
            forward.to_noise(schedule, output, x, t, prediction), noise, atol=2e-3
        )


def test_narrow_fields_stay_narrow_and_are_computed_wide(strict_numerics):
    schedule = cases.linear()
    t = jnp.asarray([0, 500, 999])
    x0, noise = _fields(dtype=jnp.bfloat16)
    found = forward.add_noise(schedule, x0, t, noise)
    assert found.dtype == jnp.bfloat16
    wide = forward.add_noise(
        schedule, x0.astype(jnp.float32), t, noise.astype(jnp.float32)
    )
    np.testing.assert_array_equal(found, wide.astype(jnp.bfloat16))
    for prediction in ("epsilon", "x0", "v"):
        for convert in (forward.to_x0, forward.to_noise):
            result = convert(schedule, noise, found, t, prediction)
            assert result.dtype == jnp.bfloat16


def test_a_step_outside_of_the_schedule_gives_no_number():
    x0, noise = _fields()
    found = forward.add_noise(cases.linear(), x0, jnp.asarray([0, 1000, 999]), noise)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[::2]).all()


def test_an_unknown_prediction_is_refused():
    x0, noise = _fields()
    t = jnp.zeros(3, jnp.int32)
    for convert in (forward.to_x0, forward.to_noise):
        with pytest.raises(ValueError, match="PreDiff calls"):
            convert(cases.linear(), noise, x0, t, "eps")
    with pytest.raises(ValueError, match="'noise' is not one of epsilon, x0 and v"):
        losses.target(cases.linear(), "noise", x0, t, noise)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_the_loss_of_a_perfect_denoiser_is_the_expected_error_alone(prediction):
    schedule = cases.linear()
    chosen = diffusion.DiffusionConfig(prediction=prediction, bound_weight=0.5)
    x0, noise = _fields()
    t = losses.draw_timesteps(jax.random.key(0), 3, schedule)
    wanted = losses.target(schedule, prediction, x0, t, noise)
    x = forward.add_noise(schedule, x0, t, noise)
    np.testing.assert_allclose(
        forward.to_x0(schedule, wanted, x, t, prediction), x0, atol=1e-3
    )
    found = losses.denoising_loss(schedule, chosen, wanted, wanted, t)
    assert float(found.loss) == float(found.bound) == 0
    off = losses.denoising_loss(schedule, chosen, wanted + 1, wanted, t)
    np.testing.assert_allclose(off.simple, 1, rtol=1e-6)
    np.testing.assert_allclose(off.loss, 1 + 0.5 * off.bound, rtol=1e-5)


def test_expected_errors_are_trained_only_where_asked(strict_numerics):
    schedule = cases.linear()
    x0, noise = _fields()
    t = jnp.asarray([5, 6, 5])
    log_variance = jnp.full(1000, 0.3)

    def loss(log_variance, learn):
        chosen = diffusion.DiffusionConfig(learn_log_variance=learn)
        return losses.denoising_loss(schedule, chosen, x0, noise, t, log_variance)

    gradient = jax.grad(lambda v: loss(v, True).loss)(log_variance)
    assert (np.flatnonzero(gradient) == [5, 6]).all()
    frozen = jax.grad(lambda v: loss(v, False).loss)(log_variance)
    assert not np.asarray(frozen).any()
    found = loss(log_variance, True)
    np.testing.assert_allclose(found.loss, found.simple / np.exp(0.3) + 0.3, rtol=1e-5)


def test_drawn_steps_cover_the_schedule():
    schedule = cases.prediff(steps=7)
    drawn = losses.draw_timesteps(jax.random.key(0), 500, schedule)
    assert set(np.asarray(drawn).tolist()) == set(range(7))
