"""Ways to compute a convolution and its gradients, and which is fast on a CPU.

All forms give the same to rounding; orders of dimensions are [batch, row, column,
channel] and [kernel row, kernel column, channel, output]. On CPUs XLA has a fast
convolution for this order only. It nearly reaches the speed of the processor where
channels are few and points many. Where channels are many, the minimal filtering of
Winograd needs 2.25 times fewer products. Where points are few, one matrix product is
best: there XLA's own form has been seen to take two hundred times as long.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import partition

__all__ = [
    "Window",
    "choose",
    "convolve_on_cpu",
    "direct",
    "gradients_on_cpu",
    "spread",
    "spread_directly",
    "sub_pixel",
]

# Measured on one core with AVX-512, batches of 16 and 2 x 4 to 32 x 64 points.
_FEW_TILES = 48
_WINOGRAD_WIDTH = 96
_CHUNK_BYTES = 8 * 2**20


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


def choose(x: Any, w: Any, window: Window) -> str:
    """Returns the form that is fast on a CPU: "direct", "product" or "winograd".

    Args:
      x: Field, or its shape and dtype.
      w: Kernel, or its shape and dtype.
      window: How the kernel moves.
    """
    rows, columns = window.sizes(x, w)
    tiles = x.shape[0] * -(-rows // 2) * -(-columns // 2)
    if tiles <= _FEW_TILES or (w.shape[:2] == (1, 1) and window == Window()):
        return "product"
    suits = _suits_winograd(x, w, window)
    wide = min(w.shape[2:]) >= _WINOGRAD_WIDTH
    return "winograd" if suits and wide else "direct"


def convolve_on_cpu(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    window: Window,
) -> Float[Array, "batch rows columns output"]:
    """Returns the convolution by the form that `choose` names."""
    return _FORMS[choose(x, w, window)](x, w, window)


def gradients_on_cpu(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    gradient: Float[Array, "batch rows columns output"],
    window: Window,
) -> tuple[Array, Array]:
    """Returns the gradients of the field and of the kernel.

    Args:
      x: The field.
      w: The kernel.
      gradient: That of the result.
      window: How the kernel moves.
    """
    form = choose(x, w, window)
    if form == "product":
        return jax.vjp(functools.partial(_product, window=window), x, w)[1](gradient)
    if form == "winograd":
        return _winograd_gradients(x, w, gradient, window)
    of_x = spread(gradient, w.swapaxes(2, 3), window, (x.shape[1], x.shape[2]))
    if _suits_winograd(x, w, window):
        return of_x, _winograd_gradients(x, w, gradient, window)[1]
    return of_x, _kernel_gradient(x, w, gradient, window)


def direct(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    window: Window,
) -> Float[Array, "batch rows columns output"]:
    """Returns the convolution as XLA computes it."""
    up, left = window.padding
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=(window.stride, window.stride),
        padding=((up, up), (left, left)),
        rhs_dilation=(window.dilation, window.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def spread(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    window: Window,
    sizes: tuple[int, int],
) -> Float[Array, "batch rows columns output"]:
    """Returns what a transposed convolution makes of a field, on a CPU.

    Point i of the field adds to the points `i * stride - padding + k * dilation`.

    Args:
      x: The field.
      w: The kernel, from channels of the field to those of the result.
      window: How the kernel moves over the result.
      sizes: Rows and columns of the result.
    """
    if window.stride == 1:
        up, left = window.reach(w)
        around = (up - window.padding[0], left - window.padding[1])
        turned = Window(dilation=window.dilation, padding=around)
        return convolve_on_cpu(x, jnp.flip(w, (0, 1)), turned)
    if window.dilation > 1:
        return spread_directly(x, w, window, sizes)
    return sub_pixel(x, w, window, sizes)


def spread_directly(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    window: Window,
    sizes: tuple[int, int],
) -> Float[Array, "batch rows columns output"]:
    """Returns what `spread` does, as XLA computes it."""
    padding = []
    for size, count, pad, reach in zip(
        sizes, x.shape[1:3], window.padding, window.reach(w)
    ):
        before = reach - pad
        padding.append((before, size - 1 - (count - 1) * window.stride + pad))
    return jax.lax.conv_general_dilated(
        x,
        jnp.flip(w, (0, 1)),
        window_strides=(1, 1),
        padding=padding,
        lhs_dilation=(window.stride, window.stride),
        rhs_dilation=(window.dilation, window.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def sub_pixel(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    window: Window,
    sizes: tuple[int, int],
) -> Float[Array, "batch rows columns output"]:
    """Returns `spread` as a convolution whose channels are then laid side by side.

    With a kernel as wide as the stride it is a matrix product.
    """
    stride = window.stride
    taps = [-(-size // stride) for size in w.shape[:2]]
    missing = [count * stride - size for count, size in zip(taps, w.shape)]
    w = jnp.pad(w, ((0, missing[0]), (0, missing[1]), (0, 0), (0, 0)))
    channels, outputs = w.shape[2:]
    w = w.reshape(taps[0], stride, taps[1], stride, channels, outputs)
    w = jnp.flip(w.transpose(0, 2, 4, 1, 3, 5), (0, 1))
    w = w.reshape(*taps, channels, stride * stride * outputs)
    y = convolve_on_cpu(x, w, Window(padding=(taps[0] - 1, taps[1] - 1)))
    batch, rows, columns, _ = y.shape
    y = y.reshape(batch, rows, columns, stride, stride, outputs)
    y = y.transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(batch, rows * stride, columns * stride, outputs)
    (up, left), lengths = window.padding, y.shape[1:3]
    lacking = [
        max(first + size - length, 0)
        for first, size, length in zip((up, left), sizes, lengths)
    ]
    if any(lacking):
        y = jnp.pad(y, ((0, 0), (0, lacking[0]), (0, lacking[1]), (0, 0)))
    return y[:, up : up + sizes[0], left : left + sizes[1]]


def _product(x: Array, w: Array, window: Window) -> Array:
    """Returns the convolution as one matrix product of all neighbourhoods."""
    rows, columns = window.sizes(x, w)
    x = _padded(x, window.padding)
    stride = window.stride

    def seen(i: int, j: int) -> Array:
        top, left = i * window.dilation, j * window.dilation
        stop = top + (rows - 1) * stride + 1, left + (columns - 1) * stride + 1
        return x[:, top : stop[0] : stride, left : stop[1] : stride]

    points = [seen(i, j) for i in range(w.shape[0]) for j in range(w.shape[1])]
    field = jnp.concatenate(points, axis=-1) if len(points) > 1 else points[0]
    size = field.shape[-1]
    found = field.reshape(-1, size) @ w.reshape(size, -1)
    return found.reshape(*field.shape[:3], -1)


def _kernel_gradient(x: Array, w: Array, gradient: Array, window: Window) -> Array:
    """Returns the gradient of the kernel as a convolution by that of the result.

    The kernel is where the points of both are, and the batch takes the place of the
    channels. A batch member, or some rows of it, at a time is fastest.
    """
    rows, columns, outputs = gradient.shape[1:]
    count, height = _even_cut(rows, _CHUNK_BYTES // (4 * columns * outputs))
    stride, (down, right) = window.stride, window.reach(w)
    x = _padded(x, window.padding)[:, :, : right + (columns - 1) * stride + 1]
    fields = _blocks(x, count, height * stride, down + (height - 1) * stride + 1)
    gradients = _blocks(gradient, count, height, height)
    turned = Window(dilation=stride, stride=window.dilation)

    def part(given: tuple[Array, Array]) -> Array:
        field, of_result = given
        field = field.transpose(3, 1, 2, 0)
        return direct(field, of_result.transpose(1, 2, 0, 3), turned)

    size = 1 if partition.parts(partition.BATCH) == 1 else len(fields)
    return _summed(part, (fields, gradients), size).transpose(1, 2, 0, 3)


def _winograd(x: Array, w: Array, window: Window) -> Array:
    """Returns the convolution with a 3 x 3 kernel by minimal filtering F(2x2, 3x3).

    Source: Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks".
    """
    rows, columns = window.sizes(x, w)
    kernel = _kernel_tiles(w)
    pieces, size = _pieces(x, w, window)
    found = _mapped(lambda part: _filtered(part, kernel), pieces, size)
    found = found.reshape(len(x), -1, *found.shape[2:])
    return found[:, :rows, :columns]


def _winograd_gradients(
    x: Array, w: Array, gradient: Array, window: Window
) -> tuple[Array, Array]:
    """Returns the gradients of `_winograd`, a part of the batch at a time."""
    kernel, of_kernel = jax.vjp(_kernel_tiles, w)
    pieces, of_pieces = jax.vjp(lambda x: _pieces(x, w, window)[0], x)
    _, size = _pieces(x, w, window)
    count, height = len(pieces) // len(x), pieces.shape[1] - 2
    gradients = _blocks(_even(gradient), count, height, height)

    def pull(given: tuple[Array, Array]) -> tuple[Array, Any]:
        piece, of_result = given
        return jax.vjp(_filtered, piece, kernel)[1](of_result)

    def add(total: Any, given: tuple[Array, Array]) -> tuple[Any, Array]:
        of_piece, found = pull(given)
        return jax.tree.map(jnp.add, total, found), of_piece

    if size == len(pieces):
        found, total = pull((pieces, gradients))
    else:
        zeros = jax.tree.map(jnp.zeros_like, kernel)
        total, found = jax.lax.scan(add, zeros, _cut((pieces, gradients), size))
        found = found.reshape(pieces.shape)
    return of_pieces(found)[0], of_kernel(total)[0]


def _pieces(x: Array, w: Array, window: Window) -> tuple[Array, int]:
    """Returns a field cut into blocks of tile rows, and how many to take at a time.

    New memory costs a CPU more than what is done in it, so it is used again and again.
    """
    rows, columns = (-(-size // 2) for size in window.sizes(x, w))
    row_bytes = 16 * 4 * columns * (w.shape[2] + w.shape[3])
    count, height = _even_cut(rows, _CHUNK_BYTES // row_bytes)
    pieces = _blocks(
        _even(_padded(x, window.padding)), count, 2 * height, 2 * height + 2
    )
    if partition.parts(partition.BATCH) > 1:
        return pieces, len(pieces)
    # Each part adds to the gradient of the kernel, so it should not be smaller.
    least = 16 * 4 * w.shape[2] * w.shape[3]
    most = max(_CHUNK_BYTES, least) // (height * row_bytes)
    sizes = range(1, min(max(most, 1), len(pieces)) + 1)
    return pieces, max(size for size in sizes if len(pieces) % size == 0)


def _even_cut(length: int, most: int) -> tuple[int, int]:
    """Returns into how many parts of what length to cut, where `most` is the longest.

    Several devices that share a batch have it whole: they would wait for each other.
    """
    if partition.parts(partition.BATCH) > 1:
        return 1, length
    count = -(-length // max(most, 1))
    return count, -(-length // count)


def _blocks(x: Array, count: int, step: int, length: int) -> Array:
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


def _suits_winograd(x: Any, w: Any, window: Window) -> bool:
    plain = w.shape[:2] == (3, 3) and window.stride == window.dilation == 1
    return plain and x.dtype == w.dtype == jnp.float32


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


def _padded(x: Array, padding: tuple[int, int]) -> Array:
    if padding == (0, 0):
        return x
    up, left = padding
    return jnp.pad(x, ((0, 0), (up, up), (left, left), (0, 0)))


def _even(x: Array) -> Array:
    """Returns a field with even numbers of rows and columns, zeros where added."""
    rows, columns = x.shape[1:3]
    if rows % 2 == 0 and columns % 2 == 0:
        return x
    return jnp.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))


def _cut(tree: Any, size: int) -> Any:
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def _mapped(function: Callable[[Array], Array], x: Array, size: int) -> Array:
    """Returns a function of a batch, `size` members at a time."""
    if size == len(x):
        return function(x)
    found = jax.lax.map(function, _cut(x, size))
    return found.reshape(-1, *found.shape[2:])


def _summed(function: Callable[[Any], Array], given: Any, size: int) -> Array:
    """Returns the sum of a function over parts of a batch of `size` members."""
    parts = _cut(given, size)
    first = jax.tree.map(lambda x: x[0], parts)
    if len(parts[0]) == 1:
        return function(first)
    shape = jax.eval_shape(function, first)
    zeros = jnp.zeros(shape.shape, shape.dtype)
    return jax.lax.scan(lambda t, p: (t + function(p), None), zeros, parts)[0]


_FORMS = {"direct": direct, "product": _product, "winograd": _winograd}
