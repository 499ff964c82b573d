"""Tests of latent diffusion put together, against published numbers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.prediff import latent_cases
from tests.prediff.latent_cases import held, near
from weatherlib import diffusion, prediff
from weatherlib.diffusion import forward, guidance, samplers
from weatherlib.nn import autoencoder
from weatherlib.prediff import alignment, ensembles, guides, latent_diffusion


def test_frames_are_encoded_and_decoded_as_published(strict_numerics):
    model = latent_cases.published_model()
    _, _, params = latent_cases.published_params()
    context, target = held("pixel_context", "pixel_target")
    encode = jax.jit(model.space.encode_context)
    near(encode(params.autoencoder, context), held("zc")[0], tolerances.PREDIFF_NETWORK)
    found = jax.jit(model.space.encode_target)(params.autoencoder, target)
    near(found, held("z0_mode")[0], tolerances.PREDIFF_NETWORK)
    frames = model.space.decode_target(params.autoencoder, found)
    near(frames, held("decode_z0")[0], tolerances.PREDIFF_NETWORK)


def test_the_denoiser_says_what_is_published(strict_numerics):
    model = latent_cases.published_model()
    _, _, params = latent_cases.published_params()
    x, t, context, expected = held("q_sample", "t", "zc", "eps_pred")

    found = model.denoiser(params.denoiser, context)(x, t)
    near(found, expected, tolerances.PREDIFF_NETWORK)


def test_the_published_loss_comes_out(strict_numerics):
    model = latent_cases.published_model()
    _, _, params = latent_cases.published_params()
    context, target, t, noise, log_variance = held(
        "zc", "z0_mode", "t", "noise", "logvar"
    )
    found = latent_diffusion.denoising_loss(
        model,
        params.denoiser,
        context,
        target,
        log_variance=log_variance,
        t=t,
        noise=noise,
    )
    expected = latent_cases.listed("ldm")["p_losses_eps"]
    rtol = tolerances.PREDIFF_LOSS_RTOL
    np.testing.assert_allclose(found.loss, expected["loss"], rtol=rtol)
    np.testing.assert_allclose(found.simple, expected["val/loss_simple"], rtol=rtol)
    np.testing.assert_allclose(found.bound, expected["val/loss_vlb"], rtol=rtol)


def test_the_published_variant_that_predicts_the_field_comes_out(strict_numerics):
    listed = latent_cases.listed("ldm")["p_losses_x0_variant"]
    given = listed["args"]
    settings = diffusion.DiffusionConfig(
        schedule=diffusion.ScheduleConfig(
            kind=diffusion.schedules.PREDIFF_KINDS[given["beta_schedule"]],
            steps=given["timesteps"],
            start=given["linear_start"],
            end=given["linear_end"],
            posterior_mix=given["v_posterior"],
        ),
        prediction="x0",
        log_variance_start=given["logvar_init"],
        simple_weight=given["l_simple_weight"],
        bound_weight=given["original_elbo_weight"],
    )
    model = latent_cases.published_model(settings)
    _, _, params = latent_cases.published_params()
    context, target, noise, x = held("zc", "z0_mode", "noise", "x0v_q_sample")
    t = jnp.asarray(listed["t"])
    found = latent_diffusion.denoising_loss(
        model, params.denoiser, context, target, t=t, noise=noise
    )
    rtol = tolerances.PREDIFF_LOSS_RTOL
    np.testing.assert_allclose(found.loss, listed["loss"], rtol=rtol)
    np.testing.assert_allclose(found.simple, listed["val/loss_simple"], rtol=rtol)
    np.testing.assert_allclose(found.bound, listed["val/loss_vlb"], rtol=rtol)
    x0 = model.denoiser(params.denoiser, context)(x, t)
    step = forward.posterior(model.schedule, x0, x, t)
    near(step.mean, held("x0v_p_mean")[0], tolerances.PREDIFF_NETWORK)


def test_the_published_last_step_adds_no_noise(strict_numerics):
    """The first batch member is at the last step, the other is not."""
    model = latent_cases.published_model()
    _, _, params = latent_cases.published_params()
    x, t, context, noise, expected = held(
        "q_sample", "t", "zc", "sample_noise", "p_sample_t0_first"
    )
    t = t.at[0].set(0)
    output = model.denoiser(params.denoiser, context)(x, t)
    found = forward.denoising_step(model.schedule, output, x, t, noise)
    near(found, expected, tolerances.PREDIFF_NETWORK)


def _loop(settings, sampler, guide=None, keep=()):
    """Returns the samples of the published noises."""
    model = latent_cases.published_model(settings)
    _, _, params = latent_cases.published_params()
    context, start, noises = held("zc", "loop_xT", "loop_noises")

    def run(params, guide):
        return latent_diffusion.sample_latents(
            model,
            sampler,
            params,
            context,
            start,
            noises=noises,
            guidance=guide,
            keep=keep,
        )

    return model, params, jax.jit(run)(params.denoiser, guide)


def test_the_published_whole_sample_comes_out(strict_numerics):
    schedule = diffusion.make_schedule(latent_cases.SHORT.schedule)
    sampler = samplers.ancestral(schedule)
    # The published loop keeps what it begins with, and then every second step.
    model, params, found = _loop(latent_cases.SHORT, sampler, keep=(0, 1, 2, 4, 6))
    final, kept, frames = held("loop_final", "loop_intermediates", "loop_decoded")
    near(found.x, final, tolerances.PREDIFF_LOOP)
    near(found.kept, kept, tolerances.PREDIFF_LOOP)
    decoded = model.space.decode_target(params.autoencoder, found.x)
    near(decoded, frames, tolerances.PREDIFF_LOOP)


def test_fewer_steps_of_the_published_loop_are_the_last_ones(strict_numerics):
    schedule = diffusion.make_schedule(diffusion.PREDIFF.schedule)
    sampler = samplers.ancestral(schedule, 6, spacing="truncated")
    _, _, found = _loop(diffusion.PREDIFF, sampler)
    near(found.x, held("loop_truncated_1000_final")[0], tolerances.PREDIFF_LOOP)


def _published_guide(together=True):
    read, params = latent_cases.published_reader()
    return guides.intensity_guidance(
        read, params, held("avg_x_gt")[0], together=together
    )


def test_the_published_aligned_sample_comes_out(strict_numerics):
    schedule = diffusion.make_schedule(latent_cases.SHORT.schedule)
    sampler = samplers.ancestral(schedule)
    _, _, found = _loop(latent_cases.SHORT, sampler, _published_guide())
    near(found.x, held("loop_aligned_final")[0], tolerances.PREDIFF_LOOP)
    assert int(found.failed_step) == -1


def test_the_published_gradient_of_the_guidance_comes_out(strict_numerics):
    x, t, expected = held("q_sample", "t", "mean_shift")
    guide = _published_guide()
    found, _, _ = guidance.energy_gradient(
        latent_cases.published_model().schedule, guide, lambda x: (x, x), x, t
    )
    near(found, expected, tolerances.PREDIFF_GRADIENT)


def test_energies_of_members_add_up_where_they_are_not_joined():
    x, t, read, wanted = held("q_sample", "t", "align_pred", "avg_x_gt")
    found = _published_guide(together=False).energy(x, t, wanted)
    off = jnp.abs(read.mean(1) - wanted)[:, 0]
    np.testing.assert_allclose(found, off, rtol=1e-4)


def test_the_published_alignment_loss_comes_out(strict_numerics):
    model = latent_cases.published_model()
    read, params = latent_cases.published_reader()
    target, t, noise, pixels = held("z0_mode", "t", "noise", "pixel_target")
    wanted = alignment.frame_intensity(pixels)
    near(wanted, held("align_target")[0], tolerances.PREDIFF_NETWORK)
    x = held("q_sample")[0]
    run = functools.partial(read, params)
    near(run(x, t, None), held("align_pred")[0], tolerances.PREDIFF_NETWORK)
    loss = latent_diffusion.alignment_loss(
        model.schedule,
        lambda x, t, key: run(x, t, key),
        target,
        wanted,
        t=t,
        noise=noise,
    )
    expected = latent_cases.listed("ldm")["align_loss"]
    np.testing.assert_allclose(loss, expected, rtol=tolerances.PREDIFF_LOSS_RTOL)


def test_a_step_of_training_draws_everything_from_its_key(strict_numerics):
    model, params = latent_cases.toy_model()
    context = jnp.asarray(latent_cases.toy_context())
    loss = jax.jit(functools.partial(latent_diffusion.training_loss, model))
    first, again, other = (
        loss(params, context, context[:, :2], jax.random.key(seed)).loss
        for seed in (0, 0, 1)
    )
    assert float(first) == float(again) != float(other)


def test_training_does_not_reach_the_autoencoder():
    model, params = latent_cases.toy_model()
    context = jnp.asarray(latent_cases.toy_context())
    gradient = jax.grad(
        lambda p: (
            latent_diffusion.training_loss(
                model, p, context, context[:, :2], jax.random.key(0)
            ).loss
        )
    )(params)
    assert float(gradient.autoencoder["gain"]) == 0
    assert float(gradient.denoiser["spread"]) != 0


def test_dropout_acts_with_a_key_only():
    model = latent_cases.published_model()
    _, _, params = latent_cases.published_params()
    x, t, context = held("q_sample", "t", "zc")

    def draws(key):
        run = model.denoiser(params.denoiser, context, key)
        return "random_bits" in str(jax.make_jaxpr(run)(x, t))

    assert draws(jax.random.key(0))
    assert not draws(None)


def test_targets_are_scaled_and_contexts_are_not():
    model, params = latent_cases.toy_model(scale_factor=4.0)
    frames = jnp.asarray(latent_cases.toy_context())
    half = frames[:, :, ::2, ::2]
    np.testing.assert_allclose(
        model.space.encode_context(params.autoencoder, frames), half
    )
    scaled = model.space.encode_target(params.autoencoder, frames)
    np.testing.assert_allclose(scaled, 4 * half)
    drawn = model.space.encode_target(params.autoencoder, frames, jax.random.key(0))
    assert 0 < np.abs(drawn - scaled).max() < 1
    np.testing.assert_allclose(
        model.space.decode_target(params.autoencoder, scaled)[:, :, ::2, ::2],
        half,
        rtol=1e-6,
    )


def test_the_denoiser_may_compute_narrow(strict_numerics):
    seen = []

    def denoise(params, noisy, t, context, key):
        del key
        seen.append([x.dtype for x in (params["w"], params["n"], noisy, context, t)])
        return noisy

    model = dataclasses.replace(
        latent_cases.published_model(), denoise=denoise, dtype=jnp.bfloat16
    )
    held = {"w": jnp.ones(2), "n": jnp.ones(2, jnp.int32)}
    x, t = jnp.ones((1, 1, 2, 2, 1)), jnp.zeros(1, jnp.int32)
    assert model.denoiser(held, x)(x, t).dtype == jnp.float32
    assert seen == [[jnp.bfloat16, jnp.int32, jnp.bfloat16, jnp.bfloat16, jnp.int32]]


def test_the_short_names_of_the_family_lead_to_it():
    assert prediff.LatentDiffusion is latent_diffusion.LatentDiffusion
    assert prediff.EnsembleSampler is ensembles.EnsembleSampler


def test_what_does_not_fit_is_refused():
    model, params = latent_cases.toy_model()
    context = jnp.zeros((1, 3, 2, 3, 1))
    with pytest.raises(ValueError, match="give a key, or both the steps of noise"):
        latent_diffusion.denoising_loss(model, params.denoiser, context, context)
    sampler = samplers.ddim(model.schedule, 5, prediction="v")
    with pytest.raises(ValueError, match="predicts v, and this one predicts epsilon"):
        latent_diffusion.sample_latents(
            model, sampler, params.denoiser, context, context
        )
    sizes, vae, _ = latent_cases.published_params()
    wrong = diffusion.DiffusionConfig()
    other = vae.replace(latent_channels=4)
    with pytest.raises(ValueError, match="has 4 latent channels and the denoiser 8"):
        latent_diffusion.make(wrong, autoencoder.Autoencoder(sizes=other), sizes)
