"""Convolutions with 3 x 3 kernels by the minimal filtering F(2x2, 3x3) of Winograd.

They need 2.25 times fewer products than others.

Source: Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import convolution_parts, partition
from weatherlib.nn.convolution_parts import Window

__all__ = ["convolve", "gradients", "suits"]


def suits(x: Any, w: Any, window: Window) -> bool:
    """Returns whether this is a way to compute a convolution, in float32."""
    plain = w.shape[:2] == (3, 3) and window.stride == window.dilation == 1
    return plain and x.dtype == w.dtype == jnp.float32


def convolve(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "3 3 channel output"],
    window: Window,
) -> Float[Array, "batch rows columns output"]:
    """Returns the convolution, some rows of some batch members at a time."""
    rows, columns = window.sizes(x, w)
    kernel = _kernel_tiles(w)
    pieces, size = _pieces(x, w, window)
    found = convolution_parts.mapped(lambda part: _filtered(part, kernel), pieces, size)
    found = found.reshape(len(x), -1, *found.shape[2:])
    return found[:, :rows, :columns]


def gradients(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "3 3 channel output"],
    gradient: Float[Array, "batch rows columns output"],
    window: Window,
) -> tuple[Array, Array]:
    """Returns the gradients of field and kernel, a part of the batch at a time."""
    kernel, of_kernel = jax.vjp(_kernel_tiles, w)
    pieces, of_pieces = jax.vjp(lambda x: _pieces(x, w, window)[0], x)
    _, size = _pieces(x, w, window)
    count, height = len(pieces) // len(x), pieces.shape[1] - 2
    cut = convolution_parts.blocks(_even(gradient), count, height, height)

    def pull(given: tuple[Array, Array]) -> tuple[Array, Any]:
        piece, of_result = given
        return jax.vjp(_filtered, piece, kernel)[1](of_result)

    def add(total: Any, given: tuple[Array, Array]) -> tuple[Any, Array]:
        of_piece, found = pull(given)
        return jax.tree.map(jnp.add, total, found), of_piece

    if size == len(pieces):
        found, total = pull((pieces, cut))
    else:
        zeros = jax.tree.map(jnp.zeros_like, kernel)
        total, found = jax.lax.scan(
            add, zeros, convolution_parts.cut((pieces, cut), size)
        )
        found = found.reshape(pieces.shape)
    return of_pieces(found)[0], of_kernel(total)[0]


def _pieces(x: Array, w: Array, window: Window) -> tuple[Array, int]:
    """Returns a field cut into blocks of tile rows, and how many to take at a time.

    New memory costs a CPU more than what is done in it, so it is used again and again.
    """
    rows, columns = (-(-size // 2) for size in window.sizes(x, w))
    row_bytes = 16 * 4 * columns * (w.shape[2] + w.shape[3])
    count, height = convolution_parts.even_cut(
        rows, convolution_parts.CHUNK_BYTES // row_bytes
    )
    pieces = convolution_parts.blocks(
        _even(convolution_parts.padded(x, window.padding)),
        count,
        2 * height,
        2 * height + 2,
    )
    if partition.parts(partition.BATCH) > 1:
        return pieces, len(pieces)
    # Each part adds to the gradient of the kernel, so it should not be smaller.
    least = 16 * 4 * w.shape[2] * w.shape[3]
    most = max(convolution_parts.CHUNK_BYTES, least) // (height * row_bytes)
    sizes = range(1, min(max(most, 1), len(pieces)) + 1)
    return pieces, max(size for size in sizes if len(pieces) % size == 0)


def _filtered(x: Array, kernel: list[list[Array]]) -> Array:
    batch, _, _, channels = x.shape
    rows, columns = (size // 2 - 1 for size in x.shape[1:3])
    pairs = x.reshape(batch, rows + 1, 2, columns + 1, 2, channels)

    def seen(i: int, j: int) -> Array:
        top, left = i // 2, j // 2
        return pairs[:, top : top + rows, i % 2, left : left + columns, j % 2]

    field = _on_both_axes(_of_field, [[seen(i, j) for j in range(4)] for i in range(4)])
    found = [
        [a.reshape(-1, channels) @ b for a, b in zip(*pair)]
        for pair in zip(field, kernel)
    ]
    points = _on_both_axes(_of_result, found)
    lines = [
        jnp.stack([a.reshape(batch, rows, columns, -1) for a in line], axis=3)
        for line in points
    ]
    return jnp.stack(lines, axis=2).reshape(batch, 2 * rows, 2 * columns, -1)


def _kernel_tiles(w: Array) -> list[list[Array]]:
    return _on_both_axes(_of_kernel, [[w[i, j] for j in range(3)] for i in range(3)])


def _on_both_axes(
    function: Callable[[list[Array]], list[Array]], table: list[list[Array]]
) -> list[list[Array]]:
    """Returns a table whose columns, and then rows, a function has transformed."""
    columns = [function(list(column)) for column in zip(*table)]
    return [function(list(row)) for row in zip(*columns)]


def _of_field(d: list[Array]) -> list[Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _of_kernel(g: list[Array]) -> list[Array]:
    outer = (g[0] + g[2]) * 0.5
    inner = g[1] * 0.5
    return [g[0], outer + inner, outer - inner, g[2]]


def _of_result(m: list[Array]) -> list[Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _even(x: Array) -> Array:
    """Returns a field with even numbers of rows and columns, zeros where added."""
    rows, columns = x.shape[1:3]
    if rows % 2 == 0 and columns % 2 == 0:
        return x
    return jnp.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))
