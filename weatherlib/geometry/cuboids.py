"""How cuboid attention cuts, moves, pads and masks a block of data.

All tables depend on sizes alone, so `layout` makes them once for each; networks only
index with them. What would grow with the square of a cuboid (which points may see each
other, and how they lie to each other) is kept as two rows of numbers whose comparison
or difference gives it, so that tables stay as small as the data.

Source: Gao et al. (2022), arXiv 2207.05833, and the published Earthformer code.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Int32

from weatherlib.geometry.cuboid_patterns import Cuboid, Triple

__all__ = [
    "PADDINGS",
    "Layout",
    "Padding",
    "attention_mask",
    "fitted",
    "layout",
    "nearest_indices",
    "padding_of",
    "relative_position_index",
    "reorder",
    "reverse",
]

Padding = Literal["ignore", "zeros", "nearest"]
"""What fills data up to whole cuboids. "zeros": zeros, which are attended to; "ignore":
what is never attended to; "nearest": the data stretched to the larger size."""

PADDINGS: tuple[str, ...] = get_args(Padding)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The tables of one attention layer for data of one shape. Arrays are read-only.

    Attributes:
      shape: Points of the data in time, rows and columns.
      cuboid: The cuboids as they are used, fitted to the data.
      padded: Points of the data with what is added at the end of each axis.
      stretch: Along each axis, the point of the data that each padded point takes;
        None where nothing is stretched.
      shrink: Along each axis, the padded point that each point of the result takes.
      count: Number of cuboids.
      volume: Points of a cuboid.
      query_region: Region of each point of each cuboid, as it asks. A point sees those
        of its cuboid whose `key_region` is its own. None where all see all.
      key_region: Region of each point, as it is seen.
      query_place: Places in a cuboid as numbers, so that `query_place[i] -
        key_place[j]` is the row in the table of biases for how i lies to j.
      key_place: See `query_place`.
      visible: Which points of the cuboids, one after the other, are data. None where
        all may be seen.
      visible_unordered: The same in the order of time, rows and columns, in which the
        published code takes it for points in the order of cuboids.
    """

    shape: Triple
    cuboid: Cuboid
    padded: Triple
    stretch: tuple[Int32[np.ndarray, " _"], ...] | None
    shrink: tuple[Int32[np.ndarray, " _"], ...] | None
    count: int
    volume: int
    query_region: Int32[np.ndarray, "cuboid point"] | None
    key_region: Int32[np.ndarray, "cuboid point"] | None
    query_place: Int32[np.ndarray, " point"]
    key_place: Int32[np.ndarray, " point"]
    visible: Bool[np.ndarray, " place"] | None
    visible_unordered: Bool[np.ndarray, " place"] | None

    @property
    def added(self) -> Triple:
        """Points added along each axis."""
        return tuple(p - n for p, n in zip(self.padded, self.shape))  # pyright: ignore


def fitted(cuboid: Cuboid, shape: Triple) -> Cuboid:
    """Returns a cuboid as data of a shape can have it.

    A dilated axis is not shifted, and an axis no longer than the cuboid is one cuboid.
    """
    size, shift = list(cuboid.size), list(cuboid.shift)
    for axis, length in enumerate(shape):
        if cuboid.strategy[axis] == "d":
            shift[axis] = 0
        if length <= size[axis]:
            size[axis], shift[axis] = length, 0
    return Cuboid(tuple(size), cuboid.strategy, tuple(shift))  # pyright: ignore


def padding_of(shape: Triple, size: Triple) -> Triple:
    """Returns how many points each axis lacks to be whole blocks of a size."""
    return tuple(-n % block for n, block in zip(shape, size))  # pyright: ignore


def reorder(data: Any, cuboid: Cuboid) -> Any:
    """Returns data cut into cuboids, each with its points in a row.

    Args:
      data: Array of NumPy or JAX. Shape [batch, time, lat, lon, channel].
      cuboid: Its size divides the three axes.

    Returns:
      Array of the same kind. Shape [batch, cuboid, point, channel].

    Raises:
      ValueError: An axis is no multiple of the cuboid.
    """
    batch, *shape, channel = data.shape
    if any(padding_of((shape[0], shape[1], shape[2]), cuboid.size)):
        raise ValueError(f"cuboids of {cuboid.size} do not fill data of {shape}")
    split, blocks, points = [], [], []
    for axis, (length, size) in enumerate(zip(shape, cuboid.size)):
        first, second = 2 * axis + 1, 2 * axis + 2
        if cuboid.strategy[axis] == "l":
            split += [length // size, size]
            blocks.append(first)
            points.append(second)
        else:
            split += [size, length // size]
            blocks.append(second)
            points.append(first)
    cut = data.reshape(batch, *split, channel).transpose(0, *blocks, *points, 7)
    return cut.reshape(batch, -1, math.prod(cuboid.size), channel)


def reverse(data: Any, cuboid: Cuboid, shape: Triple) -> Any:
    """Returns cuboids put together again; the inverse of `reorder`.

    Args:
      data: Array of NumPy or JAX. Shape [batch, cuboid, point, channel].
      cuboid: As given to `reorder`.
      shape: Points in time, rows and columns.

    Returns:
      Array of the same kind. Shape [batch, time, lat, lon, channel].
    """
    batch, channel = data.shape[0], data.shape[-1]
    counts = [length // size for length, size in zip(shape, cuboid.size)]
    order = [0]
    for axis in range(3):
        pair = [axis + 1, axis + 4]
        order += pair if cuboid.strategy[axis] == "l" else pair[::-1]
    cut = data.reshape(batch, *counts, *cuboid.size, channel)
    return cut.transpose(*order, 7).reshape(batch, *shape, channel)


def nearest_indices(source: int, target: int) -> Int32[np.ndarray, " target"]:
    """Returns which of `source` points each of `target` points along a line takes.

    That is point `floor(i source / target)`, computed in float32 as PyTorch does, whose
    rounding decides for a few sizes.
    """
    if target == source:
        found = np.arange(target)
    elif target == 2 * source:
        found = np.arange(target) // 2
    else:
        scale = np.float32(source) / np.float32(target)
        places = np.arange(target, dtype=np.float32) * scale
        found = np.minimum(np.floor(places), source - 1)
    return _frozen(found)


def relative_position_index(size: Sequence[int]) -> Int32[np.ndarray, "point point"]:
    """Returns the row in the table of biases for each pair of points of a cuboid.

    The table has a row for each difference along time, rows and columns, in this order.
    """
    query, key = _places((size[0], size[1], size[2]))
    return _frozen(query[:, np.newaxis] - key)


def attention_mask(
    shape: Triple, cuboid: Cuboid, padding: Padding
) -> Bool[np.ndarray, "cuboid point point"]:
    """Returns which points see each other, for a cuboid fitted to the data already.

    Args:
      shape: Points of the data in time, rows and columns.
      cuboid: How they are cut.
      padding: Padded points are never seen with "ignore".
    """
    query, key = _regions(shape, cuboid, padding)
    return query[:, :, np.newaxis] == key[:, np.newaxis, :]


@functools.lru_cache(maxsize=1024)
def layout(shape: Triple, cuboid: Cuboid, padding: Padding) -> Layout:
    """Returns the tables of an attention layer, made once for equal arguments.

    Args:
      shape: Points of the data in time, rows and columns.
      cuboid: As configured; it is fitted to the data.
      padding: What fills the last cuboids.
    """
    used = fitted(cuboid, shape)
    missing = padding_of(shape, used.size)
    padded = tuple(n + more for n, more in zip(shape, missing))
    volume = math.prod(used.size)
    stretched = padding == "nearest" and any(missing)
    query, key = _regions(shape, used, padding)
    all_see_all = not any(used.shift) and not (padding == "ignore" and any(missing))
    # Where an axis is shorter than the configured cuboid, the published code numbers
    # the points as the first ones of that cuboid.
    query_place, key_place = (_frozen(p[:volume]) for p in _places(cuboid.size))
    unordered = ordered = None
    if padding == "ignore" and any(missing):
        real = _moved(_inside(shape, padded), used.shift)
        unordered = _frozen(real.reshape(-1), bool)
        ordered = _frozen(_cut(real, used).reshape(-1), bool)
    return Layout(
        shape=shape,
        cuboid=used,
        padded=padded,  # pyright: ignore
        stretch=_each(nearest_indices, shape, padded) if stretched else None,
        shrink=_each(nearest_indices, padded, shape) if stretched else None,
        count=math.prod(padded) // volume,
        volume=volume,
        query_region=None if all_see_all else query,
        key_region=None if all_see_all else key,
        query_place=query_place,
        key_place=key_place,
        visible=ordered,
        visible_unordered=unordered,
    )


def _each(function: Any, *values: Sequence[int]) -> tuple[np.ndarray, ...]:
    return tuple(function(*row) for row in zip(*values))


def _frozen(array: np.ndarray, dtype: Any = np.int32) -> np.ndarray:
    """Returns a read-only copy."""
    array = np.array(array, dtype)
    array.setflags(write=False)
    return array


def _places(size: Triple) -> tuple[np.ndarray, np.ndarray]:
    """Returns numbers whose differences are rows of the table of biases."""
    spans = [2 * n - 1 for n in size]
    steps = np.array([spans[1] * spans[2], spans[2], 1])
    points = np.indices(size).reshape(3, -1)
    key = steps @ points
    return key + int(steps @ (np.array(size) - 1)), key


def _inside(shape: Triple, padded: Sequence[int]) -> np.ndarray:
    """Returns where padded data is data."""
    found = np.zeros(tuple(padded), bool)
    found[tuple(slice(n) for n in shape)] = True
    return found


def _moved(array: np.ndarray, shift: Triple) -> np.ndarray:
    return np.roll(array, tuple(-n for n in shift), (0, 1, 2))


def _cut(array: np.ndarray, cuboid: Cuboid) -> np.ndarray:
    """Returns numbers at points in the order of cuboids, shape [cuboid, point]."""
    return reorder(array[np.newaxis, ..., np.newaxis], cuboid)[0, ..., 0]


def _regions(
    shape: Triple, cuboid: Cuboid, padding: Padding
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the regions of points as they ask and as they are seen.

    Cuboids at the end of a shifted axis hold points from both ends, which do not see
    each other. The regions of an axis are what lies before the last cuboid, the first
    part of that, and the rest, as long as the shift.
    """
    missing = padding_of(shape, cuboid.size)
    padded = tuple(n + more for n, more in zip(shape, missing))
    found = np.zeros(padded, np.int32)
    for axis, length in enumerate(padded):
        size, shift = cuboid.size[axis], cuboid.shift[axis]
        along = np.zeros(length, np.int32)
        along[length - size :] = 1
        # Without a shift the rest is everything.
        along[max(length - shift, 0) if shift else 0 :] = 2
        across = [1, 1, 1]
        across[axis] = length
        found = found * 3 + along.reshape(across)
    query = _cut(found, cuboid)
    if padding != "ignore" or not any(missing):
        return _frozen(query), _frozen(query)
    seen = _cut(_moved(_inside(shape, padded), cuboid.shift), cuboid)
    # Two numbers that nothing else has, and that differ, so that nothing agrees.
    return _frozen(np.where(seen, query, -1)), _frozen(np.where(seen, query, -2))
