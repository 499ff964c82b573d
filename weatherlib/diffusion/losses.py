"""What denoisers are trained to make small."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from weatherlib.diffusion import config, forward, schedules

__all__ = ["DenoisingLoss", "denoising_loss", "draw_timesteps", "target"]


class DenoisingLoss(NamedTuple):
    """A loss and its parts, each of shape [].

    Attributes:
      loss: To be made small.
      simple: The mean error as it is.
      weighted: The mean error divided by the expected one, plus the logarithm of that.
      bound: The mean error weighted as in the variational bound.
      log_variance: Mean logarithm of the expected errors over all steps of noise.
    """

    loss: Array
    simple: Array
    weighted: Array
    bound: Array
    log_variance: Array


def draw_timesteps(
    key: Key[Array, ""] | Array, batch: int, schedule: schedules.NoiseSchedule
) -> Int[Array, " batch"]:
    """Returns a step of noise for each batch member, all equally likely."""
    return jax.random.randint(key, (batch,), 0, schedule.steps)


def target(
    schedule: schedules.NoiseSchedule,
    prediction: str,
    x0: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
    noise: Float[Array, "batch *place channel"],
) -> Float[Array, "batch *place channel"]:
    """Returns what the denoiser should have said.

    Raises:
      ValueError: `prediction` is unknown.
    """
    schedules.check_prediction(prediction)
    if prediction == "epsilon":
        return noise
    if prediction == "x0":
        return x0
    return forward.velocity(schedule, x0, t, noise)


def denoising_loss(
    schedule: schedules.NoiseSchedule,
    settings: config.DiffusionConfig,
    output: Float[Array, "batch *place channel"],
    wanted: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
    log_variance: Float[Array, " step"] | None = None,
) -> DenoisingLoss:
    """Returns how far a denoiser is off, weighted by step of noise.

    Args:
      schedule: How much noise there is.
      settings: How errors count.
      output: What the denoiser predicts.
      wanted: What it should, as `target` returns it.
      t: Steps of noise.
      log_variance: Logarithm of the expected error of each step of noise. Gradients
        reach it only with `learn_log_variance`. None is `log_variance_start`.

    Source: `p_losses` of latent diffusion, Rombach et al. (2022), arXiv 2112.10752,
    which PreDiff follows.
    """
    error = output.astype(jnp.float32) - wanted.astype(jnp.float32)
    error = jnp.abs(error) if settings.loss == "l1" else jnp.square(error)
    error = error.mean(tuple(range(1, error.ndim)))
    if log_variance is None:
        log_variance = jnp.full(
            (schedule.steps,), settings.log_variance_start, jnp.float32
        )
    log_variance = log_variance.astype(jnp.float32)
    if not settings.learn_log_variance:
        log_variance = jax.lax.stop_gradient(log_variance)
    expected = log_variance.at[t].get(mode="fill", fill_value=jnp.nan)
    weighted = (error / jnp.exp(expected) + expected).mean()
    weights = schedule.lvlb_weights(settings.prediction)
    bound = (forward.lookup(weights, t, error) * error).mean()
    loss = jnp.float32(settings.simple_weight) * weighted
    if settings.bound_weight:
        loss = loss + jnp.float32(settings.bound_weight) * bound
    return DenoisingLoss(
        loss=loss,
        simple=error.mean(),
        weighted=weighted,
        bound=bound,
        log_variance=log_variance.mean(),
    )
