"""The published latent diffusion, and a small one without networks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.prediff import published
from weatherlib import diffusion
from weatherlib.nn import autoencoder, gaussians
from weatherlib.prediff import latent_diffusion, latent_space
from weatherlib.prediff import published as published_settings
from weatherlib.weights import autoencoder_kl, flat, prediff_names

arrays, listed = published.arrays, published.listed


def near(found, expected, tolerance):
    """Compares to within a share of the largest number."""
    bound = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def held(*names):
    """Returns arrays of the published case."""
    case = arrays("ldm_case")
    return tuple(jnp.asarray(case[name]) for name in names)


def _network(name, sizes):
    """Returns published weights of a network as parameters."""
    found = dict(flat.read(published.FOLDER / f"{name}.pt").arrays)
    for index in prediff_names.index_buffers(sizes):
        del found[index]
    return jax.tree.map(jnp.asarray, prediff_names.map_of(sizes).to_params(found))


@functools.cache
def published_params():
    """Returns the sizes of the denoiser, and parameters of both networks."""
    sizes = published_settings.unet_from_published(listed("config")["unet_a"])
    vae = autoencoder_kl.load(published.FOLDER / "vae.pt", norm_num_groups=4)
    params = latent_diffusion.Params(
        autoencoder=jax.tree.map(jnp.asarray, vae.params),
        denoiser=_network("unet_a", sizes),
    )
    return sizes, vae.config, params


@functools.cache
def _functions():
    """Returns the published functions, compiled once for all tests."""
    sizes, vae, _ = published_params()
    model = latent_diffusion.make(
        diffusion.PREDIFF, autoencoder.Autoencoder(sizes=vae), sizes
    )
    space = dataclasses.replace(
        model.space,
        encode=jax.jit(model.space.encode),
        decode=jax.jit(model.space.decode),
    )
    return dataclasses.replace(model, space=space, denoise=jax.jit(model.denoise))


def published_model(settings=diffusion.PREDIFF, **options):
    """Returns the published functions."""
    return dataclasses.replace(_functions(), settings=settings, **options)


@functools.cache
def published_reader():
    """Returns the alignment network as a function, and its parameters."""
    settings = listed("config")["align_a"]["model_args"]
    sizes = published_settings.alignment_from_published(settings)
    read = jax.jit(latent_diffusion.alignment_reader(sizes))
    return read, _network("align_a", sizes)


SHORT = diffusion.DiffusionConfig(
    schedule=diffusion.ScheduleConfig(
        kind="scaled_linear", steps=6, start=1e-3, end=0.3
    )
)
"""The settings of the published whole samples."""


def toy_model(**changes):
    """Returns a model whose latent fields are half as large as its frames.

    Its denoiser expects every future to be the last frame of the context, give or take.
    """

    def encode(params, frames):
        mean = frames[..., ::2, ::2, :] * params["gain"]
        return gaussians.DiagonalGaussian(mean, jnp.full_like(mean, -9.0))

    def decode(params, latents):
        grown = jnp.repeat(jnp.repeat(latents, 2, -3), 2, -2)
        return grown / params["gain"]

    def denoise(params, noisy, t, context, key):
        del key
        schedule = model.schedule
        left = diffusion.forward.lookup(schedule.alphas_cumprod, t, noisy)
        kept, spread = jnp.sqrt(left), params["spread"]
        mean = jnp.broadcast_to(context[:, -1:], noisy.shape)
        gain = kept * spread**2 / (left * spread**2 + 1 - left)
        x0 = mean + gain * (noisy - kept * mean)
        return diffusion.forward.to_noise(schedule, x0, noisy, t, "x0")

    settings = diffusion.DiffusionConfig(
        schedule=diffusion.ScheduleConfig(kind="scaled_linear", steps=100, end=0.2)
    )
    space = latent_space.LatentSpace(encode=encode, decode=decode, **changes)
    model = latent_diffusion.LatentDiffusion(
        settings=settings, space=space, denoise=denoise
    )
    params = latent_diffusion.Params(
        autoencoder={"gain": jnp.float32(1.0)}, denoiser={"spread": jnp.float32(0.5)}
    )
    return model, params


def toy_context(batch=2, seed=0):
    """Returns contexts of three frames."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (batch, 3, 4, 6, 1)).astype(np.float32)
