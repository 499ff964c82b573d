"""The mean over channels, as fast as the device allows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["channel_mean"]


def channel_mean(x: Float[Array, "*rows channel"]) -> Float[Array, "*rows 1"]:
    """Returns the mean over channels, which stay as an axis of 1.

    Takes shape [..., channel], returns shape [..., 1].
    """
    if x.dtype != jnp.float32 or jax.default_backend() != "cpu":
        return x.mean(-1, keepdims=True)
    # A product with ones takes half the time of a sum there.
    share = jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)
    return jnp.matmul(x, share, precision=jax.lax.Precision.HIGHEST)
