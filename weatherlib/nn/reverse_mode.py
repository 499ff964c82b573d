"""Layers of perceptrons with a backward pass of their own, for training on CPUs.

What JAX derives keeps several arrays of every layer and reads them in many small loops,
which on a CPU costs more than the products. Written out, a layer keeps its input, the
normalised output and one number a row, and a gradient takes two thirds of the time.
Such functions have no forward mode, so they are used only where training asks for it.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from weatherlib.nn.channel_mean import channel_mean

__all__ = ["is_active", "layer", "suits", "use"]

_active: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "weatherlib_reverse_mode", default=False
)

_Residuals = tuple[Array, Array | None, Array, Array | None, Array | None]


@contextlib.contextmanager
def use() -> Iterator[None]:
    """Says that what is traced inside is differentiated in reverse mode, if at all."""
    token = _active.set(True)
    try:
        yield
    finally:
        _active.reset(token)


def is_active() -> bool:
    """Returns whether tracing happens inside `use`."""
    return _active.get()


def suits(dtype: Any) -> bool:
    """Returns whether layers of this type are to be computed by `layer`."""
    return is_active() and dtype == jnp.float32 and jax.default_backend() == "cpu"


def layer(
    w: Float[Array, "hidden output"],
    b: Float[Array, " output"],
    scale: Float[Array, " output"] | None,
    offset: Float[Array, " output"] | None,
    x: Float[Array, "*rows hidden"],
    epsilon: float,
) -> Float[Array, "*rows output"]:
    """Returns the normalised `swish(x) @ w + b`.

    Args:
      w: Matrix.
      b: Bias.
      scale: Of the norm; None leaves the norm out.
      offset: Of the norm; None leaves the norm out.
      x: What the layer before gives, shape [..., hidden].
      epsilon: Added to the variance.
    """
    # As rows, so that products and sums are of matrices.
    rows = x.reshape(-1, x.shape[-1])
    found = _layer(w, b, scale, offset, rows, epsilon)
    return found.reshape(*x.shape[:-1], found.shape[-1])


def _forward(
    w: Array,
    b: Array,
    scale: Array | None,
    offset: Array | None,
    x: Array,
    epsilon: float,
) -> tuple[Array, _Residuals]:
    output = jax.nn.swish(x) @ w + b[None]
    if scale is None or offset is None:
        return output, (w, None, x, None, None)
    centred = output - channel_mean(output)
    inverse = jax.lax.rsqrt(channel_mean(centred * centred) + epsilon)
    normalized = centred * inverse
    output = normalized * scale[None] + offset[None]
    return output, (w, scale, x, normalized, inverse)


def _backward(
    epsilon: float, residuals: _Residuals, change: Array
) -> tuple[Array | None, ...]:
    del epsilon
    w, scale, x, normalized, inverse = residuals
    for_scale = for_offset = None
    if scale is not None:
        assert normalized is not None and inverse is not None, "kept with the scale"
        product = change * normalized
        for_scale, for_offset = product.sum(0), change.sum(0)
        share = (scale / len(scale))[:, None]
        change = inverse * (
            change * scale[None] - change @ share - normalized * (product @ share)
        )
    gate = jax.nn.sigmoid(x)
    hidden = x * gate
    slope = gate + hidden * (1 - gate)
    for_x = (change @ w.T) * slope
    return hidden.T @ change, change.sum(0), for_scale, for_offset, for_x


def _only_forward(*arguments: Any) -> Array:
    return _forward(*arguments)[0]


_layer = jax.custom_vjp(_only_forward, nondiff_argnums=(5,))
_layer.defvjp(_forward, _backward)
