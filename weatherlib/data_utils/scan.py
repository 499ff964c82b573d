"""Moments of one stretch of a series, and of its changes over a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import xarray

from weatherlib.data_utils import moments, progress, series
from weatherlib.geometry import sphere

__all__ = ["Scan", "moments_of", "point_weights", "row_weights"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """A stretch and the pairs of frames whose difference counts for it.

    Attributes:
      piece: What to read.
      weights: Of each point; None where all count the same.
      earlier: For each frame of the stretch the one that is a step earlier, -1 where
        there is none.
      begin: First frame of the period; the stretch reads from there on at most, to
        know the frames a step before its first.
    """

    piece: series.Piece
    weights: np.ndarray | None
    earlier: np.ndarray
    begin: int

    @classmethod
    def of(
        cls,
        piece: series.Piece,
        weights: np.ndarray | None,
        earlier: np.ndarray,
        begin: int,
    ) -> Scan:
        """Returns the scan of a piece of a series with pairs given for all frames."""
        inside = earlier[piece.first : piece.stop]
        if not piece.varies:
            inside = np.full(1, -1)
        return cls(piece=piece, weights=weights, earlier=inside, begin=begin)

    @property
    def lag(self) -> int:
        """The most frames that lie between the two of a pair, 0 without pairs."""
        back = np.arange(self.piece.first, self.piece.stop) - self.earlier
        return int(back[self.earlier >= 0].max(initial=0))

    def runs(self, first: int, stop: int, held: range) -> Iterator[tuple[slice, slice]]:
        """Yields slices of a block and of the frames held that make pairs.

        Args:
          first: First frame of the block.
          stop: The frame after its last.
          held: Frames among which the earlier ones are looked for.
        """
        earlier = self.earlier[first - self.piece.first : stop - self.piece.first]
        later = np.flatnonzero((earlier >= held.start) & (earlier < held.stop))
        if not later.size:
            return
        jumps = (np.diff(later) != 1) | (np.diff(earlier[later]) != 1)
        for run in np.split(later, np.flatnonzero(jumps) + 1):
            begin = int(earlier[run[0]]) - held.start
            yield slice(run[0], run[-1] + 1), slice(begin, begin + len(run))


def moments_of(scan: Scan) -> tuple[moments.Moments, moments.Moments]:
    """Returns the moments of the values of a stretch, and of its changes.

    Raises:
      ValueError: A value is infinite.
      OSError: Values cannot be read.
    """
    piece, lag = scan.piece, scan.lag
    held, held_from = np.empty(0), piece.first
    if lag and scan.begin < piece.first:
        held_from = max(scan.begin, piece.first - lag)
        held = piece.series.read(held_from, piece.first)
    values = changes = None
    try:
        for first, stop in piece.blocks():
            block = piece.series.read(first, stop)
            if values is None or changes is None:
                levels = block.shape[1]
                values = moments.Moments.empty(levels)
                changes = moments.Moments.empty(levels)
            pairs = []
            if lag:
                for frames, start in ((held, held_from), (block, first)):
                    known = range(start, start + len(frames))
                    for now, then in scan.runs(first, stop, known):
                        pairs.append((now, frames[then]))
            moments.add_block(values, changes, block, pairs, scan.weights)
            if not lag:
                continue
            if len(block) < lag and len(held):
                held = np.concatenate([held, block])[-lag:]
            else:
                # A copy, so that the rest of the block can be freed.
                held = block[-lag:].copy()
            held_from = stop - len(held)
    except ValueError as error:
        raise ValueError(
            f"{piece.name}: frames {piece.first} to {piece.stop - 1}: {error}"
        ) from error
    assert values is not None and changes is not None, "a piece has frames"
    return values, changes


def row_weights(dataset: xarray.Dataset) -> np.ndarray:
    """Returns how much each row of the grid counts by its area. Shape [lat].

    Raises:
      ValueError: The dataset has no latitudes.
    """
    if "lat" not in dataset.coords:
        raise ValueError("weighting: 'area' needs the coordinate lat")
    return sphere.latitude_weights(dataset["lat"].values)


def point_weights(
    piece: series.Piece, dataset: xarray.Dataset, rows: np.ndarray | None
) -> np.ndarray | None:
    """Returns how much each point of a piece counts, None where all count the same.

    Args:
      piece: Part of a variable.
      dataset: What it is a part of.
      rows: Weight of each row of the whole grid, shape [lat], or None.
    """
    if rows is None:
        return None
    if isinstance(piece.series, series.Stored):
        inside = piece.series.variable
        sizes = {d: n for d, n in inside.sizes.items() if d not in ("time", "level")}
    elif piece.name == progress.TISR:
        sizes = {"lat": dataset.sizes["lat"], "lon": dataset.sizes["lon"]}
    else:
        sizes = {}
    if "lat" not in sizes:
        return None
    of_rows = xarray.Variable("lat", rows[piece.rows])
    return of_rows.set_dims(sizes).transpose(*sizes).values.ravel()
