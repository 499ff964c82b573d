"""What follows from the published predictions of a denoiser, without a network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tolerances
from tests.prediff import latent_cases
from weatherlib import diffusion
from weatherlib.diffusion import ema, forward, losses
from weatherlib.training import step

SCHEDULE = diffusion.make_schedule(diffusion.PREDIFF.schedule)


def test_noise_is_added_as_published(strict_numerics):
    z0, t, noise, expected = latent_cases.held("z0_mode", "t", "noise", "q_sample")
    found = forward.add_noise(SCHEDULE, z0, t, noise)
    latent_cases.near(found, expected, tolerances.PREDIFF_NETWORK)


def test_the_field_follows_from_the_noise_as_published():
    x, t, output, expected = latent_cases.held(
        "q_sample", "t", "eps_pred", "predict_start"
    )
    found = forward.to_x0(SCHEDULE, output, x, t, "epsilon")
    latent_cases.near(found, expected, tolerances.PREDIFF_NETWORK)


@pytest.mark.parametrize("suffix", ["", "_clip"])
def test_the_distribution_of_the_next_field_is_the_published_one(suffix):
    x, t, output = latent_cases.held("q_sample", "t", "eps_pred")
    x0 = forward.to_x0(SCHEDULE, output, x, t, "epsilon")
    if suffix:
        x0 = jnp.clip(x0, -1, 1)
    found = forward.posterior(SCHEDULE, x0, x, t)
    mean, expected_x0 = latent_cases.held(f"p_mean{suffix}", f"p_x0{suffix}")
    latent_cases.near(x0, expected_x0, tolerances.PREDIFF_NETWORK)
    latent_cases.near(found.mean, mean, tolerances.PREDIFF_NETWORK)
    variance, log_variance = latent_cases.held("p_var", "p_logvar")
    np.testing.assert_allclose(found.variance, variance, rtol=1e-5)
    np.testing.assert_allclose(found.log_variance, log_variance, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "temperature"), [("p_sample", 1.0), ("p_sample_temp0.5", 0.5)]
)
def test_a_published_step_comes_out(name, temperature):
    x, t, output, noise, expected = latent_cases.held(
        "q_sample", "t", "eps_pred", "sample_noise", name
    )
    found = forward.denoising_step(
        SCHEDULE, output, x, t, noise, temperature=temperature
    )
    latent_cases.near(found, expected, tolerances.PREDIFF_NETWORK)


def test_the_mean_moves_by_its_deviation_times_the_published_gradient():
    mean, log_variance, shift = latent_cases.held("p_mean", "p_logvar", "mean_shift")
    noise, expected = latent_cases.held("sample_noise", "p_sample_aligned")
    spread = jnp.exp(log_variance / 2)
    found = mean - spread * shift + spread * noise
    latent_cases.near(found, expected, tolerances.PREDIFF_LOOP)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_the_published_losses_come_out(kind):
    noise, output, t, log_variance = latent_cases.held(
        "noise", "eps_pred", "t", "logvar"
    )
    settings = diffusion.PREDIFF.replace(loss=kind)
    found = losses.denoising_loss(SCHEDULE, settings, output, noise, t, log_variance)
    expected = latent_cases.listed("ldm")["p_losses_eps"]
    rtol = tolerances.PREDIFF_LOSS_RTOL
    if kind == "l1":
        expected = latent_cases.listed("ldm")["p_losses_l1"]
        np.testing.assert_allclose(found.simple, expected["val/loss_simple"], rtol=rtol)
        np.testing.assert_allclose(found.bound, expected["val/loss_vlb"], rtol=rtol)
        return
    np.testing.assert_allclose(found.loss, expected["loss"], rtol=rtol)
    np.testing.assert_allclose(found.simple, expected["val/loss_simple"], rtol=rtol)
    np.testing.assert_allclose(found.weighted, expected["val/loss_gamma"], rtol=rtol)
    np.testing.assert_allclose(found.bound, expected["val/loss_vlb"], rtol=rtol)
    np.testing.assert_allclose(found.log_variance, expected["logvar"], rtol=rtol)


def test_the_variant_that_predicts_the_field_has_the_published_steps():
    settings = latent_cases.listed("ldm")["p_losses_x0_variant"]["args"]
    schedule = diffusion.make_schedule(
        diffusion.ScheduleConfig(
            kind=diffusion.schedules.PREDIFF_KINDS[settings["beta_schedule"]],
            start=settings["linear_start"],
            end=settings["linear_end"],
            steps=settings["timesteps"],
            posterior_mix=settings["v_posterior"],
        )
    )
    t = jnp.asarray(latent_cases.listed("ldm")["p_losses_x0_variant"]["t"])
    z0, noise, x = latent_cases.held("z0_mode", "noise", "x0v_q_sample")
    found = forward.add_noise(schedule, z0, t, noise)
    latent_cases.near(found, x, tolerances.PREDIFF_NETWORK)
    variance, log_variance = latent_cases.held("x0v_p_var", "x0v_p_logvar")
    after = forward.posterior(schedule, z0, x, t)
    np.testing.assert_allclose(after.variance, variance, rtol=1e-5)
    np.testing.assert_allclose(after.log_variance, log_variance, rtol=1e-5)


def test_running_averages_follow_as_published():
    case = latent_cases.arrays()
    average = ema.start(jnp.asarray(case["ema_init_weight"]))
    for number in range(4):
        weights = jnp.asarray(case[f"ema_param_step{number}_weight"])
        average = ema.update(average, weights)
        np.testing.assert_allclose(
            average.params,
            case[f"ema_shadow_step{number}_weight"],
            rtol=tolerances.EMA_RTOL,
            atol=1e-7,
        )


def test_training_averages_weights_as_published():
    """Each update is handed the gradient that leads to the published weights."""
    case = latent_cases.arrays()

    def loss(params, state, key, batch):
        return jnp.sum(params["w"] * batch), ({}, state)

    optimizer = optax.sgd(1.0)
    update = step.Update(loss, optimizer, ema=0.9999)
    weights = {"w": jnp.asarray(case["ema_init_weight"])}
    state = step.first_state(weights, {}, optimizer, jax.random.key(0), ema=0.9999)
    for number in range(4):
        wanted = jnp.asarray(case[f"ema_param_step{number}_weight"])
        state, _ = update(state, (state.params["w"] - wanted,))
        np.testing.assert_allclose(state.params["w"], wanted, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(
            state.average["w"],
            case[f"ema_shadow_step{number}_weight"],
            rtol=tolerances.EMA_RTOL,
            atol=1e-7,
        )
