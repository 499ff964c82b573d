"""Samples cut out of a radar series, in time and in tiles."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import pandas as pd
import xarray

from weatherlib.data import radar_grid, radar_sequences
from weatherlib.data.radar import NAME

__all__ = ["missing_shares", "series_sequences"]

_IN_MEMORY_BYTES = 2**31
_BLOCK_BYTES = 2**28
_DAMAGE = (EOFError, KeyError, OSError, RuntimeError)


def series_sequences(
    dataset: xarray.Dataset,
    config: radar_sequences.SequenceConfig,
    *,
    tile: int | tuple[int, int] | None = None,
    tile_stride: int | None = None,
    start: Any = None,
    end: Any = None,
    scan: bool = True,
    in_memory: bool | None = None,
) -> radar_sequences.Sequences:
    """Returns the samples of a series, tile by tile and in the order of time.

    Samples never reach across a gap in the series.

    Args:
      dataset: `vil` of (time, lat, lon) as `open_radar` returns it.
      config: How samples are cut.
      tile: Rows and columns of a tile, or both in one. Default: the whole picture.
      tile_stride: As for `radar_grid.tiles`.
      start: First time inside, such as "2010-08-26T03:00"; None begins with the data.
      end: First time outside; None ends with them. A sample lies inside with all its
        frames, so that splits by time share none.
      scan: Whether to look first at all frames of the period, and leave out samples
        with more missing pixels than `max_missing`. Otherwise such a sample is an error
        when it is read.
      in_memory: Whether to read everything now; None does so up to 2 GiB.

    Raises:
      ValueError: There is no `vil`, times are not in order, or no sample is left; the
        message says why.
      OSError: A file cannot be read.
    """
    if NAME not in dataset or set(dataset[NAME].dims) != {"time", "lat", "lon"}:
        raise ValueError(
            f"{NAME}: samples are cut from {NAME} of (time, lat, lon), found "
            f"{dict(dataset.sizes)} with {', '.join(map(str, dataset)) or 'nothing'}; "
            "open_radar makes it"
        )
    times = dataset["time"].values.astype("datetime64[ns]")
    spacing = radar_grid.find_spacing(times)
    inside = np.ones(len(times), bool)
    if start is not None:
        inside &= times >= _moment("start", start)
    if end is not None:
        inside &= times < _moment("end", end)
    _require_length(times, inside, spacing, config, (start, end))
    # Nothing outside of the period is read, so that it need not be there.
    held = np.flatnonzero(inside)
    dataset = dataset.isel(time=slice(int(held[0]), int(held[-1]) + 1))
    first = _first_frames(times[held[0] : held[-1] + 1], spacing.step, config)
    field = dataset[NAME].transpose("time", "lat", "lon")
    small = field.nbytes <= _IN_MEMORY_BYTES
    if small if in_memory is None else in_memory:
        field = _loaded(field)
    shape = field.sizes["lat"], field.sizes["lon"]
    parts = radar_grid.tiles(shape, tile or shape, tile_stride)
    pairs = [(part, int(begin)) for part in parts for begin in first]
    if scan:
        pairs = _measured(field, parts, first, config)
    source = _SeriesSource(
        field,
        pairs,
        config,
        spacing.step * config.every,
        float(dataset.attrs.get("cell_km", 1.0)),
    )
    return radar_sequences.Sequences(source, config)


def missing_shares(
    field: xarray.DataArray, parts: tuple[radar_grid.Tile, ...]
) -> np.ndarray:
    """Returns the share of missing pixels of each frame in each tile, [time, tile].

    One block of frames is in memory at a time.

    Args:
      field: Dimensions (time, lat, lon).
      parts: The tiles.

    Raises:
      OSError: A file cannot be read.
    """
    frames = field.sizes["time"]
    each = field.sizes["lat"] * field.sizes["lon"] * 8
    length = max(1, _BLOCK_BYTES // each)
    found = np.zeros((frames, len(parts)))
    for begin in range(0, frames, length):
        block = _values(field, slice(begin, begin + length))
        lost = np.isnan(block)
        if not lost.any():
            continue
        # Sums over rectangles from sums over all that lies above and to the left.
        sums = np.pad(lost, ((0, 0), (1, 0), (1, 0))).astype(np.int64)
        sums = sums.cumsum(1).cumsum(2)
        for number, part in enumerate(parts):
            top, left = part.row, part.column
            low, right = top + part.rows, left + part.columns
            count = sums[:, low, right] - sums[:, top, right]
            count = count - sums[:, low, left] + sums[:, top, left]
            found[begin : begin + length, number] = count / (part.rows * part.columns)
    return found


@final
class _SeriesSource:
    """Samples of a series; see `radar_sequences.Source`."""

    def __init__(
        self,
        field: xarray.DataArray,
        pairs: list[tuple[radar_grid.Tile, int]],
        config: radar_sequences.SequenceConfig,
        step: np.timedelta64,
        cell_km: float,
    ) -> None:
        self._field, self._pairs, self._config = field, pairs, config
        part = pairs[0][0]
        self.shape = (part.rows, part.columns)
        self.step, self.cell_km = step, cell_km

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, number: int) -> np.ndarray:
        part, _ = self._pairs[number]
        return _values(self._field, self._frames(number), *part.slices)

    def times(self, number: int) -> np.ndarray:
        return self._field["time"].values[self._frames(number)]

    def label(self, number: int) -> str:
        part, _ = self._pairs[number]
        begin = str(self.times(number)[0])[:16]
        return f"{begin}, row {part.row}, column {part.column}"

    def _frames(self, number: int) -> slice:
        begin = self._pairs[number][1]
        return slice(begin, begin + self._config.reach, self._config.every)


def _pieces(times: np.ndarray, step: np.timedelta64) -> list[np.ndarray]:
    """Returns the places of frames without a gap between them."""
    gaps = np.flatnonzero(np.diff(times) != step) + 1
    return np.split(np.arange(len(times)), gaps)


def _require_length(
    times: np.ndarray,
    inside: np.ndarray,
    spacing: radar_grid.Spacing,
    config: radar_sequences.SequenceConfig,
    period: tuple[Any, Any],
) -> None:
    """Checks that a sample fits into a period.

    Raises:
      ValueError: It does not.
    """
    pieces = _pieces(times, spacing.step)
    longest = max(int(inside[piece].sum()) for piece in pieces)
    if longest >= config.reach:
        return
    start, end = (text or word for text, word in zip(period, ("begin", "end")))
    reason = f"; {spacing.description}" if spacing.description else ""
    raise ValueError(
        f"a sample of {config.frames} frames, {config.every} x "
        f"{pd.Timedelta(spacing.step)} apart, needs {config.reach} frames in a row, "
        f"and the period from {start} to {end} has at most {longest} of "
        f"{len(inside)}{reason}"
    )


def _first_frames(
    times: np.ndarray, step: np.timedelta64, config: radar_sequences.SequenceConfig
) -> np.ndarray:
    """Returns the first frames of all samples, [sample]."""
    stride = config.stride * config.every
    found = [
        np.arange(piece[0], piece[-1] - config.reach + 2, stride)
        for piece in _pieces(times, step)
    ]
    return np.concatenate(found)


def _measured(
    field: xarray.DataArray,
    parts: tuple[radar_grid.Tile, ...],
    first: np.ndarray,
    config: radar_sequences.SequenceConfig,
) -> list[tuple[radar_grid.Tile, int]]:
    """Returns the samples whose frames are measured well enough.

    Raises:
      ValueError: There is none.
    """
    shares = missing_shares(field, parts)
    bad = (shares > config.max_missing) | (shares == 1)
    steps = np.arange(config.frames) * config.every
    pairs = [
        (part, int(begin))
        for number, part in enumerate(parts)
        for begin in first
        if not bad[begin + steps, number].any()
    ]
    if pairs:
        return pairs
    if (shares == 1).all(axis=1).any():
        at = int(np.argmax((shares == 1).all(axis=1)))
        when = str(field["time"].values[at])[:16]
        raise ValueError(
            f"{NAME}: no sample is left, for frames have no measurement at all, the "
            f"first at {when}; leave them out of the series"
        )
    best = shares.max(axis=0).min()
    raise ValueError(
        f"{NAME}: no sample has at most {config.max_missing:.1%} missing pixels in "
        f"every frame; the best of {len(parts)} tile(s) has {best:.1%} in its worst "
        "frame. Raise max_missing, cut smaller tiles, or crop to what the radar sees"
    )


def _moment(name: str, value: Any) -> np.datetime64:
    try:
        return pd.Timestamp(value).to_datetime64().astype("datetime64[ns]")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name}: expected a time such as 2010-08-26T03:00, found {value!r}"
        ) from error


def _loaded(field: xarray.DataArray) -> xarray.DataArray:
    try:
        return field.load()
    except _DAMAGE as error:
        raise OSError(f"the series is damaged or cut short ({error})") from error


def _values(
    field: xarray.DataArray,
    frames: slice,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> np.ndarray:
    part = field.isel(time=frames, lat=rows, lon=columns)
    try:
        return part.values
    except _DAMAGE as error:
        when = str(part["time"].values[0])[:16]
        raise OSError(
            f"the series is damaged or cut short at {when} ({error})"
        ) from error
