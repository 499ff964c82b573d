"""Functions of fields applied to overlapping tiles, so that memory stays bounded.

Tiles are weighted by ramps over their overlap, and all weights at a point add up to 1.
So a function that treats each point on its own gives the same numbers as without tiles;
one that sees neighbours, or norms a whole tile, gives nearly the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["Tiles", "crop", "map_tiles", "pad_to_multiple"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiles:
    """How fields are cut, in points of the latent field.

    Attributes:
      size: Rows and columns of a tile.
      overlap: Rows and columns that neighbouring tiles share at least.
      around: Whether the first column follows the last, as on a globe, so that no seam
        is left there.

    Raises:
      ValueError: The sizes are out of range.
    """

    size: int = 64
    overlap: int = 16
    around: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.overlap < self.size:
            raise ValueError(
                "tiles need a size of at least 1 and an overlap below it, found "
                f"{self.size} and {self.overlap}"
            )


class _Axis(NamedTuple):
    """Where tiles begin along an axis, and their weights."""

    size: int
    starts: np.ndarray
    weights: np.ndarray
    beyond: int


def map_tiles(
    function: Callable[[Array], Array],
    x: Float[Array, "batch lat lon channel"],
    tiles: Tiles,
    *,
    shrink: int = 1,
    grow: int = 1,
) -> Float[Array, "batch rows columns output"]:
    """Returns `function(x)`, computed one tile after the other.

    Args:
      function: Takes a tile of `x` and returns one that is `shrink` times smaller and
        `grow` times larger along both sides.
      x: The fields.
      tiles: How to cut. Fields that are no larger than a tile are taken as they are.
      shrink: Points of `x` along a side for one of the latent field.
      grow: Points of the result along a side for one of the latent field.

    Raises:
      ValueError: `shrink` does not divide the field.
    """
    rows, columns = x.shape[1:3]
    if rows % shrink or columns % shrink:
        raise ValueError(f"{shrink} does not divide a field of {rows}x{columns}")
    down = _axis(rows // shrink, tiles, grow, around=False)
    along = _axis(columns // shrink, tiles, grow, around=tiles.around)
    if len(down.starts) == len(along.starts) == 1:
        return function(x)
    if along.beyond:
        x = jnp.concatenate([x, x[:, :, : along.beyond * shrink]], axis=2)
    height, width = down.size * shrink, along.size * shrink
    tile = jax.ShapeDtypeStruct((x.shape[0], height, width, x.shape[3]), x.dtype)
    made = jax.eval_shape(function, tile)
    whole = jnp.zeros(
        (
            x.shape[0],
            rows // shrink * grow,
            (columns // shrink + along.beyond) * grow,
            made.shape[-1],
        ),
        jnp.float32,
    )
    row, column = np.indices((len(down.starts), len(along.starts))).reshape(2, -1)

    def add(whole: Array, place: tuple[Array, Array, Array, Array]) -> tuple:
        top, left, of_row, of_column = place
        zero = jnp.zeros((), top.dtype)
        at = (zero, top * shrink, left * shrink, zero)
        found = function(jax.lax.dynamic_slice(x, at, tile.shape))
        weight = (of_row[:, None] * of_column[None])[None, :, :, None]
        at = (zero, top * grow, left * grow, zero)
        held = jax.lax.dynamic_slice(whole, at, made.shape)
        held = held + weight * found.astype(jnp.float32)
        return jax.lax.dynamic_update_slice(whole, held, at), None

    places = (
        jnp.asarray(down.starts[row], jnp.int32),
        jnp.asarray(along.starts[column], jnp.int32),
        jnp.asarray(down.weights[row], jnp.float32),
        jnp.asarray(along.weights[column], jnp.float32),
    )
    whole, _ = jax.lax.scan(add, whole, places)
    if along.beyond:
        end, beyond = columns // shrink * grow, along.beyond * grow
        folded = whole[:, :, :beyond] + whole[:, :, end:]
        whole = jnp.concatenate([folded, whole[:, :, beyond:end]], axis=2)
    return whole.astype(made.dtype)


def _axis(length: int, tiles: Tiles, grow: int, around: bool) -> _Axis:
    """Returns the tiles along an axis of so many latent points."""
    size = min(tiles.size, length)
    if size == length:
        return _Axis(size, np.zeros(1, np.int64), np.ones((1, size * grow)), 0)
    if around:
        count = -(-length // (size - tiles.overlap))
        starts = np.arange(count) * length // count
    else:
        count = -(-(length - tiles.overlap) // (size - tiles.overlap))
        starts = np.arange(count) * (length - size) // (count - 1)
    # A ramp as wide as the smallest overlap that the tiles have.
    gaps = np.diff(np.append(starts, starts[0] + length) if around else starts)
    ramp = int(size - gaps.max()) * grow
    point = np.arange(size * grow)
    weights = np.minimum(np.minimum(point, point[::-1]) + 0.5, max(ramp, 0.5))
    places = (starts[:, None] * grow + point) % (length * grow)
    total = np.zeros(length * grow)
    np.add.at(total, places, np.broadcast_to(weights, places.shape))
    return _Axis(size, starts, weights / total[places], size if around else 0)


def pad_to_multiple(
    x: Float[Array, "batch lat lon channel"], step: int, *, around: bool = False
) -> Float[Array, "batch rows columns channel"]:
    """Returns fields with rows below and columns to the right up to a multiple.

    The last row is repeated; so is the last column, or the first ones follow it.

    Args:
      x: The fields.
      step: What shall divide rows and columns.
      around: Whether the first column follows the last, as on a globe.

    Raises:
      ValueError: More columns are lacking than there are to follow.
    """
    below, beyond = -x.shape[1] % step, -x.shape[2] % step
    if around and beyond > x.shape[2]:
        raise ValueError(
            f"{x.shape[2]} columns cannot be continued to a multiple of {step}"
        )
    x = jnp.pad(x, ((0, 0), (0, below), (0, 0), (0, 0)), mode="edge")
    if around:
        return jnp.concatenate([x, x[:, :, :beyond]], axis=2)
    return jnp.pad(x, ((0, 0), (0, 0), (0, beyond), (0, 0)), mode="edge")


def crop(
    x: Float[Array, "batch lat lon channel"], rows: int, columns: int
) -> Float[Array, "batch rows columns channel"]:
    """Returns the first rows and columns, undoing `pad_to_multiple`."""
    return x[:, :rows, :columns]
