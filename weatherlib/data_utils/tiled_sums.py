"""Sums, sums of squares and minima of a block, in pieces that stay in the cache.

Memory is slower than arithmetic: every value is fetched once, and its differences are
taken while it is still in the cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["Block", "Sums"]

# Values handled at a time: few enough for a second-level cache, and so many that calls
# of numpy weigh little.
_TILE = 1 << 18

# Points of a frame handled at a time where there are more frames, so that those a step
# apart meet in the cache.
_LONG = 1 << 13

# Values added before their sum goes on in double precision. Few enough for single
# precision, and for BLAS not to start threads of its own.
_WIDTH = 1 << 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over some values, those that are NaN left out.

    Attributes:
      shift: What was subtracted, as the work's precision has it.
      weight: Sum of the weights; the number of values where they count equally.
      total: Weighted sum of the distances from the shift. One that is not finite tells
        of values that are not, or too large.
      squares: Weighted sum of the squares of these.
      minimum: Smallest value itself, infinity where there is none.
      count: Number of values.
      missing: Number of values left out.
    """

    shift: float
    weight: float
    total: float
    squares: float
    minimum: float
    count: int
    missing: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Frames of one level, and the pairs of frames whose difference counts.

    Attributes:
      values: Shape [time, point].
      pairs: Which of the frames are the later ones, and the earlier ones, as many.
      weights: How much each point counts, shape [point]; None where all count the same.
    """

    values: np.ndarray
    pairs: Sequence[tuple[slice, np.ndarray]]
    weights: np.ndarray | None

    def sums(
        self,
        shift: float,
        change_shift: float,
        *,
        gaps: bool = False,
        precise: bool = False,
    ) -> tuple[Sums, Sums]:
        """Returns the sums of the values and of the changes, in double precision.

        Args:
          shift: What is subtracted from values.
          change_shift: What is subtracted from changes.
          gaps: Whether to look for NaN; without, they make the total one.
          precise: Whether to compute in double precision. Values of single precision
            are handled in their own otherwise, others always in double.
        """
        single = self.values.dtype == np.float32 and not precise
        work = _Workspace(np.float32 if single else np.float64, self.weights, gaps=gaps)
        values, changes = _Totals(work, shift), _Totals(work, change_shift)
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            for times, points in _tiles(self.values.shape):
                values.add_values(self.values[times, points], points)
                for later, earlier in self.pairs:
                    first = max(times.start, later.start)
                    stop = min(times.stop, later.stop)
                    if first >= stop:
                        continue
                    before = earlier[first - later.start : stop - later.start, points]
                    changes.add_changes(self.values[first:stop, points], before, points)
        return values.sums, changes.sums


class _Workspace:
    """Memory for one tile, used again and again."""

    def __init__(
        self, dtype: type[np.floating], weights: np.ndarray | None, *, gaps: bool
    ) -> None:
        self.dtype, self.weights = dtype, weights
        self._distance = np.empty(_TILE, dtype)
        self._ones = np.ones((_WIDTH, 1), dtype)
        self._sums = np.empty((2, _TILE // _WIDTH, 1, 1), dtype)
        self._rounded = None if weights is None else weights.astype(dtype)
        self._weighted = None if weights is None else np.empty(_TILE, dtype)
        self._mask = np.empty(_TILE, bool) if gaps else None

    @property
    def gaps(self) -> bool:
        """Whether NaN are looked for."""
        return self._mask is not None

    def subtract(
        self, values: np.ndarray, other: np.ndarray | np.floating
    ) -> np.ndarray:
        """Returns `values - other`, which lasts until the next call."""
        out = self._distance[: values.size].reshape(values.shape)
        return np.subtract(values, other, out=out, dtype=self.dtype)

    def blank(self, distance: np.ndarray, points: slice) -> tuple[int, float]:
        """Puts zeros in place of NaN; returns how many there were, and their weight."""
        assert self._mask is not None, "asked for only where there are gaps"
        mask = self._mask[: distance.size].reshape(distance.shape)
        np.isnan(distance, out=mask)
        lost = int(np.count_nonzero(mask))
        if not lost:
            return 0, 0.0
        np.copyto(distance, 0, where=mask)
        if self.weights is None:
            return lost, lost
        return lost, float(np.count_nonzero(mask, axis=0) @ self.weights[points])

    def sums(self, distance: np.ndarray, points: slice) -> tuple[float, float]:
        """Returns the weighted sums of what `subtract` gave and of its squares."""
        size = distance.size
        rows = -(-size // _WIDTH)
        plain = weighted = _padded(self._distance, size, rows)
        if self._weighted is not None and self._rounded is not None:
            out = self._weighted[:size].reshape(distance.shape)
            np.multiply(distance, self._rounded[points], out=out)
            weighted = _padded(self._weighted, size, rows)
        # Products of one row with one column are scalar products of BLAS.
        left = weighted.reshape(rows, 1, _WIDTH)
        np.matmul(left, self._ones, out=self._sums[0, :rows])
        np.matmul(left, plain.reshape(rows, _WIDTH, 1), out=self._sums[1, :rows])
        one, two = self._sums[:, :rows, 0, 0].sum(axis=1, dtype=np.float64)
        return float(one), float(two)


class _Totals:
    """Sums that grow tile by tile."""

    def __init__(self, work: _Workspace, shift: float) -> None:
        self._work, self._shift = work, work.dtype(shift)
        self._weight = self._total = self._squares = 0.0
        self._minimum = np.inf
        self._count = self._missing = 0

    @property
    def sums(self) -> Sums:
        """What was added."""
        return Sums(
            shift=float(self._shift),
            weight=float(self._weight),
            total=self._total,
            squares=self._squares,
            minimum=float(self._minimum),
            count=self._count - self._missing,
            missing=self._missing,
        )

    def add_values(self, values: np.ndarray, points: slice) -> None:
        """Adds values, shape [time, point]."""
        distance = self._work.subtract(values, self._shift)
        least = np.fmin.reduce(values, axis=None) if self._work.gaps else values.min()
        if least < self._minimum:
            self._minimum = least
        self._add(distance, points)

    def add_changes(
        self, later: np.ndarray, earlier: np.ndarray, points: slice
    ) -> None:
        """Adds differences, which have no minimum."""
        distance = self._work.subtract(later, earlier)
        if self._shift:
            distance -= self._shift
        self._add(distance, points)

    def _add(self, distance: np.ndarray, points: slice) -> None:
        work = self._work
        if work.gaps:
            lost, lost_weight = work.blank(distance, points)
            self._missing += lost
            self._weight -= lost_weight
        self._count += distance.size
        if work.weights is None:
            self._weight += distance.size
        else:
            self._weight += len(distance) * work.weights[points].sum()
        total, squares = work.sums(distance, points)
        self._total += total
        self._squares += squares


def _padded(buffer: np.ndarray, size: int, rows: int) -> np.ndarray:
    """Returns the used part of a buffer, filled to whole rows with zeros."""
    if size < rows * _WIDTH:
        buffer[size : rows * _WIDTH] = 0
    return buffer[: rows * _WIDTH]


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yields slices that cut [time, point] into pieces of at most `_TILE` values."""
    times, points = shape
    width = _even(points, max(_LONG, _TILE // max(1, times)))
    depth = _even(times, _TILE // width)
    for point in range(0, points, width):
        for time in range(0, times, depth):
            yield (
                slice(time, min(time + depth, times)),
                slice(point, min(point + width, points)),
            )


def _even(length: int, most: int) -> int:
    """Returns the length of equal parts, none longer than `most`."""
    parts = max(1, -(-length // most))
    return max(1, -(-length // parts))
