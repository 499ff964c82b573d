"""Resizing of images and of tables of positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weatherlib.geometry import resampling
from weatherlib.geometry.resampling import Method

__all__ = ["resize", "resize_tokens"]


def resize(
    images: Float[Array, "*batch lat lon"], rows: int, columns: int, method: Method
) -> Float[Array, "*batch rows columns"]:
    """Returns images of another size, computed in float32; see `resampling`.

    Args:
      images: The last two axes are resized, unless they have the right size.
      rows: Rows wanted.
      columns: Columns wanted.
      method: Kernel.
    """
    lat, lon = images.shape[-2:]
    x = images.astype(jnp.float32)
    highest = jax.lax.Precision.HIGHEST
    if rows != lat:
        weights = resampling.resize_weights(lat, rows, method).astype(np.float32)
        x = jnp.einsum("rh,...hw->...rw", weights, x, precision=highest)
    if columns != lon:
        weights = resampling.resize_weights(lon, columns, method).astype(np.float32)
        x = jnp.einsum("cw,...rw->...rc", weights, x, precision=highest)
    return x.astype(images.dtype)


def resize_tokens(
    tokens: Float[Array, "*batch token channel"],
    source: tuple[int, int],
    target: tuple[int, int],
    method: Method,
) -> Float[Array, "*batch new channel"]:
    """Returns tokens of one grid on another one, both row by row.

    Args:
      tokens: As many as `source` has places.
      source: Rows and columns they lie on.
      target: Rows and columns wanted.
      method: Kernel.
    """
    if source == target:
        return tokens
    *batch, _, width = tokens.shape
    fields = jnp.moveaxis(tokens.reshape(*batch, *source, width), -1, -3)
    found = jnp.moveaxis(resize(fields, *target, method), -3, -1)
    return found.reshape(*batch, target[0] * target[1], width)
