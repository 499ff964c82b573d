"""Latent diffusion on arrays: frames are encoded, futures are drawn, and decoded.

Everything is a pure function of parameters and arrays.

Source: Gao et al. (2023), arXiv 2307.10422, section 3; Rombach et al. (2022), arXiv
2112.10752.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from weatherlib import diffusion
from weatherlib.diffusion import forward, losses, samplers, sampling
from weatherlib.nn import autoencoder
from weatherlib.prediff import alignment, latent_space, network
from weatherlib.prediff.config import AlignmentConfig, EarthformerUNetConfig
from weatherlib.typing import PyTree

__all__ = [
    "LatentDiffusion",
    "Params",
    "alignment_loss",
    "alignment_reader",
    "denoising_loss",
    "make",
    "sample_latents",
    "training_loss",
]


class Params(NamedTuple):
    """Parameters of both networks, apart because they are trained apart.

    Attributes:
      autoencoder: Of encoder and decoder.
      denoiser: Of the denoiser.
    """

    autoencoder: PyTree
    denoiser: PyTree


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LatentDiffusion:
    """The functions that a latent diffusion model is made of.

    Attributes:
      settings: Noise, what the denoiser predicts, and how errors count.
      space: Where the denoiser works.
      denoise: Takes parameters, noisy latent fields, their steps of noise, the latent
        context, and a key for dropout, or None to leave dropout out; returns what it
        predicts.
      dtype: In which the denoiser computes; None is that of its parameters.
    """

    settings: diffusion.DiffusionConfig
    space: latent_space.LatentSpace
    denoise: Callable[[PyTree, Array, Array, Array, Array | None], Array]
    dtype: Any = None

    @functools.cached_property
    def schedule(self) -> diffusion.NoiseSchedule:
        """Tables of noise."""
        return diffusion.make_schedule(self.settings.schedule)

    def denoiser(
        self,
        params: PyTree,
        context: Float[Array, "batch time lat lon channel"],
        key: Array | None = None,
    ) -> sampling.Denoise:
        """Returns the denoiser of one context, as samplers take it.

        Args:
          params: Of the denoiser.
          context: Latent context.
          key: For dropout.
        """
        dtype = self.dtype
        if dtype is not None:
            params, context = (
                latent_space.cast_floating(params, dtype),
                latent_space.cast_floating(context, dtype),
            )

        def denoise(noisy: Array, t: Array) -> Array:
            given = noisy if dtype is None else noisy.astype(dtype)
            return self.denoise(params, given, t, context, key).astype(noisy.dtype)

        return denoise


def make(
    settings: diffusion.DiffusionConfig,
    vae: autoencoder.Autoencoder,
    sizes: EarthformerUNetConfig,
    *,
    scale_factor: float = 1.0,
    dtype: Any = None,
    autoencoder_dtype: Any = None,
    remat: bool = False,
) -> LatentDiffusion:
    """Returns the latent diffusion model of PreDiff.

    Args:
      settings: Noise, prediction and loss.
      vae: Encodes and decodes frames.
      sizes: Of the denoiser.
      scale_factor: Of target latents.
      dtype: In which the denoiser computes.
      autoencoder_dtype: In which the autoencoder computes; what it gives is float32.
      remat: Whether the backward pass of the denoiser computes blocks again.

    Raises:
      ValueError: The channels of the two do not fit.
    """
    if vae.sizes.latent_channels != sizes.target_shape[-1]:
        raise ValueError(
            f"the autoencoder has {vae.sizes.latent_channels} latent channels and the "
            f"denoiser {sizes.target_shape[-1]}; they must agree"
        )

    def run(noisy: Array, t: Array, context: Array, is_training: bool) -> Array:
        unet = network.EarthformerUNet(sizes, remat=remat)
        return unet(noisy, t, context, is_training)

    apply = hk.transform(run).apply

    def denoise(
        params: PyTree, noisy: Array, t: Array, context: Array, key: Array | None
    ) -> Array:
        return apply(params, key, noisy, t, context, key is not None)

    space = latent_space.make(vae, scale_factor=scale_factor, dtype=autoencoder_dtype)
    return LatentDiffusion(settings=settings, space=space, denoise=denoise, dtype=dtype)


def training_loss(
    model: LatentDiffusion,
    params: Params,
    context: Float[Array, "batch past lat lon channel"],
    target: Float[Array, "batch future lat lon channel"],
    key: Array,
    *,
    log_variance: Float[Array, " step"] | None = None,
) -> losses.DenoisingLoss:
    """Returns how badly the denoiser restores the future of frames.

    The autoencoder gets no gradient.

    Args:
      model: The functions.
      params: Of both networks.
      context: Frames before.
      target: Frames to restore.
      key: Draws latent targets, steps of noise, noise, and dropout.
      log_variance: As for `losses.denoising_loss`.
    """
    frozen = jax.lax.stop_gradient(params.autoencoder)
    given = model.space.encode_context(frozen, context)
    wanted = model.space.encode_target(frozen, target, jax.random.fold_in(key, 0))
    return denoising_loss(
        model,
        params.denoiser,
        given,
        wanted,
        jax.random.fold_in(key, 1),
        log_variance=log_variance,
    )


def denoising_loss(
    model: LatentDiffusion,
    params: PyTree,
    context: Float[Array, "batch past lat lon channel"],
    target: Float[Array, "batch future lat lon channel"],
    key: Array | None = None,
    *,
    log_variance: Float[Array, " step"] | None = None,
    t: Int[Array, " batch"] | None = None,
    noise: Float[Array, "batch future lat lon channel"] | None = None,
) -> losses.DenoisingLoss:
    """Returns how badly the denoiser restores latent targets.

    Args:
      model: The functions.
      params: Of the denoiser.
      context: Latent context.
      target: Latent targets in the units of the denoiser.
      key: Draws steps of noise, noise, and dropout. Without one there is no dropout,
        and the others have to be given.
      log_variance: As for `losses.denoising_loss`.
      t: Steps of noise in place of drawn ones.
      noise: In place of drawn noise.

    Raises:
      ValueError: Something is neither given nor drawn.
    """
    noisy, t, noise, dropout = _noisy(model.schedule, target, key, t, noise)
    output = model.denoiser(params, context, dropout)(noisy, t)
    wanted = losses.target(model.schedule, model.settings.prediction, target, t, noise)
    return losses.denoising_loss(
        model.schedule, model.settings, output, wanted, t, log_variance
    )


def _noisy(
    schedule: diffusion.NoiseSchedule,
    target: Array,
    key: Array | None,
    t: Array | None,
    noise: Array | None,
) -> tuple[Array, Array, Array, Array | None]:
    """Returns noisy targets, steps of noise, the noise, and a key for dropout."""
    if key is None and (t is None or noise is None):
        raise ValueError("give a key, or both the steps of noise and the noise")
    dropout = None
    if key is not None:
        drawn_t, drawn_noise, dropout = (jax.random.fold_in(key, i) for i in range(3))
        if t is None:
            t = losses.draw_timesteps(drawn_t, target.shape[0], schedule)
        if noise is None:
            noise = jax.random.normal(drawn_noise, target.shape, target.dtype)
    assert t is not None and noise is not None
    return forward.add_noise(schedule, target, t, noise), t, noise, dropout


def alignment_reader(
    sizes: AlignmentConfig, *, remat: bool = False
) -> Callable[[PyTree, Array, Array, Array | None], Array]:
    """Returns the alignment network as a function.

    Args:
      sizes: Of the network.
      remat: Whether the backward pass computes blocks again.

    Returns:
      Takes parameters, noisy latent fields, their steps of noise, and a key for dropout
      or None; returns the numbers that it reads.
    """

    def run(noisy: Array, t: Array, is_training: bool) -> Array:
        reader = alignment.AlignmentNetwork(sizes, remat=remat)
        return reader(noisy, t, is_training)

    apply = hk.transform(run).apply

    def read(params: PyTree, noisy: Array, t: Array, key: Array | None) -> Array:
        return apply(params, key, noisy, t, key is not None)

    return read


def alignment_loss(
    schedule: diffusion.NoiseSchedule,
    read: Callable[[Array, Array, Array | None], Array],
    target: Float[Array, "batch time lat lon channel"],
    wanted: Float[Array, "batch *frame number"],
    key: Array | None = None,
    *,
    t: Int[Array, " batch"] | None = None,
    noise: Float[Array, "batch time lat lon channel"] | None = None,
) -> Float[Array, ""]:
    """Returns the mean squared error of what is read from noisy latent fields.

    Args:
      schedule: How much noise there is.
      read: Takes noisy latent fields, their steps of noise, and a key for dropout.
      target: Latent targets in the units of the denoiser.
      wanted: What should be read, such as `alignment.frame_intensity` of the frames.
      key: Draws steps of noise, noise, and dropout.
      t: Steps of noise in place of drawn ones.
      noise: In place of drawn noise.

    Raises:
      ValueError: Something is neither given nor drawn.
    """
    noisy, t, _, dropout = _noisy(schedule, target, key, t, noise)
    found = read(noisy, t, dropout).astype(jnp.float32)
    return jnp.square(found - wanted).mean()


def sample_latents(
    model: LatentDiffusion,
    sampler: samplers.Sampler,
    params: PyTree,
    context: Float[Array, "batch past lat lon channel"],
    start: Float[Array, "batch future lat lon channel"],
    key: Array | None = None,
    **options: Any,
) -> sampling.Samples:
    """Returns latent futures of contexts.

    Args:
      model: The functions.
      sampler: What each step does, on the schedule of the model.
      params: Of the denoiser.
      context: Latent context.
      start: First noise.
      key: A key, or one for each batch member.
      **options: As for `sampling.sample`: noises, guidance, keep, progress.

    Raises:
      ValueError: The sampler is for another prediction, or as `sampling.sample`.
    """
    if sampler.prediction != model.settings.prediction:
        raise ValueError(
            f"the sampler is for a denoiser that predicts {sampler.prediction}, and "
            f"this one predicts {model.settings.prediction}"
        )
    denoise = model.denoiser(params, context)
    return sampling.sample(sampler, denoise, start, key, **options)
