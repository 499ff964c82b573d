"""The running average of weights that diffusion models are trained with."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from weatherlib.typing import PyTree

__all__ = ["Average", "decay_at", "start", "update"]


class Average(NamedTuple):
    """Running averages.

    Attributes:
      params: Like the weights.
      updates: How often they were updated.
    """

    params: PyTree
    updates: Int[Array, ""]


def start(params: PyTree) -> Average:
    """Returns averages that begin at the given weights."""
    return Average(jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32))


def decay_at(update_count: Int[Array, ""], decay: float = 0.9999) -> Float[Array, ""]:
    """Returns the decay at an update, of which the first is 1.

    It is less at first, so that the average soon forgets where it began.

    Source: `ExponentialMovingAverage.num_updates` of TensorFlow, which latent diffusion
    and PreDiff follow.
    """
    count = update_count.astype(jnp.float32)
    return jnp.minimum(jnp.float32(decay), (count + 1) / (count + 10))


def update(average: Average, params: PyTree, decay: float = 0.9999) -> Average:
    """Returns averages that follow the weights by one update.

    Args:
      average: As they were.
      params: The weights, whose place in the average is 1 - decay.
      decay: Largest decay.
    """
    count = average.updates + 1
    share = 1 - decay_at(count, decay)

    def follow(mean: jax.Array, value: jax.Array) -> jax.Array:
        return mean - share.astype(mean.dtype) * (mean - value.astype(mean.dtype))

    return Average(jax.tree.map(follow, average.params, params), count)
