"""Count, mean, spread and minimum of values that arrive block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

__all__ = ["Moments"]

# Values handled at a time: in double precision they fit a second-level cache.
_TILE = 1 << 17

Tile = tuple[slice, slice, slice]


@dataclasses.dataclass
class Moments:
    """Moments of values on levels, merged without loss of precision.

    Sums run in double precision, around the mean of a piece that fits the cache, so
    that neither large offsets nor long series spoil small deviations.

    Attributes:
      weight: Sum of weights; the number of values where they count equally. [level]
      mean: Weighted mean. [level]
      squares: Weighted sum of squared deviations from the mean. [level]
      minimum: Smallest value, infinity before there is one. [level]
      count: Values added. [level]
      missing: Values left out because they were NaN. [level]

    Source: Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm
    for computing sample variances.
    """

    weight: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    count: np.ndarray
    missing: np.ndarray

    @classmethod
    def empty(cls, levels: int) -> Moments:
        """Returns the moments of no value at all."""
        return cls(
            weight=np.zeros(levels),
            mean=np.zeros(levels),
            squares=np.zeros(levels),
            minimum=np.full(levels, np.inf),
            count=np.zeros(levels, np.int64),
            missing=np.zeros(levels, np.int64),
        )

    @property
    def stddev(self) -> np.ndarray:
        """The standard deviation, NaN where there is no value. Shape [level]."""
        unknown = np.full(self.weight.shape, np.nan)
        known = self.weight > 0
        return np.sqrt(np.divide(self.squares, self.weight, out=unknown, where=known))

    @property
    def known_mean(self) -> np.ndarray:
        """The mean, NaN where there is no value. Shape [level]."""
        return np.where(self.weight > 0, self.mean, np.nan)

    @property
    def known_minimum(self) -> np.ndarray:
        """The smallest value, NaN where there is none. Shape [level]."""
        return np.where(self.count > 0, self.minimum, np.nan)

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Adds values, NaNs left out and counted.

        Args:
          values: Any numbers, shape [time, level, point].
          weights: How much each point counts, shape [point]. Default: one.

        Raises:
          ValueError: A value is infinite.
        """
        for tile in _tiles(values.shape):
            piece = np.array(values[tile], np.float64)
            self._add_piece(piece, None if weights is None else weights[tile[2]], tile)

    def add_changes(
        self,
        later: np.ndarray,
        earlier: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        """Adds `later - earlier`, as `add` does. Both of shape [time, level, point]."""
        for tile in _tiles(later.shape):
            piece = np.array(later[tile], np.float64)
            piece -= earlier[tile]
            self._add_piece(piece, None if weights is None else weights[tile[2]], tile)

    def merge(self, other: Moments, levels: slice = slice(None)) -> None:
        """Adds the moments of other values, which may stand for some levels only."""
        total = self.weight[levels] + other.weight
        share = np.divide(
            other.weight, total, out=np.zeros_like(total), where=total > 0
        )
        shift = other.mean - self.mean[levels]
        self.squares[levels] += other.squares + shift**2 * self.weight[levels] * share
        self.mean[levels] += shift * share
        self.weight[levels] = total
        self.minimum[levels] = np.minimum(self.minimum[levels], other.minimum)
        self.count[levels] += other.count
        self.missing[levels] += other.missing

    def _add_piece(
        self, piece: np.ndarray, weights: np.ndarray | None, tile: Tile
    ) -> None:
        """Adds a small block, whose values are overwritten."""
        found = _whole(piece, weights)
        if not np.isfinite(found.mean).all():
            # `_whole` overwrites only finite blocks.
            found = _with_gaps(piece, weights)
        self.merge(found, tile[1])


def _tiles(shape: tuple[int, ...]) -> Iterator[Tile]:
    """Yields slices that cut [time, level, point] into pieces of at most `_TILE`."""
    times, levels, points = shape
    width = min(points, _TILE) or 1
    height = max(1, min(levels, _TILE // width))
    depth = max(1, _TILE // (width * height))
    for time in range(0, times, depth):
        for level in range(0, levels, height):
            for point in range(0, points, width):
                yield (
                    slice(time, time + depth),
                    slice(level, min(level + height, levels)),
                    slice(point, point + width),
                )


def _whole(piece: np.ndarray, weights: np.ndarray | None) -> Moments:
    """Returns the moments of a block without gaps; it is overwritten if it has none."""
    times, levels, points = piece.shape
    minimum = piece.min(axis=2).min(axis=0)
    weight = float(times * points) if weights is None else times * weights.sum()
    mean = _total(piece, weights) / (weight or np.nan)
    if np.isfinite(mean).all():
        piece -= mean[np.newaxis, :, np.newaxis]
        np.square(piece, out=piece)
    return Moments(
        weight=np.full(levels, weight),
        mean=mean,
        squares=_total(piece, weights),
        minimum=minimum,
        count=np.full(levels, times * points, np.int64),
        missing=np.zeros(levels, np.int64),
    )


def _with_gaps(piece: np.ndarray, weights: np.ndarray | None) -> Moments:
    """Returns the moments of the values that are not NaN.

    Raises:
      ValueError: A value is infinite.
    """
    known = ~np.isnan(piece)
    if np.isinf(piece).any():
        raise ValueError("infinite values; mark what is missing as NaN")
    each = known.astype(np.float64)
    weight = _total(each, weights)
    minimum = np.where(known, piece, np.inf).min(axis=(0, 2))
    piece = np.where(known, piece, 0.0)
    mean = np.divide(
        _total(piece, weights), weight, out=np.zeros_like(weight), where=weight > 0
    )
    piece -= mean[np.newaxis, :, np.newaxis]
    piece *= each
    np.square(piece, out=piece)
    return Moments(
        weight=weight,
        mean=mean,
        squares=_total(piece, weights),
        minimum=minimum,
        count=known.sum(axis=(0, 2)),
        missing=(~known).sum(axis=(0, 2)),
    )


def _total(piece: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Returns the weighted sum over time and points. Shape [level]."""
    by_row = piece.sum(axis=2) if weights is None else piece @ weights
    return by_row.sum(axis=0)
