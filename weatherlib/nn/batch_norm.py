"""Batch normalisation whose running statistics are parameters.

Predictors are functions of parameters alone, so running statistics cannot be Haiku
state. They are parameters with a gradient of their own: in training it is what they
differ by from the statistics of the batch, whatever the loss. A descent with rate
`MOMENTUM` on just these parameters makes them PyTorch's running averages with this
momentum; `weatherlib.training` does so with any optimiser.
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["MOMENTUM", "RUNNING", "BatchNorm"]

MOMENTUM = 0.1
"""Share of a batch in the running statistics."""

_MEAN, _VARIANCE = "moving_mean", "moving_variance"

RUNNING = (_MEAN, _VARIANCE)
"""Names of the parameters that are running statistics."""

_EPSILON = 1e-5


class BatchNorm(hk.Module):
    """Scales each channel to mean 0 and variance 1 over batch and points.

    As PyTorch's `BatchNorm2d`: in training by the statistics of the batch, otherwise by
    the running ones, for which the variance is the unbiased one. They are computed in
    float32. Where a batch lies on several devices its statistics are those of all.
    """

    def __call__(
        self, x: Float[Array, "batch lat lon channel"], is_training: bool = False
    ) -> Float[Array, "batch lat lon channel"]:
        """Returns the field normalised, scaled and moved.

        Args:
          x: The field.
          is_training: Whether the statistics are those of the batch.

        Raises:
          ValueError: In training there is only one value of each channel.
        """
        shape = x.shape[-1:]
        scale = hk.get_parameter("scale", shape, x.dtype, init=jnp.ones)
        offset = hk.get_parameter("offset", shape, x.dtype, init=jnp.zeros)
        # Asked for in float32, so that casts leave them alone.
        mean = hk.get_parameter(_MEAN, shape, jnp.float32, init=jnp.zeros)
        variance = hk.get_parameter(_VARIANCE, shape, jnp.float32, init=jnp.ones)
        values = x.astype(jnp.float32)
        if is_training:
            count = x.size // x.shape[-1]
            if count < 2:
                raise ValueError(
                    "batch normalisation needs more than one value of each channel in "
                    f"training, found a field of shape {x.shape}; take larger batches"
                )
            moving = mean, variance
            mean = values.mean((0, 1, 2))
            variance = jnp.square(values - _row(mean)).mean((0, 1, 2))
            unbiased = variance * (count / (count - 1))
            found = jax.tree.map(jax.lax.stop_gradient, (mean, unbiased))
            values = _follow(values, moving, found)
        else:
            mean, variance = jax.lax.stop_gradient((mean, variance))
        factor = jax.lax.rsqrt(variance.astype(jnp.float32) + _EPSILON)
        factor = _row(factor * scale.astype(jnp.float32))
        y = (values - _row(mean)) * factor + _row(offset)
        return y.astype(x.dtype)


@jax.custom_vjp
def _follow(x: Array, moving: tuple[Array, Array], found: tuple[Array, Array]) -> Array:
    """Returns `x`, and gives running statistics their gradient."""
    del moving, found
    return x


def _follow_forward(
    x: Array, moving: tuple[Array, Array], found: tuple[Array, Array]
) -> tuple[Array, tuple[tuple[Array, Array], tuple[Array, Array]]]:
    return x, (moving, found)


def _follow_backward(
    saved: tuple[tuple[Array, Array], tuple[Array, Array]], gradient: Array
) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
    moving, found = saved
    steps = jax.tree.map(
        lambda old, new: (old.astype(jnp.float32) - new).astype(old.dtype),
        moving,
        found,
    )
    return gradient, steps, jax.tree.map(jnp.zeros_like, found)


_follow.defvjp(_follow_forward, _follow_backward)


def _row(values: Float[Array, " channel"]) -> Float[Array, "1 1 1 channel"]:
    return values.astype(jnp.float32)[jnp.newaxis, jnp.newaxis, jnp.newaxis]
