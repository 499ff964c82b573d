"""Convolutions over time, rows and columns."""

from __future__ import annotations

import math

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn import convolutions, projections

__all__ = ["Conv2D", "Conv3D", "convolve_2d", "convolve_3d", "fold_time"]


def convolve_3d(
    x: Float[Array, "batch time lat lon channel"],
    w: Float[Array, "times rows columns channel output"],
) -> Float[Array, "batch time lat lon output"]:
    """Returns the convolution of `x` with zeros around, of the same shape.

    Args:
      x: The field.
      w: Weights of the points of the neighbourhood, an odd number along each axis.
    """
    if jax.default_backend() == "cpu":
        return fold_time(x, w)
    return jax.lax.conv_general_dilated(
        x, w, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


def fold_time(
    x: Float[Array, "batch time lat lon channel"],
    w: Float[Array, "times rows columns channel output"],
) -> Float[Array, "batch time lat lon output"]:
    """Returns `convolve_3d` by a convolution over rows and columns alone.

    The frames around each frame are joined to it as channels. On a CPU that takes four
    fifths of the time of a convolution in three dimensions, and its gradients do not
    become tens of times slower in a loop.
    """
    batch, times, lat, lon, channels = x.shape
    span, rows, columns = w.shape[:3]
    before, up, left = span // 2, rows // 2, columns // 2
    around = ((0, 0), (before, before), (up, up), (left, left), (0, 0))
    padded = jnp.pad(x, around)
    joined = jnp.concatenate([padded[:, i : i + times] for i in range(span)], axis=-1)
    joined = joined.reshape(batch * times, *joined.shape[2:])
    kernel = w.transpose(1, 2, 0, 3, 4).reshape(rows, columns, span * channels, -1)
    found = convolutions.convolve(joined, kernel)
    return found.reshape(batch, times, lat, lon, -1)


def convolve_2d(
    x: Float[Array, "*batch lat lon channel"],
    w: Float[Array, "rows columns channel output"],
) -> Float[Array, "*batch lat lon output"]:
    """Returns the convolution of each frame with zeros around, of the same shape."""
    lead, shape = x.shape[:-3], x.shape[-3:]
    up, left = w.shape[0] // 2, w.shape[1] // 2
    around = ((0, 0), (up, up), (left, left), (0, 0))
    found = convolutions.convolve(jnp.pad(x.reshape(-1, *shape), around), w)
    return found.reshape(*lead, *shape[:2], -1)


class Conv3D(hk.Module):
    """A layer of `convolve_3d` and a bias, with a cube of points as neighbourhood."""

    def __init__(
        self,
        outputs: int,
        name: str,
        *,
        size: int = 3,
        init: projections.InitMode = "torch",
    ) -> None:
        """Takes the channels of the result and the points along a side, an odd number.

        Args:
          outputs: Channels of the result.
          name: Of the module.
          size: Points along a side of the neighbourhood.
          init: How the weights begin.
        """
        super().__init__(name=name)
        self._outputs = outputs
        self._size = size
        self._init: projections.InitMode = init

    def __call__(
        self, x: Float[Array, "batch time lat lon channel"]
    ) -> Float[Array, "batch time lat lon output"]:
        """Returns the result, of the same shape but for channels."""
        w, b = _weights(x, (self._size,) * 3, self._outputs, self._init)
        return convolve_3d(x, w) + b.reshape(1, 1, 1, 1, -1)


class Conv2D(hk.Module):
    """A layer of `convolve_2d` and a bias, with a square of points as neighbourhood."""

    def __init__(
        self,
        outputs: int,
        name: str,
        *,
        size: int = 3,
        init: projections.InitMode = "torch",
    ) -> None:
        """Takes the channels of the result and the points along a side, an odd number.

        Args:
          outputs: Channels of the result.
          name: Of the module.
          size: Points along a side of the neighbourhood.
          init: How the weights begin.
        """
        super().__init__(name=name)
        self._outputs = outputs
        self._size = size
        self._init: projections.InitMode = init

    def __call__(
        self, x: Float[Array, "*batch lat lon channel"]
    ) -> Float[Array, "*batch lat lon output"]:
        """Returns the result, of the same shape but for channels."""
        w, b = _weights(x, (self._size,) * 2, self._outputs, self._init)
        return convolve_2d(x, w) + b.reshape((1,) * (x.ndim - 1) + (-1,))


def _weights(
    x: Array, kernel: tuple[int, ...], outputs: int, mode: projections.InitMode
) -> tuple[Array, Array]:
    """Returns kernel and bias."""
    points = math.prod(kernel)
    fan_in, fan_out = points * x.shape[-1], points * outputs
    init = projections.first_weights(mode, fan_in, fan_out)
    shape = (*kernel, x.shape[-1], outputs)
    w = hk.get_parameter("w", shape, x.dtype, init=init)
    init = projections.first_bias(mode, fan_in)
    return w, hk.get_parameter("b", (outputs,), x.dtype, init=init)
