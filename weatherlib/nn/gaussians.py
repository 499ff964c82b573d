"""Distributions of independent normal numbers, as autoencoders predict them."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["DiagonalGaussian", "from_moments"]

_LOG_VARIANCE_RANGE = (-30.0, 20.0)


class DiagonalGaussian(NamedTuple):
    """A normal distribution for each number of a latent field.

    Attributes:
      mean: Shape [batch, lat, lon, channel], or any other with the batch first.
      log_variance: Of the same shape, clamped to [-30, 20].
    """

    mean: Array
    log_variance: Array

    @property
    def variance(self) -> Array:
        """Its square is the mean squared distance from the mean."""
        return jnp.exp(self.log_variance)

    @property
    def deviation(self) -> Array:
        """The root of the variance."""
        return jnp.exp(self.log_variance * jnp.asarray(0.5, self.log_variance.dtype))

    def mode(self) -> Array:
        """Returns the likeliest field, which is the mean."""
        return self.mean

    def sample(self, noise: Array) -> Array:
        """Returns a field drawn by means of independent normal numbers."""
        return self.mean + self.deviation * noise.astype(self.mean.dtype)

    def draw(self, key: Array) -> Array:
        """Returns a field drawn by means of a key."""
        return self.sample(jax.random.normal(key, self.mean.shape, self.mean.dtype))

    def kl(self, other: DiagonalGaussian | None = None) -> Float[Array, " batch"]:
        """Returns the divergence from another, summed over each batch member.

        Args:
          other: The other; numbers of mean 0 and variance 1 by default.

        Returns:
          Nats, float32.
        """
        mean, log_variance = (part.astype(jnp.float32) for part in self)
        if other is None:
            terms = jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance
        else:
            to_mean, to_log = (part.astype(jnp.float32) for part in other)
            terms = (
                (jnp.square(mean - to_mean) + jnp.exp(log_variance)) / jnp.exp(to_log)
                - 1
                - log_variance
                + to_log
            )
        return 0.5 * terms.sum(tuple(range(1, terms.ndim)))

    def nll(self, field: Array) -> Float[Array, " batch"]:
        """Returns minus the logarithm of the density at a field, for each member.

        Args:
          field: Shape as the mean.

        Returns:
          Nats, float32.
        """
        mean, log_variance = (part.astype(jnp.float32) for part in self)
        squared = jnp.square(field.astype(jnp.float32) - mean)
        terms = math.log(2 * math.pi) + log_variance + squared / jnp.exp(log_variance)
        return 0.5 * terms.sum(tuple(range(1, terms.ndim)))


def from_moments(moments: Float[Array, "*place moment"]) -> DiagonalGaussian:
    """Returns the distribution that channels describe: means, then log-variances."""
    mean, log_variance = jnp.split(moments, 2, axis=-1)
    low, high = _LOG_VARIANCE_RANGE
    return DiagonalGaussian(mean, jnp.clip(log_variance, low, high))
