"""A U-Net: a field seen at several resolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import edges as edges_
from weatherlib.nn import norm
from weatherlib.nn.convolutions import Conv2D, ConvTranspose2D
from weatherlib.nn.edges import ZERO, Edges

__all__ = ["ConvBlock", "UNet"]


class ConvBlock(hk.Module):
    """Two convolutions, each followed by group normalisation and SiLU."""

    def __init__(
        self, channels: int, groups: int, edges: Edges, name: str = "conv_block"
    ) -> None:
        """Takes the sizes.

        Args:
          channels: Of the result.
          groups: Of channels that are normalised together.
          edges: What lies around the field.
          name: Of the module.
        """
        super().__init__(name=name)
        self._channels = channels
        self._groups = groups
        self._edges = edges

    def __call__(
        self,
        x: Float[Array, "batch lat lon channel"],
        embedding: Float[Array, "batch embedded"] | None = None,
    ) -> Float[Array, "batch lat lon output"]:
        """Returns the field after the block.

        Args:
          x: The field.
          embedding: What else is known of each batch member, such as a time of
            diffusion: after SiLU and a linear layer it is added to all points between
            the convolutions.
        """
        x = self._layer(x, 0)
        if embedding is not None:
            layer = hk.Linear(self._channels, name="embedding")
            added = layer(jax.nn.silu(embedding))
            x = x + added[:, jnp.newaxis, jnp.newaxis].astype(x.dtype)
        return self._layer(x, 1)

    @hk.transparent
    def _layer(self, x: Array, number: int) -> Array:
        conv = Conv2D(self._channels, 3, edges=self._edges, name=f"conv_{number}")
        return jax.nn.silu(norm.GroupNorm(self._groups, f"norm_{number}")(conv(x)))


class UNet(hk.Module):
    """Blocks at full, half, quarter ... resolution and back, joined at each.

    Sides that `2**depth` does not divide are filled up with the last row or column,
    which are cut off from the result. On a globe (`columns` "around") the result of a
    field turned by a multiple of `2**depth` columns, where that divides their number,
    is turned likewise.
    """

    def __init__(
        self,
        output_channels: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        groups: int = 8,
        remat: bool = False,
        name: str = "unet",
    ) -> None:
        """Takes the sizes.

        Args:
          output_channels: Of the result.
          base_channels: At full resolution; each halving doubles them.
          depth: Halvings.
          groups: Of channels that are normalised together.
          remat: Whether the backward pass computes the blocks again.
          name: Of the module.
        """
        super().__init__(name=name)
        self._output_channels = output_channels
        self._base_channels = base_channels
        self._depth = depth
        self._groups = groups
        self._remat = remat

    def __call__(
        self,
        x: Float[Array, "batch lat lon channel"],
        edges: Edges = ZERO,
        embedding: Float[Array, "batch embedded"] | None = None,
    ) -> Float[Array, "batch lat lon output"]:
        """Returns the result at each point.

        Args:
          x: The field.
          edges: How it goes on beyond its edges, at every resolution.
          embedding: As for `ConvBlock`, of all blocks.

        Raises:
          ValueError: The grid is too small for the depth.
        """
        rows, columns = x.shape[1:3]
        _check_size(rows, columns, self._depth)
        edges_.check_reach(rows, columns, 1, edges)
        x = edges_.fill_up(x, 2**self._depth)
        x = Conv2D(self._base_channels, 3, edges=edges, name="input")(x)
        levels = [edges] + [edges_.coarsened(edges)] * self._depth
        kept = []
        for level in range(self._depth):
            x = self._block(x, level, levels, embedding, f"down_{level}")
            kept.append(x)
            x = _pooled(x)
        x = self._block(x, self._depth, levels, embedding, "bottleneck")
        for number, level in enumerate(reversed(range(self._depth))):
            name = f"up_{number}"
            layer = ConvTranspose2D(
                x.shape[-1] // 2, 2, 2, edges=levels[level + 1], name=f"{name}_finer"
            )
            x = jnp.concatenate([layer(x), kept[level]], axis=-1)
            x = self._block(x, level, levels, embedding, name)
        x = Conv2D(self._output_channels, 1, name="output")(x)
        return x[:, :rows, :columns]

    @hk.transparent
    def _block(
        self,
        x: Array,
        level: int,
        levels: list[Edges],
        embedding: Array | None,
        name: str,
    ) -> Array:
        channels = self._base_channels * 2**level
        block: Callable[..., Any]
        block = ConvBlock(channels, self._groups, levels[level], name=name)
        if self._remat:
            block = hk.remat(block)
        return block(x, embedding)


def _pooled(x: Array) -> Array:
    """Returns the largest values of 2 x 2 points."""
    batch, rows, columns, channels = x.shape
    cut = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels)
    upper = jnp.maximum(cut[:, :, 0, :, 0], cut[:, :, 0, :, 1])
    return jnp.maximum(upper, jnp.maximum(cut[:, :, 1, :, 0], cut[:, :, 1, :, 1]))


def _check_size(rows: int, columns: int, depth: int) -> None:
    """Raises a ValueError where more than half of a filled-up side would be filling."""
    least, smaller = 2 ** max(depth - 1, 0), min(rows, columns)
    if smaller < least:
        raise ValueError(
            f"a U-Net of depth {depth} halves the grid {depth} times and needs at "
            f"least {least} rows and columns, found {rows} x {columns}; a depth of at "
            f"most {smaller.bit_length()} fits"
        )
