"""Series read stretch by stretch: where they are cut, and how a stretch is read.

A long series is cut into pieces, each a run of frames of some levels and rows, that
are read one after the other in blocks as large as the chunks of the file suggest. No
chunk is read twice but at the borders of pieces.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray

from weatherlib.data_utils import progress

__all__ = ["Computed", "Piece", "Series", "Stored", "cut", "dates", "period"]

_BLOCK = 1 << 24  # Bytes of a block, where chunks leave the choice.
_LARGEST = 1 << 28  # Bytes above which levels and rows are read apart.
_PIECES = 16  # Pieces of a variable that is long enough; each is a task of its own.
_BLOCKS_PER_PIECE = 4


class Series(Protocol):
    """Something with values along time."""

    def read(self, first: int, stop: int) -> np.ndarray:
        """Returns frames, shape [time, level, point]."""
        ...


@dataclasses.dataclass(frozen=True)
class Stored:
    """A variable of a file, of which only what is asked for is read.

    Attributes:
      name: For messages.
      variable: In memory, lazily indexed, or a dask array.
    """

    name: str
    variable: xarray.Variable

    def read(self, first: int, stop: int) -> np.ndarray:
        """Returns frames, shape [time, level, point]; one frame if there is no time.

        Raises:
          OSError: The values cannot be read.
        """
        part = self.variable
        if "time" in part.dims:
            part = part.isel(time=slice(first, stop))
        try:
            held: Any = part.data
            if part.chunks is not None:
                # This thread is one of many already.
                held = held.compute(scheduler="synchronous")
        except (EOFError, KeyError, OSError, RuntimeError, ValueError) as error:
            raise OSError(
                f"{self.name}: frames {first} to {stop - 1} cannot be read, damaged or "
                f"cut short ({error})"
            ) from error
        loaded = xarray.Variable(part.dims, np.asarray(held))
        missing = [dim for dim in ("time", "level") if dim not in loaded.dims]
        loaded = loaded.set_dims([*missing, *loaded.dims])
        values = loaded.transpose("time", "level", ...).values
        return values.reshape(*values.shape[:2], -1)


@dataclasses.dataclass(frozen=True)
class Computed:
    """A forcing that follows from time and place.

    Attributes:
      name: One of `progress.COMPUTABLE_FORCINGS`.
      datetimes: UTC, dimension `time`.
      lat: Degrees north, dimension `lat`.
      lon: Degrees east, dimension `lon`.
    """

    name: str
    datetimes: xarray.DataArray
    lat: xarray.DataArray
    lon: xarray.DataArray

    def read(self, first: int, stop: int) -> np.ndarray:
        """Returns frames, shape [time, 1, point]."""
        values = progress.compute_forcings(
            [self.name],
            self.datetimes.isel(time=slice(first, stop)),
            self.lat,
            self.lon,
        )[self.name].values
        return values.reshape(len(values), 1, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a series that is worked on at once.

    Attributes:
      name: Variable.
      series: Cut to the levels and rows.
      levels: Which levels of the variable these are.
      rows: Which rows of the grid these are.
      first: First frame of the stretch.
      stop: The frame after its last.
      block: Frames to read at a time; blocks end at multiples of it.
      nbytes: Size of the values.
      varies: Whether the values have a time.
    """

    name: str
    series: Series
    levels: slice
    rows: slice
    first: int
    stop: int
    block: int
    nbytes: int
    varies: bool = True

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yields the first frame of each block and the one after its last."""
        first = self.first
        while first < self.stop:
            stop = min(self.stop, (first // self.block + 1) * self.block)
            yield first, stop
            first = stop


def cut(
    name: str,
    variable: xarray.Variable,
    frames: range,
    *,
    block: int = 0,
    largest: int = _LARGEST,
    whole_time: bool = False,
) -> list[Piece]:
    """Returns the pieces of a variable.

    Args:
      name: Of the variable.
      variable: As for `Stored`.
      frames: Those to be read.
      block: Frames in a block. Default: a multiple of the chunks of the file.
      largest: Bytes of a block above which levels and rows are read apart.
      whole_time: Whether pieces are to hold all frames and have `largest` bytes a
        frame.
    """
    chunks = _chunks(variable)
    if "time" not in variable.dims:
        frames = range(1)
    step = 1 if whole_time else block or min(chunks.get("time", 1), len(frames))
    item = variable.dtype.itemsize
    box = _box(variable, chunks, largest // max(1, step * item))
    points = math.prod(box.values()) * _rest(variable)
    frame = max(1, points * item)
    if whole_time:
        step = min(chunks.get("time", 1), len(frames))
    block = block or step * max(1, _BLOCK // (step * frame))
    count = -(-len(frames) // block)
    parts = 1 if whole_time else max(1, min(_PIECES, count // _BLOCKS_PER_PIECE))
    length = -(-count // parts) * block
    borders = [*range(frames.start // block * block, frames.stop, length)]
    pieces = []
    for levels, rows in _boxes(variable, box):
        where = {"level": levels, "lat": rows}
        inside = variable.isel({d: s for d, s in where.items() if d in variable.dims})
        share = inside.size // max(1, variable.sizes.get("time", 1)) * item
        for border in borders:
            first = max(frames.start, border)
            stop = min(frames.stop, border + length)
            pieces.append(
                Piece(
                    name=name,
                    series=Stored(name, inside),
                    levels=levels,
                    rows=rows,
                    first=first,
                    stop=stop,
                    block=block,
                    nbytes=(stop - first) * share,
                    varies="time" in variable.dims,
                )
            )
    return pieces


def _chunks(variable: xarray.Variable) -> Mapping[str, int]:
    """Returns the size of chunks by dimension, of those that the file gives."""
    if variable.chunks is not None:
        sizes = variable.chunksizes
        return {str(dim): max(lengths) for dim, lengths in sizes.items()}
    preferred = variable.encoding.get("preferred_chunks") or {}
    # Joined files have a length for each piece.
    return {str(dim): int(np.max(lengths)) for dim, lengths in preferred.items()}


def _box(
    variable: xarray.Variable, chunks: Mapping[str, int], most: int
) -> dict[str, int]:
    """Returns how many levels and rows are read together, `most` points if possible."""
    box = {dim: variable.sizes[dim] for dim in ("level", "lat") if dim in variable.dims}
    for dim in box:
        points = math.prod(box.values()) * _rest(variable)
        if points > most:
            chunk = min(chunks.get(dim, 1), box[dim])
            wanted = box[dim] * most // points
            box[dim] = max(chunk, wanted // chunk * chunk)
    return box


def _rest(variable: xarray.Variable) -> int:
    """Returns the number of points of a frame, at one level and row."""
    apart = ("time", "level", "lat")
    return math.prod(n for d, n in variable.sizes.items() if d not in apart)


def _boxes(
    variable: xarray.Variable, box: Mapping[str, int]
) -> Iterator[tuple[slice, slice]]:
    """Yields the levels and rows of each box."""
    for level in range(0, variable.sizes.get("level", 1), box.get("level", 1)):
        levels = slice(level, level + box.get("level", 1))
        for row in range(0, variable.sizes.get("lat", 1), box.get("lat", 1)):
            yield levels, slice(row, row + box.get("lat", 1))


def dates(dataset: xarray.Dataset) -> np.ndarray | None:
    """Returns the date of each frame, those of the first member of a batch.

    Returns:
      datetime64[ns], shape [time]; None where the data have no dates.
    """
    for name in ("datetime", "valid_time", "time"):
        if name in dataset.coords and dataset[name].dtype.kind == "M":
            found = dataset[name].isel(batch=0, missing_dims="ignore")
            if found.dims == ("time",):
                return found.values.astype("datetime64[ns]")
    return None


def period(stamps: np.ndarray | None, start: str | None, end: str | None) -> range:
    """Returns the frames of a period, both of its ends included.

    Args:
      stamps: Ascending dates, from `dates`.
      start: Such as "1979" or "1979-01-02T06"; None for the first frame.
      end: Likewise. "2015" is all of that year.

    Raises:
      ValueError: There are no dates, an end of the period is no date, or no frame lies
        in it.
    """
    if stamps is None:
        raise ValueError(
            f"the data have no dates, so the period {start} to {end} cannot be found"
        )
    index = pd.DatetimeIndex(stamps)
    for given in (start, end):
        try:
            is_date = given is None or pd.Period(given) is not pd.NaT
        except ValueError:
            is_date = False
        if not is_date:
            raise ValueError(
                f"period: {given!r} is no date; write it as 2015, 2015-12 or "
                "2015-12-31T18"
            )
    found: Any = index.slice_indexer(start, end)
    frames = range(*found.indices(len(index)))
    if not frames:
        raise ValueError(
            f"no frame lies in the period {start or 'from the start'} to "
            f"{end or 'the end'}; the data reach from {index[0]} to {index[-1]}"
        )
    return frames
