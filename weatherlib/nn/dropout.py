"""Elements silenced at random, so that a network leans on no one of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["silence"]


def silence(
    x: Float[Array, "*axes"], rate: float, key: Array | None
) -> Float[Array, "*axes"]:
    """Returns `x` with a share of its elements zero and the others scaled up.

    Args:
      x: Anything.
      rate: The share, in [0, 1).
      key: Random key; None silences nothing.
    """
    if key is None or not rate:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x * jnp.asarray(1 / (1 - rate), x.dtype), jnp.zeros_like(x))
