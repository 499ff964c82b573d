"""Noise added to fields, and what follows from a prediction about a noisy field.

A denoiser predicts one of three things, each of which gives the others: the noise
("epsilon"), the field ("x0"), or "v" = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0.
Steps of noise are integers, one for each batch member. Numbers are float32 inside where
a field is narrower.

Source: Ho et al. (2020), arXiv 2006.11239; for "v" Salimans and Ho (2022), arXiv
2202.00512, appendix D.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from weatherlib.diffusion import schedules

__all__ = [
    "Posterior",
    "add_noise",
    "denoising_step",
    "lookup",
    "posterior",
    "to_noise",
    "to_x0",
    "velocity",
]


class Posterior(NamedTuple):
    """The Gaussian of x_{t-1} given x_t and x_0.

    Attributes:
      mean: Of the shape of the field, at least float32.
      variance: One number for each batch member, with axes of 1 behind.
      log_variance: Its logarithm, where 0 counts as 1e-20.
    """

    mean: Array
    variance: Array
    log_variance: Array


def lookup(
    table: Float[np.ndarray, " step"], t: Int[Array, " batch"], like: Array
) -> Array:
    """Returns entries of a table with as many axes as `like`, in its type if wide.

    Steps outside of the table, which would otherwise be taken for its ends, give NaN.
    """
    values = (
        jnp.asarray(table, _wide_type(like)).at[t].get(mode="fill", fill_value=jnp.nan)
    )
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def add_noise(
    schedule: schedules.NoiseSchedule,
    x0: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
    noise: Float[Array, "batch *place channel"],
) -> Float[Array, "batch *place channel"]:
    """Returns fields after `t` + 1 steps of noise.

    Args:
      schedule: How much noise there is.
      x0: Fields of about unit variance.
      t: Steps, 0 to T - 1.
      noise: Independent normal numbers.
    """
    kept = lookup(schedule.sqrt_alphas_cumprod, t, x0)
    added = lookup(schedule.sqrt_one_minus_alphas_cumprod, t, x0)
    return _narrow(kept * _wide(x0) + added * _wide(noise), x0)


def velocity(
    schedule: schedules.NoiseSchedule,
    x0: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
    noise: Float[Array, "batch *place channel"],
) -> Float[Array, "batch *place channel"]:
    """Returns "v" of a field and the noise that was added to it."""
    kept = lookup(schedule.sqrt_alphas_cumprod, t, x0)
    added = lookup(schedule.sqrt_one_minus_alphas_cumprod, t, x0)
    return _narrow(kept * _wide(noise) - added * _wide(x0), x0)


def to_x0(
    schedule: schedules.NoiseSchedule,
    output: Float[Array, "batch *place channel"],
    x: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
    prediction: str,
) -> Float[Array, "batch *place channel"]:
    """Returns the field that a prediction about a noisy field stands for.

    Args:
      schedule: How much noise there is.
      output: What the denoiser predicts.
      x: The noisy fields.
      t: Their steps of noise.
      prediction: What `output` is: "epsilon", "x0" or "v".

    Raises:
      ValueError: `prediction` is unknown.
    """
    schedules.check_prediction(prediction)
    if prediction == "x0":
        return output
    if prediction == "epsilon":
        of_x = lookup(schedule.sqrt_recip_alphas_cumprod, t, x)
        of_noise = lookup(schedule.sqrt_recipm1_alphas_cumprod, t, x)
    else:
        of_x = lookup(schedule.sqrt_alphas_cumprod, t, x)
        of_noise = lookup(schedule.sqrt_one_minus_alphas_cumprod, t, x)
    return _narrow(of_x * _wide(x) - of_noise * _wide(output), x)


def to_noise(
    schedule: schedules.NoiseSchedule,
    output: Float[Array, "batch *place channel"],
    x: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
    prediction: str,
) -> Float[Array, "batch *place channel"]:
    """Returns the noise that a prediction about a noisy field stands for.

    Arguments and errors are those of `to_x0`.
    """
    schedules.check_prediction(prediction)
    if prediction == "epsilon":
        return output
    if prediction == "x0":
        kept = lookup(schedule.sqrt_alphas_cumprod, t, x)
        added = lookup(schedule.sqrt_one_minus_alphas_cumprod, t, x)
        return _narrow((_wide(x) - kept * _wide(output)) / added, x)
    of_x = lookup(schedule.sqrt_one_minus_alphas_cumprod, t, x)
    of_v = lookup(schedule.sqrt_alphas_cumprod, t, x)
    return _narrow(of_x * _wide(x) + of_v * _wide(output), x)


def posterior(
    schedule: schedules.NoiseSchedule,
    x0: Float[Array, "batch *place channel"],
    x: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
) -> Posterior:
    """Returns how fields with one step of noise less are distributed.

    Args:
      schedule: How much noise there is.
      x0: The fields without noise, known or predicted.
      x: The fields with noise.
      t: Their steps of noise.
    """
    of_x0 = lookup(schedule.posterior_mean_coef1, t, x)
    of_x = lookup(schedule.posterior_mean_coef2, t, x)
    return Posterior(
        mean=of_x0 * _wide(x0) + of_x * _wide(x),
        variance=lookup(schedule.posterior_variance, t, x),
        log_variance=lookup(schedule.posterior_log_variance_clipped, t, x),
    )


def denoising_step(
    schedule: schedules.NoiseSchedule,
    output: Float[Array, "batch *place channel"],
    x: Float[Array, "batch *place channel"],
    t: Int[Array, " batch"],
    noise: Float[Array, "batch *place channel"],
    *,
    prediction: str = "epsilon",
    clip: float | None = None,
    temperature: float = 1.0,
) -> Float[Array, "batch *place channel"]:
    """Returns fields with one step of noise less, each from its own step.

    It is the step of ancestral sampling (`samplers.ancestral`), for single steps and
    for batch members that are at different ones. None adds noise at step 0.

    Args:
      schedule: How much noise there is.
      output: What the denoiser predicts.
      x: The noisy fields.
      t: Their steps of noise.
      noise: Independent normal numbers.
      prediction: What `output` is.
      clip: Largest magnitude of a predicted field.
      temperature: Factor of the noise.

    Raises:
      ValueError: `prediction` is unknown.
    """
    x0 = to_x0(schedule, output, x, t, prediction)
    if clip is not None:
        x0 = jnp.clip(x0, -clip, clip)
    found = posterior(schedule, x0, x, t)
    spread = jnp.exp(found.log_variance / 2) * jnp.asarray(
        temperature, found.mean.dtype
    )
    noisy = (t > 0).reshape(-1, *(1,) * (x.ndim - 1)).astype(spread.dtype)
    return _narrow(found.mean + noisy * spread * _wide(noise), x)


def _wide_type(x: jax.Array) -> jnp.dtype:
    return jnp.dtype(jnp.float32) if x.dtype.itemsize < 4 else x.dtype


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(_wide_type(x))


def _narrow(x: jax.Array, like: jax.Array) -> jax.Array:
    return x.astype(like.dtype)
