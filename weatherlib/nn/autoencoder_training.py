"""What KL autoencoders are trained to make small.

Source: Rombach et al. (2022), arXiv 2112.10752, appendix G; `LPIPSWithDiscriminator` of
its published code, where slopes and spectra stand in for the perceptual network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from weatherlib.nn import autoencoder, discriminator, reconstruction
from weatherlib.nn.autoencoder_config import DECODER, AutoencoderLossConfig
from weatherlib.typing import PyTree

__all__ = ["AutoencoderLoss", "Judge", "autoencoder_loss", "judge_loss"]

Judge = Callable[[Array], Array]
"""Takes fields and returns how real their patches seem, as `PatchDiscriminator`."""


class AutoencoderLoss(NamedTuple):
    """A loss and its parts, each of shape [] but for the fields.

    Attributes:
      loss: To be made small.
      error: Mean absolute or squared error at a point.
      kl: Mean divergence of the latent distributions from the standard one, in nats.
      slopes: `reconstruction.gradient_difference`; 0 where it does not count.
      spectrum: `reconstruction.spectral_difference`; 0 where it does not count.
      adversarial: How little the decoded fields seem real; 0 without a judge.
      adversarial_weight: Of that in the loss.
      decoded: The decoded fields.
    """

    loss: Array
    error: Array
    kl: Array
    slopes: Array
    spectrum: Array
    adversarial: Array
    adversarial_weight: Array
    decoded: Array


def autoencoder_loss(
    model: autoencoder.Autoencoder,
    settings: AutoencoderLossConfig,
    params: PyTree,
    fields: Float[Array, "batch lat lon channel"],
    key: Array,
    *,
    log_variance: Float[Array, ""] | None = None,
    judge: Judge | None = None,
    step: Int[Array, ""] | None = None,
) -> AutoencoderLoss:
    """Returns how badly fields come back from the latent ones that stand for them.

    Args:
      model: The autoencoder, with as many channels out as in.
      settings: What counts how much.
      params: Of encoder and decoder.
      fields: Real fields.
      key: Draws the latent fields.
      log_variance: Logarithm of the expected error at a point, by which errors are
        divided; trained along if gradients are taken for it. 0 by default.
      judge: The discriminator, whose own parameters are left as they are.
      step: How many steps have been made, for `adversarial_start`.

    Raises:
      ValueError: `adversarial_weight` is set and there is no judge.
    """
    if settings.adversarial_weight and judge is None:
        raise ValueError("adversarial_weight is set, so a discriminator is needed")
    found = model.encode(params, fields)
    latents = found.draw(key)
    decoded = model.decode(params, latents)
    error, slopes, spectrum = _differences(settings, decoded, fields)
    log_variance = jnp.zeros((), jnp.float32) if log_variance is None else log_variance
    points = jnp.float32(decoded[0].size)
    kl = found.kl().mean()

    def misfit(error: Array, slopes: Array, spectrum: Array) -> Array:
        seen = error
        if settings.gradient_weight:
            seen = seen + jnp.float32(settings.gradient_weight) * slopes
        if settings.spectral_weight:
            seen = seen + jnp.float32(settings.spectral_weight) * spectrum
        return points * (seen / jnp.exp(log_variance) + log_variance)

    loss = misfit(error, slopes, spectrum) + jnp.float32(settings.kl_weight) * kl
    adversarial = weight = jnp.zeros((), jnp.float32)
    if judge is not None and settings.adversarial_weight:

        def unreal(decoded: Array) -> Array:
            return discriminator.adversarial_loss(judge(decoded)).astype(jnp.float32)

        adversarial = unreal(decoded)
        weight = _weight_of_judge(
            model,
            params,
            latents,
            lambda x: misfit(*_differences(settings, x, fields)),
            unreal,
        )
        weight = jnp.float32(settings.adversarial_weight) * weight
        if step is not None:
            begun = step >= settings.adversarial_start
            weight = weight * begun.astype(jnp.float32)
        loss = loss + weight * adversarial
    return AutoencoderLoss(
        loss=loss,
        error=error,
        kl=kl,
        slopes=slopes,
        spectrum=spectrum,
        adversarial=adversarial,
        adversarial_weight=weight,
        decoded=decoded,
    )


def judge_loss(
    settings: AutoencoderLossConfig,
    judge: Judge,
    fields: Float[Array, "batch lat lon channel"],
    decoded: Float[Array, "batch lat lon channel"],
    step: Int[Array, ""] | None = None,
) -> Float[Array, ""]:
    """Returns how badly a discriminator tells real from decoded fields.

    Args:
      settings: When it begins to learn.
      judge: The discriminator.
      fields: Real fields.
      decoded: Decoded ones; no gradient goes through them.
      step: How many steps have been made.
    """
    decoded = jax.lax.stop_gradient(decoded)
    loss = discriminator.discriminator_loss(judge(fields), judge(decoded))
    if step is not None:
        loss = loss * (step >= settings.adversarial_start).astype(loss.dtype)
    return loss


def _differences(
    settings: AutoencoderLossConfig, decoded: Array, fields: Array
) -> tuple[Array, Array, Array]:
    """Returns the error at a point, and differences of slopes and spectra."""
    error = decoded.astype(jnp.float32) - fields.astype(jnp.float32)
    error = jnp.abs(error) if settings.reconstruction == "l1" else jnp.square(error)
    slopes = spectrum = jnp.zeros((), jnp.float32)
    if settings.gradient_weight:
        slopes = reconstruction.gradient_difference(decoded, fields, settings.scales)
        slopes = slopes.mean()
    if settings.spectral_weight:
        spectrum = reconstruction.spectral_difference(decoded, fields).mean()
    return error.mean(), slopes, spectrum


def _weight_of_judge(
    model: autoencoder.Autoencoder,
    params: PyTree,
    latents: Array,
    misfit: Callable[[Array], Array],
    unreal: Callable[[Array], Array],
) -> Array:
    """Returns the weight that makes both gradients of the last layer equally long."""
    params, latents = jax.lax.stop_gradient((params, latents))
    last = f"{DECODER}/conv_out"

    def decode(w: Array) -> Array:
        return model.decode({**params, last: {**params[last], "w": w}}, latents)

    decoded, pull = jax.vjp(decode, params[last]["w"])
    gradients = [pull(jax.grad(function)(decoded))[0] for function in (misfit, unreal)]
    return discriminator.adaptive_weight(gradients[0], gradients[1])
