"""Ways to compute a convolution and its gradients, and which is fast on a CPU.

All forms give the same to rounding; orders of dimensions are [batch, row, column,
channel] and [kernel row, kernel column, channel, output]. On CPUs XLA has a fast
convolution for this order only. It nearly reaches the speed of the processor where
channels are few and points many. Where channels are many, the minimal filtering of
Winograd needs 2.25 times fewer products. Where points are few, one matrix product is
best: there XLA's own form has been seen to take two hundred times as long.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import convolution_parts, partition, winograd
from weatherlib.nn.convolution_parts import Window

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
    suits = winograd.suits(x, w, window)
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
        return winograd.gradients(x, w, gradient, window)
    of_x = spread(gradient, w.swapaxes(2, 3), window, (x.shape[1], x.shape[2]))
    if winograd.suits(x, w, window):
        return of_x, winograd.gradients(x, w, gradient, window)[1]
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
    x = convolution_parts.padded(x, window.padding)
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
    count, height = convolution_parts.even_cut(
        rows, convolution_parts.CHUNK_BYTES // (4 * columns * outputs)
    )
    stride, (down, right) = window.stride, window.reach(w)
    x = convolution_parts.padded(x, window.padding)[
        :, :, : right + (columns - 1) * stride + 1
    ]
    fields = convolution_parts.blocks(
        x, count, height * stride, down + (height - 1) * stride + 1
    )
    gradients = convolution_parts.blocks(gradient, count, height, height)
    turned = Window(dilation=stride, stride=window.dilation)

    def part(given: tuple[Array, Array]) -> Array:
        field, of_result = given
        field = field.transpose(3, 1, 2, 0)
        return direct(field, of_result.transpose(1, 2, 0, 3), turned)

    size = 1 if partition.parts(partition.BATCH) == 1 else len(fields)
    return convolution_parts.summed(part, (fields, gradients), size).transpose(
        1, 2, 0, 3
    )


_FORMS = {"direct": direct, "product": _product, "winograd": winograd.convolve}
