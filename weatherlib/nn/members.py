"""The mean of several networks, each of which learns from its own samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["apply"]


def apply(
    networks: Sequence[Callable[[Array], Array]],
    x: Array,
    *,
    axis: int,
    is_training: bool,
) -> Array:
    """Returns the mean of what networks make of an array.

    Args:
      networks: Each keeps the batch where it is.
      x: What they see.
      axis: Of the batch.
      is_training: Whether each sees only its own share of a batch that can be divided
        evenly; the result then holds one share after the other.
    """
    count, batch = len(networks), x.shape[axis]
    apart = is_training and batch > 0 and batch % count == 0
    shares = jnp.split(x, count, axis=axis) if apart else [x] * count
    outputs = [network(share) for network, share in zip(networks, shares)]
    if apart:
        return jnp.concatenate(outputs, axis=axis)
    return functools.reduce(jnp.add, outputs) * (1 / count)
