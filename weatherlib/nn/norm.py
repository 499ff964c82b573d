"""Norms over groups of channels, with the numbers of PyTorch's."""

from __future__ import annotations

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["GroupNorm", "group_norm"]


def group_norm(
    x: Float[Array, "batch *place channel"],
    groups: int,
    scale: Float[Array, " channel"],
    offset: Float[Array, " channel"],
    epsilon: float = 1e-5,
) -> Float[Array, "batch *place channel"]:
    """Returns `x` with mean 0 and variance 1 over each group, scaled and moved.

    Every batch member is normalised on its own, over all its points. Computed in
    float32.

    Args:
      x: Values.
      groups: Number of groups of neighbouring channels, which divides theirs.
      scale: Factor of each channel.
      offset: Added to each channel.
      epsilon: Added to the variance.

    Raises:
      ValueError: The groups do not divide the channels.

    Source: Wu and He (2018), arXiv 1803.08494; `torch.nn.GroupNorm`.
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels")
    points = x.astype(jnp.float32).reshape(x.shape[0], -1, channels)
    centred = points - _group_mean(points, groups)
    variance = _group_mean(jnp.square(centred), groups)
    spread = jnp.sqrt(variance + jnp.float32(epsilon))
    factor = scale.astype(jnp.float32).reshape(1, 1, -1) / spread
    moved = centred * factor + offset.astype(jnp.float32).reshape(1, 1, -1)
    return moved.reshape(x.shape).astype(x.dtype)


def _group_mean(points: Array, groups: int) -> Array:
    """Returns the mean over points and groups, for each channel again."""
    batch, _, channels = points.shape
    mean = points.mean(1).reshape(batch, groups, channels // groups)
    mean = jnp.broadcast_to(mean.mean(-1, keepdims=True), mean.shape)
    return mean.reshape(batch, 1, channels)


class GroupNorm(hk.Module):
    """A layer of `group_norm`, whose scale begins at 1 and its offset at 0."""

    def __init__(
        self, groups: int, name: str = "group_norm", epsilon: float = 1e-5
    ) -> None:
        """Takes the number of groups, and what is added to the variance."""
        super().__init__(name=name)
        self._groups = groups
        self._epsilon = epsilon

    def __call__(
        self, x: Float[Array, "batch *place channel"]
    ) -> Float[Array, "batch *place channel"]:
        """Returns `x` normalised."""
        shape = x.shape[-1:]
        scale = hk.get_parameter("scale", shape, x.dtype, init=jnp.ones)
        offset = hk.get_parameter("offset", shape, x.dtype, init=jnp.zeros)
        return group_norm(x, self._groups, scale, offset, self._epsilon)
