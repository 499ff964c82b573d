"""Blocks of a vision transformer, with the layer names of published ones."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import attention, mlp

__all__ = ["Block", "LayerNorm", "dropout", "patches", "unpatch"]

_INIT = hk.initializers.RandomNormal(0.02)


class LayerNorm(hk.Module):
    """Scales the channels of each token to mean 0 and variance 1; epsilon is 1e-5."""

    def __call__(
        self, x: Float[Array, "*rows channel"]
    ) -> Float[Array, "*rows channel"]:
        """Returns `x` normalised, scaled and moved."""
        width = x.shape[-1]
        weights = mlp.NormWeights(
            scale=hk.get_parameter("scale", (width,), x.dtype, init=jnp.ones),
            offset=hk.get_parameter("offset", (width,), x.dtype, init=jnp.zeros),
        )
        return mlp.normalize(weights, x)


class Block(hk.Module):
    """A transformer block that normalises before attention and before its perceptron.

    `x + attn(norm1(x))`, then `x + mlp(norm2(x))`, with exact GELU.
    """

    def __init__(
        self,
        heads: int,
        hidden: int,
        *,
        drop_rate: float = 0.0,
        drop_path: float = 0.0,
        name: str = "block",
    ) -> None:
        """Takes the sizes.

        Args:
          heads: Attention heads.
          hidden: Channels inside the perceptron.
          drop_rate: Dropout after attention and after both layers of the perceptron.
          drop_path: Share of batch members that skip attention, or the perceptron.
          name: Of the module.
        """
        super().__init__(name=name)
        self._heads = heads
        self._hidden = hidden
        self._drop_rate = drop_rate
        self._drop_path = drop_path

    def __call__(
        self, x: Float[Array, "batch token channel"], is_training: bool = False
    ) -> Float[Array, "batch token channel"]:
        """Returns the tokens after the block.

        Args:
          x: Tokens.
          is_training: Whether anything is dropped, which draws from the Haiku key
            stream.
        """
        rate = self._drop_rate if is_training else 0.0
        path = self._drop_path if is_training else 0.0
        y = attention.SelfAttention(self._heads, name="attn")(LayerNorm("norm1")(x))
        x = x + _skip(dropout(y, rate), path)
        y = _Mlp(self._hidden, name="mlp")(LayerNorm("norm2")(x), rate)
        return x + _skip(y, path)


class _Mlp(hk.Module):
    """Two layers with exact GELU between them."""

    def __init__(self, hidden: int, name: str) -> None:
        super().__init__(name=name)
        self._hidden = hidden

    def __call__(self, x: Array, rate: float) -> Array:
        width = x.shape[-1]
        first = mlp.Linear(self._hidden, name="fc1", w_init=_INIT)
        second = mlp.Linear(width, name="fc2", w_init=_INIT)
        x = attention.linear(x, first.weights(width, x.dtype))
        x = dropout(jax.nn.gelu(x, approximate=False), rate)
        x = attention.linear(x, second.weights(self._hidden, x.dtype))
        return dropout(x, rate)


def dropout(x: Float[Array, "*axes"], rate: float) -> Float[Array, "*axes"]:
    """Returns `x` with a share of its elements silenced and the others scaled up."""
    return hk.dropout(hk.next_rng_key(), rate, x) if rate else x


def _skip(x: Array, rate: float) -> Array:
    """Returns `x` with a share of the batch silenced and the others scaled up."""
    if not rate:
        return x
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    kept = jax.random.bernoulli(hk.next_rng_key(), 1 - rate, shape)
    return x * kept.astype(x.dtype) * jnp.asarray(1 / (1 - rate), x.dtype)


def patches(
    fields: Float[Array, "batch field lat lon"], size: int
) -> Float[Array, "batch token field pixel"]:
    """Returns fields cut into squares, row by row, and each square row by row.

    Args:
      fields: Sides are multiples of `size`.
      size: Grid points along a side of a square.
    """
    batch, count, lat, lon = fields.shape
    cut = fields.reshape(batch, count, lat // size, size, lon // size, size)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(batch, -1, count, size * size)


def unpatch(
    tokens: Float[Array, "batch token pixel field"], rows: int, size: int
) -> Float[Array, "batch field lat lon"]:
    """Returns the fields whose squares the tokens hold; the inverse of `patches`.

    Args:
      tokens: Row by row, the field last.
      rows: Rows of squares.
      size: Grid points along a side of a square.
    """
    batch, count, _, fields = tokens.shape
    columns = count // rows
    cut = tokens.reshape(batch, rows, columns, size, size, fields)
    return cut.transpose(0, 5, 1, 3, 2, 4).reshape(
        batch, fields, rows * size, columns * size
    )
