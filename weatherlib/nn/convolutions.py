"""Convolutions whose gradients are as fast in a loop as outside of one.

XLA for CPUs has a fast convolution for one order of dimensions only, [batch, row,
column, channel], and brings others into that order at the outermost level of a program
only. JAX's own gradients of a convolution have another order, so that in the loop of a
rollout they take some thirty times as long. Those given here keep the fast order.
"""

from __future__ import annotations

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["Conv2D", "convolve"]


def convolve(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    dilation: int = 1,
    *,
    padding: int = 0,
) -> Float[Array, "batch rows columns output"]:
    """Returns the convolution at those points whose whole neighbourhood is there.

    Reverse-mode derivatives of any order are supported, forward-mode ones are not.

    Args:
      x: The field.
      w: Weights of the points of the neighbourhood.
      dilation: Distance between these points, in rows and columns.
      padding: Rows and columns of zeros on each side of the field, at most as many as
        the kernel reaches.
    """
    return _convolve(x, w, dilation, (padding, padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, w: Array, dilation: int, padding: tuple[int, int]) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=(1, 1),
        padding=[(pad, pad) for pad in padding],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(
    x: Array, w: Array, dilation: int, padding: tuple[int, int]
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, w, dilation, padding), (x, w)


def _backward(
    dilation: int,
    padding: tuple[int, int],
    saved: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    x, w = saved
    height, width = w.shape[:2]
    up, left = padding
    around = (dilation * (height - 1) - up, dilation * (width - 1) - left)
    of_x = _convolve(gradient, jnp.flip(w, (0, 1)).swapaxes(2, 3), dilation, around)
    x = jnp.pad(x, ((0, 0), (up, up), (left, left), (0, 0)))
    rows, columns = gradient.shape[1:3]

    def of_point(row: int, column: int) -> Array:
        first, start = row * dilation, column * dilation
        seen = x[:, first : first + rows, start : start + columns]
        return jnp.einsum("nhwi,nhwo->io", seen, gradient)

    of_w = jnp.stack(
        [jnp.stack([of_point(i, j) for j in range(width)]) for i in range(height)]
    )
    return of_x, of_w


_convolve.defvjp(_forward, _backward)


class Conv2D(hk.Module):
    """A layer of `convolve` and a bias, with the parameters of Haiku's `Conv2D`."""

    def __init__(
        self,
        output_channels: int,
        kernel_shape: int,
        dilation: int = 1,
        name: str = "conv2_d",
    ) -> None:
        """Takes the channels of the result, the points along a side, their distance."""
        super().__init__(name=name)
        self._output_channels = output_channels
        self._kernel_shape = kernel_shape
        self._dilation = dilation

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        """Returns the field, smaller by what the neighbourhoods reach over its edge."""
        shape = (self._kernel_shape, self._kernel_shape, x.shape[-1])
        scale = 1 / np.sqrt(np.prod(shape))
        w = hk.get_parameter(
            "w",
            (*shape, self._output_channels),
            x.dtype,
            init=hk.initializers.TruncatedNormal(scale),
        )
        b = hk.get_parameter("b", (self._output_channels,), x.dtype, init=jnp.zeros)
        return convolve(x, w, self._dilation) + jnp.broadcast_to(b, (1, 1, 1, len(b)))
