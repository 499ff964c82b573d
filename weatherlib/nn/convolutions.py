"""Convolutions that are as fast on a CPU as elsewhere, in a loop as outside of one.

Which form computes them is chosen by the device and by the sizes; see
`convolution_forms`. On other devices than CPUs XLA's own convolution is taken.
"""

from __future__ import annotations

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.nn import convolution_forms as forms
from weatherlib.nn.edges import ZERO, Edges, surround

__all__ = ["Conv2D", "ConvTranspose2D", "convolve", "convolve_transposed"]


def convolve(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    dilation: int = 1,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Float[Array, "batch rows columns output"]:
    """Returns the convolution at those points whose whole neighbourhood is there.

    Reverse-mode derivatives of any order are supported, forward-mode ones are not.

    Args:
      x: The field.
      w: Weights of the points of the neighbourhood.
      dilation: Distance between these points, in rows and columns.
      stride: Distance between the points of the result, in rows and columns.
      padding: Rows and columns of zeros to add on each side first, fewer than the
        kernel covers.

    Raises:
      ValueError: The field is smaller than the kernel, or the padding is wider.
    """
    window = forms.Window(dilation, stride, (padding, padding))
    if padding > min(window.reach(w)):
        raise ValueError(
            f"padding of {padding} is wider than a kernel of {w.shape[0]} x "
            f"{w.shape[1]} points reaches"
        )
    if not min(window.sizes(x, w)):
        rows, columns = (reach + 1 for reach in window.reach(w))
        raise ValueError(
            f"a field of {x.shape[1]} x {x.shape[2]} points is smaller than the "
            f"{rows} x {columns} that the kernel covers"
        )
    return _convolve(x, w, window)


def convolve_transposed(
    x: Float[Array, "batch lat lon channel"],
    w: Float[Array, "kernel_rows kernel_columns channel output"],
    *,
    stride: int,
    padding: int = 0,
) -> Float[Array, "batch rows columns output"]:
    """Returns a field that is finer by `stride`: a transposed convolution.

    Point i adds `x[i] @ w[k]` to the points `i * stride - padding + k`, as in PyTorch's
    `ConvTranspose2d`. Derivatives as for `convolve`.

    Args:
      x: The coarse field.
      w: Weights of the points that a point adds to.
      stride: Distance between the points of `x` in the result.
      padding: Rows and columns of the result that are cut off on each side.
    """
    window = forms.Window(stride=stride, padding=(padding, padding))
    rows, columns = (
        (count - 1) * stride + kernel - 2 * padding
        for count, kernel in zip(x.shape[1:3], w.shape)
    )
    sizes = (rows, columns)
    if min(sizes) < 1:
        raise ValueError(
            f"padding of {padding} leaves nothing of a field of {x.shape[1]} x "
            f"{x.shape[2]} points with stride {stride}"
        )
    if w.shape[:2] == (stride, stride):
        return forms.sub_pixel(x, w, window, sizes)
    return _spread(x, w, window, sizes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, w: Array, window: forms.Window) -> Array:
    return jax.lax.platform_dependent(
        x,
        w,
        cpu=functools.partial(forms.convolve_on_cpu, window=window),
        default=functools.partial(forms.direct, window=window),
    )


def _convolve_forward(
    x: Array, w: Array, window: forms.Window
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, w, window), (x, w)


def _convolve_backward(
    window: forms.Window, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    def elsewhere(x: Array, w: Array, gradient: Array) -> tuple[Array, Array]:
        form = functools.partial(forms.direct, window=window)
        return jax.vjp(form, x, w)[1](gradient)

    return jax.lax.platform_dependent(
        *saved,
        gradient,
        cpu=functools.partial(forms.gradients_on_cpu, window=window),
        default=elsewhere,
    )


_convolve.defvjp(_convolve_forward, _convolve_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _spread(x: Array, w: Array, window: forms.Window, sizes: tuple[int, int]) -> Array:
    return jax.lax.platform_dependent(
        x,
        w,
        cpu=functools.partial(forms.spread, window=window, sizes=sizes),
        default=functools.partial(forms.spread_directly, window=window, sizes=sizes),
    )


def _spread_forward(
    x: Array, w: Array, window: forms.Window, sizes: tuple[int, int]
) -> tuple[Array, tuple[Array, Array]]:
    return _spread(x, w, window, sizes), (x, w)


def _spread_backward(
    window: forms.Window,
    sizes: tuple[int, int],
    saved: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    def on_cpu(x: Array, w: Array, gradient: Array) -> tuple[Array, Array]:
        turned = w.swapaxes(2, 3)
        _, of_w = forms.gradients_on_cpu(gradient, turned, x, window)
        of_x = forms.convolve_on_cpu(gradient, turned, window)
        return of_x, of_w.swapaxes(2, 3)

    def elsewhere(x: Array, w: Array, gradient: Array) -> tuple[Array, Array]:
        form = functools.partial(forms.spread_directly, window=window, sizes=sizes)
        return jax.vjp(form, x, w)[1](gradient)

    return jax.lax.platform_dependent(*saved, gradient, cpu=on_cpu, default=elsewhere)


_spread.defvjp(_spread_forward, _spread_backward)


class Conv2D(hk.Module):
    """A layer of `convolve` and a bias, with the parameters of Haiku's `Conv2D`."""

    def __init__(
        self,
        output_channels: int,
        kernel_shape: int,
        dilation: int = 1,
        *,
        stride: int = 1,
        edges: Edges | None = None,
        name: str = "conv2_d",
    ) -> None:
        """Takes the sizes.

        Args:
          output_channels: Channels of the result.
          kernel_shape: Points along a side of the kernel.
          dilation: Distance between these points.
          stride: Distance between the points of the result.
          edges: What lies around the field, so that the result is as large, or smaller
            by `stride`; for kernels with a middle. None convolves where the whole
            neighbourhood is there.
          name: Of the module.

        Raises:
          ValueError: With edges, the kernel is an even number of points wide.
        """
        super().__init__(name=name)
        if edges is not None and kernel_shape % 2 == 0:
            raise ValueError(
                f"a kernel of {kernel_shape} points has no middle to be centred by; "
                "take an odd number, or no edges"
            )
        self._output_channels = output_channels
        self._kernel_shape = kernel_shape
        self._dilation = dilation
        self._stride = stride
        self._edges = edges

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        """Returns the convolution, without edges smaller by what the kernel reaches."""
        kernel, channels = self._kernel_shape, self._output_channels
        scale = 1 / np.sqrt(kernel * kernel * x.shape[-1])
        w, b = _parameters(x, kernel, channels, scale)
        padding = 0
        if self._edges is not None:
            reach = self._dilation * (kernel // 2)
            padding = reach if self._edges == ZERO else 0
            x = surround(x, reach - padding, self._edges)
        y = convolve(x, w, self._dilation, stride=self._stride, padding=padding)
        return y + jnp.broadcast_to(b, (1, 1, 1, len(b)))


class ConvTranspose2D(hk.Module):
    """A layer of `convolve_transposed` and a bias; the result is `stride` times finer.

    The points that a coarse point adds to lie evenly around the `stride` x `stride`
    points that it becomes. With a kernel as wide as the stride it adds to those only.
    """

    def __init__(
        self,
        output_channels: int,
        kernel_shape: int,
        stride: int,
        *,
        edges: Edges = ZERO,
        name: str = "conv_transpose2_d",
    ) -> None:
        """Takes the sizes.

        Args:
          output_channels: Channels of the result.
          kernel_shape: Points along a side that a point adds to.
          stride: How much finer the result is.
          edges: What lies around the coarse field.
          name: Of the module.

        Raises:
          ValueError: The kernel is smaller than the stride, or cannot lie evenly.
        """
        super().__init__(name=name)
        beyond = kernel_shape - stride
        if beyond < 0 or beyond % 2:
            raise ValueError(
                f"a kernel of {kernel_shape} points does not lie evenly around a "
                f"stride of {stride}; take {stride}, {stride + 2}, ... points"
            )
        self._output_channels = output_channels
        self._kernel_shape = kernel_shape
        self._stride = stride
        self._padding = beyond // 2
        self._edges = edges

    def __call__(
        self, x: Float[Array, "batch lat lon channel"]
    ) -> Float[Array, "batch rows columns output"]:
        """Returns the finer field."""
        kernel, stride = self._kernel_shape, self._stride
        scale = stride / np.sqrt(kernel * kernel * x.shape[-1])
        w, b = _parameters(x, kernel, self._output_channels, scale)
        # Points around the field that add to points inside.
        reach = 0 if self._edges == ZERO else -(-self._padding // stride)
        x = surround(x, reach, self._edges)
        padding = self._padding + reach * stride
        y = convolve_transposed(x, w, stride=stride, padding=padding)
        return y + jnp.broadcast_to(b, (1, 1, 1, len(b)))


def _parameters(
    x: Array, kernel: int, channels: int, scale: float
) -> tuple[Array, Array]:
    init = hk.initializers.TruncatedNormal(scale)
    shape = (kernel, kernel, x.shape[-1], channels)
    w = hk.get_parameter("w", shape, x.dtype, init=init)
    return w, hk.get_parameter("b", (channels,), x.dtype, init=jnp.zeros)
