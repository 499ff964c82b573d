"""How kernels move over fields, and fields cut into parts that memory is reused for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import partition

__all__ = [
    "CHUNK_BYTES",
    "Window",
    "blocks",
    "cut",
    "even_cut",
    "mapped",
    "padded",
    "summed",
]

CHUNK_BYTES = 8 * 2**20
"""Memory that a part should not exceed."""


@dataclasses.dataclass(frozen=True)
class Window:
    """How a kernel moves over a field.

    Attributes:
      dilation: Distance between the points that it looks at.
      stride: Distance between the points at which the result is computed.
      padding: Rows, and columns, of zeros on each side of the field.
    """

    dilation: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    def reach(self, w: Any) -> tuple[int, int]:
        """Returns how many rows and columns a kernel covers beyond its first."""
        return self.dilation * (w.shape[0] - 1), self.dilation * (w.shape[1] - 1)

    def sizes(self, x: Any, w: Any) -> tuple[int, int]:
        """Returns the rows and columns of a result; none where the field is smaller."""
        rows, columns = (
            max((size + 2 * pad - reach - 1) // self.stride + 1, 0)
            for size, pad, reach in zip(x.shape[1:3], self.padding, self.reach(w))
        )
        return rows, columns


def even_cut(length: int, most: int) -> tuple[int, int]:
    """Returns into how many parts of what length to cut, where `most` is the longest.

    Several devices that share a batch have it whole: they would wait for each other.
    """
    if partition.parts(partition.BATCH) > 1:
        return 1, length
    count = -(-length // max(most, 1))
    return count, -(-length // count)


def blocks(
    x: Float[Array, "batch lat lon channel"], count: int, step: int, length: int
) -> Float[Array, "block rows lon channel"]:
    """Returns a field cut into `count` blocks of rows, zeros where it ends before.

    Args:
      x: Shape [batch, row, column, channel].
      count: Blocks.
      step: Rows from the start of one to that of the next.
      length: Rows of each.

    Returns:
      Shape [batch * count, length, column, channel].
    """
    missing = (count - 1) * step + length - x.shape[1]
    if missing > 0:
        x = jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))
    parts = [x[:, i * step : i * step + length] for i in range(count)]
    return jnp.stack(parts, axis=1).reshape(-1, length, *x.shape[2:])


def padded(
    x: Float[Array, "batch lat lon channel"], padding: tuple[int, int]
) -> Float[Array, "batch rows columns channel"]:
    """Returns a field with rows and columns of zeros on each side."""
    if padding == (0, 0):
        return x
    up, left = padding
    return jnp.pad(x, ((0, 0), (up, up), (left, left), (0, 0)))


def cut(tree: Any, size: int) -> Any:
    """Returns arrays of a batch as parts of it, `size` members each."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def mapped(
    function: Callable[[Array], Array], x: Float[Array, "batch ..."], size: int
) -> Float[Array, "batch ..."]:
    """Returns a function of a batch, `size` members at a time."""
    if size == len(x):
        return function(x)
    found = jax.lax.map(function, cut(x, size))
    return found.reshape(-1, *found.shape[2:])


def summed(function: Callable[[Any], Array], given: Any, size: int) -> Array:
    """Returns the sum of a function over parts of a batch of `size` members."""
    parts = cut(given, size)
    first = jax.tree.map(lambda x: x[0], parts)
    if len(parts[0]) == 1:
        return function(first)
    shape = jax.eval_shape(function, first)
    zeros = jnp.zeros(shape.shape, shape.dtype)
    return jax.lax.scan(lambda t, p: (t + function(p), None), zeros, parts)[0]
