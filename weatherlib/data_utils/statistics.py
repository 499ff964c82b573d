"""Means and standard deviations of a dataset, in one pass over its frames."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray

from weatherlib import writing
from weatherlib.data_utils import jobs, lexicon, moments, progress, scan, series, times

__all__ = ["Statistics", "StatisticsConfig", "compute_statistics", "other_grid"]

_KINDS = ("mean", "stddev", "diffs_stddev", "min")
_GRID = {"lat": "grid_latitude", "lon": "grid_longitude"}
_PROGRESS = tuple(sorted(progress.COMPUTABLE_FORCINGS - {progress.TISR}, reverse=True))


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What normalisation needs, each variable of shape [level] or [].

    Attributes:
      mean: Over time, batch and grid points.
      stddev: Likewise.
      diffs_stddev: Of the change over one step.
      min: Smallest value.
    """

    mean: xarray.Dataset
    stddev: xarray.Dataset
    diffs_stddev: xarray.Dataset
    min: xarray.Dataset

    def save(self, folder: str | pathlib.Path) -> list[pathlib.Path]:
        """Writes `{mean,stddev,diffs_stddev,min}_by_level.nc`, the published names.

        Older files stay as they are until all new ones are complete.

        Returns:
          The files.

        Raises:
          OSError: They cannot be written.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{kind}_by_level.nc" for kind in _KINDS]
        with contextlib.ExitStack() as unfinished:
            for kind, path in zip(_KINDS, paths):
                partial = unfinished.enter_context(writing.replacing(path))
                getattr(self, kind).to_netcdf(partial)
        return paths


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """What is computed.

    Attributes:
      step: Time between the frames whose difference is taken, such as "6h"; None for
        the spacing of the data.
      start: First date of the period, such as "1979"; None for that of the data.
      end: Last date, included: "2015" is all of that year.
      weighting: "none" counts every grid point once, as the published statistics do;
        "area" counts it by the area of its cell.
      variables: Those wanted; None for all.
      forcings: Forcings to be computed from time and place where the data lack them.
        None for the progress of year and day, as far as dates are known.
      frames_per_block: Frames read at a time; 0 leaves it to the chunks of the file.
      workers: Threads; None for those of the machine.
      scheduler: Address of a dask.distributed scheduler, whose workers are used
        instead. They must see the data under the same name.
    """

    step: str | None = None
    start: str | None = None
    end: str | None = None
    weighting: Literal["none", "area"] = "none"
    variables: tuple[str, ...] | None = None
    forcings: tuple[str, ...] | None = None
    frames_per_block: int = 0
    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.step is not None:
            try:
                step = times.as_timedelta(self.step)
            except ValueError as error:
                raise ValueError(f"step: {error}") from error
            if step <= pd.Timedelta(0):
                raise ValueError(f"step: {self.step} must be longer than nothing")
        if self.weighting not in ("none", "area"):
            raise ValueError(f"weighting: {self.weighting!r} is not 'none' or 'area'")
        if self.frames_per_block < 0:
            raise ValueError(f"frames_per_block: {self.frames_per_block} is negative")
        unknown = set(self.forcings or ()) - progress.COMPUTABLE_FORCINGS
        if unknown:
            raise ValueError(
                f"forcings: {', '.join(sorted(unknown))} cannot be computed; only "
                f"{', '.join(sorted(progress.COMPUTABLE_FORCINGS))} can"
            )


Report = Callable[[series.Piece, int], None]
"""Takes a piece that is done, and the bytes of all pieces."""


def compute_statistics(
    dataset: xarray.Dataset,
    config: StatisticsConfig | None = None,
    *,
    report: Report = lambda piece, total: None,
    **settings: Any,
) -> Statistics:
    """Returns the statistics of every variable, and of forcings.

    Every grid point counts the same unless `weighting` says otherwise: so the published
    statistics are made (their mean of the land-sea mask is 0.337; land covers 0.29 of
    the Earth's surface). Missing values (NaN) are left out and counted. Differences are
    taken between frames exactly one step apart, so not across gaps. Values are read
    once, a block at a time, and the result does not depend on how they are cut. What is
    the same everywhere has a deviation of exactly 0.

    Args:
      dataset: Dimensions (batch, time, level, lat, lon) as far as each variable has
        them, frames in order. May be lazy.
      config: What to compute.
      report: Is told of each part that is done.
      **settings: Fields of the config to change.

    Raises:
      ValueError: There are fewer than two frames in the period or no two of them a step
        apart, a value is infinite, a variable has no values or is not there.
      OSError: Values cannot be read, or the scheduler does not answer.
    """
    config = dataclasses.replace(config or StatisticsConfig(), **settings)
    dataset = progress.with_statics(dataset, config.variables or ())
    frames, earlier, step = _frames(dataset, config)
    chosen = _chosen(dataset, config.variables)
    pieces: list[series.Piece] = []
    for name in chosen:
        variable = dataset[name].variable
        pieces += series.cut(name, variable, frames, block=config.frames_per_block)
    pieces += _forcing_pieces(dataset, config, frames)
    total = sum(piece.nbytes for piece in pieces)
    rows = scan.row_weights(dataset) if config.weighting == "area" else None
    results = jobs.run_jobs(
        scan.moments_of,
        [
            scan.Scan.of(
                piece, scan.point_weights(piece, dataset, rows), earlier, frames.start
            )
            for piece in pieces
        ],
        scheduler=config.scheduler,
        workers=config.workers,
        report=lambda job: report(job.piece, total),
    )
    found: dict[str, tuple[moments.Moments, moments.Moments]] = {}
    for piece, both in zip(pieces, results):
        if piece.name not in found:
            levels = _levels(dataset, piece.name)
            found[piece.name] = (
                moments.Moments.empty(levels),
                moments.Moments.empty(levels),
            )
        for whole, part in zip(found[piece.name], both):
            whole.merge(part, piece.levels)
    return _as_datasets(dataset, found, _attributes(dataset, config, frames, step))


def _chosen(dataset: xarray.Dataset, wanted: Iterable[str] | None) -> list[str]:
    """Returns the numeric variables wanted.

    Raises:
      ValueError: One is not there or holds no numbers.
    """
    numeric = [str(n) for n, a in dataset.data_vars.items() if a.dtype.kind in "biuf"]
    if wanted is None:
        return numeric
    for name in wanted:
        if name not in numeric and name not in progress.COMPUTABLE_FORCINGS:
            close = lexicon.closest(name, numeric)
            hint = f"did you mean {close}?" if close else f"it has {', '.join(numeric)}"
            raise ValueError(f"{name}: the data have no such variable; {hint}")
    return [name for name in numeric if name in set(wanted)]


def _frames(
    dataset: xarray.Dataset, config: StatisticsConfig
) -> tuple[range, np.ndarray, pd.Timedelta]:
    """Returns the frames of the period, for each frame that one step earlier, the step.

    A frame without an earlier one has -1 in its place.
    """
    count = dataset.sizes.get("time", 0)
    stamps = series.dates(dataset)
    if stamps is None and "time" in dataset.coords:
        known = dataset["time"].values
        stamps = known.astype("timedelta64[ns]") if known.dtype.kind == "m" else None
    elapsed = np.arange(count) if stamps is None else stamps.astype(np.int64)
    back = np.flatnonzero(np.diff(elapsed) <= 0)
    if back.size:
        raise ValueError(
            f"time: frame {back[0] + 1} is not later than the one before it; sort the "
            "frames and drop those that are twice"
        )
    frames = range(count)
    if config.start is not None or config.end is not None:
        frames = series.period(series.dates(dataset), config.start, config.end)
    if len(frames) < 2:
        raise ValueError(f"statistics of changes need 2 frames, found {len(frames)}")
    inside = elapsed[frames.start : frames.stop]
    spacing = _spacing(inside)
    if stamps is None and config.step is not None:
        raise ValueError(f"the data have no times, so a step of {config.step} is none")
    if config.step is not None:
        wanted = times.as_timedelta(config.step).as_unit("ns").value
    else:
        wanted = spacing
    _warn_of_gaps(stamps, frames, spacing)
    found = np.searchsorted(inside, inside - wanted)
    exact = inside[np.minimum(found, len(inside) - 1)] == inside - wanted
    if not exact.any():
        raise ValueError(
            f"step: no two frames are {_length(wanted)} apart; they are mostly "
            f"{_length(spacing)} apart"
        )
    earlier = np.full(count, -1, np.int64)
    earlier[frames.start : frames.stop] = np.where(exact, found + frames.start, -1)
    return frames, earlier, _length(wanted)


def _spacing(elapsed: np.ndarray) -> int:
    """Returns the most common difference between successive frames."""
    steps, counts = np.unique(np.diff(elapsed), return_counts=True)
    return int(steps[counts.argmax()])


def _warn_of_gaps(stamps: np.ndarray | None, frames: range, spacing: int) -> None:
    """Warns where frames are missing from the period."""
    if stamps is None:
        return
    inside = stamps[frames.start : frames.stop]
    gaps = np.flatnonzero(np.diff(inside).astype(np.int64) > spacing)
    if gaps.size:
        ends = pd.Index(inside[[gaps[0], gaps[0] + 1]])
        warnings.warn(
            f"time: the period has {gaps.size} gap(s) in its spacing of "
            f"{_length(spacing)}, the first between {ends[0]} and {ends[1]}; no "
            "change is taken across them",
            stacklevel=4,
        )


def _length(nanoseconds: int) -> pd.Timedelta:
    """Returns a length of time."""
    return times.as_timedelta(np.timedelta64(nanoseconds, "ns"))


def _forcing_pieces(
    dataset: xarray.Dataset, config: StatisticsConfig, frames: range
) -> list[series.Piece]:
    """Returns forcings that are not in the data as pieces."""
    names = config.forcings
    stamps = series.dates(dataset)
    if names is None and config.variables is not None:
        names = tuple(sorted(set(config.variables) & progress.COMPUTABLE_FORCINGS))
    if names is None:
        known = stamps is not None and {"lat", "lon"} <= set(dataset.coords)
        names = _PROGRESS if known else ()
    names = tuple(name for name in names if name not in dataset)
    if not names:
        return []
    if stamps is None or not {"lat", "lon"} <= set(dataset.coords):
        raise ValueError(
            f"forcings: {', '.join(names)} need dates, latitudes and longitudes"
        )
    datetimes = xarray.DataArray(stamps, dims="time")
    lat, lon = dataset["lat"].variable, dataset["lon"].variable
    pieces = []
    for name in names:
        points = {progress.TISR: lat.size * lon.size}.get(
            name, lon.size if name.startswith(progress.DAY_PROGRESS) else 1
        )
        made = series.Computed(
            name,
            datetimes,
            xarray.DataArray(lat.values, dims="lat"),
            xarray.DataArray(lon.values, dims="lon"),
        )
        block = max(1, (1 << 22) // points)
        for first in range(frames.start // block * block, frames.stop, 8 * block):
            start, stop = max(first, frames.start), min(first + 8 * block, frames.stop)
            pieces.append(
                series.Piece(
                    name=name,
                    series=made,
                    levels=slice(0, 1),
                    rows=slice(0, lat.size),
                    first=start,
                    stop=stop,
                    block=block,
                    nbytes=(stop - start) * points * 4,
                )
            )
    return pieces


def _above_rounding(values: moments.Moments) -> np.ndarray:
    """Returns the standard deviation, 0 where it is but the rounding of the mean."""
    least = np.finfo(np.float32).eps * np.abs(values.mean)
    return np.where(values.stddev <= least, 0.0, values.stddev)


def _levels(dataset: xarray.Dataset, name: str) -> int:
    """Returns the number of levels of a variable, 1 where it has none."""
    return dataset[name].sizes.get("level", 1) if name in dataset else 1


def other_grid(
    attrs: Mapping[str, Any], grid: xarray.Dataset
) -> tuple[str, list[float], list[float]] | None:
    """Returns how the grid that statistics are of differs from another.

    Where longitudes begin does not count on grids that go round.

    Args:
      attrs: Of the statistics. Those from elsewhere do not say which grid they are of.
      grid: With coordinates lat and lon.

    Returns:
      Name of the axis, and points, least and greatest coordinate of both; None where
      nothing differs or nothing is known.
    """
    for dim, name in _GRID.items():
        if name not in attrs:
            continue
        theirs, ours = [*map(float, attrs[name])], _extent(grid[dim].values)
        (count, *ends), (wanted, *bounds) = theirs, ours
        same = count == wanted and np.allclose(np.ptp(ends), np.ptp(bounds), atol=1e-3)
        goes_round = np.ptp(bounds) * (1 + 1 / max(wanted - 1, 1)) > 359.9
        if not (dim == "lon" and goes_round):
            away = abs(ends[0] - bounds[0])
            turned = min(away % 360, -away % 360) if dim == "lon" else away
            same = same and turned < 1e-3
        if not same:
            return name, theirs, ours
    return None


def _extent(points: np.ndarray) -> list[float]:
    """Returns how many points an axis of a grid has, its least and its greatest."""
    ends = (points.min(), points.max())
    return [float(points.size), *(round(float(end), 4) for end in ends)]


def _attributes(
    dataset: xarray.Dataset,
    config: StatisticsConfig,
    frames: range,
    step: pd.Timedelta,
) -> dict[str, Any]:
    """Returns what the files say about themselves, in the published names."""
    stamps = series.dates(dataset)
    attrs: dict[str, Any] = {}
    if stamps is not None:
        attrs["date_start"] = str(pd.Timestamp(stamps[frames[0]]))
        attrs["date_end"] = str(pd.Timestamp(stamps[frames[-1]]))
    hours = step.total_seconds() / 3600
    if stamps is not None or "time" in dataset.coords:
        attrs["timestep_hours"] = int(hours) if hours == int(hours) else hours
    attrs["frames"] = len(frames)
    attrs |= {
        name: _extent(dataset[dim].values)
        for dim, name in _GRID.items()
        if dim in dataset.coords and dataset[dim].ndim == 1
    }
    attrs["weighting"] = config.weighting
    source = str(dataset.encoding.get("source") or dataset.attrs.get("source") or "")
    if source:
        path = pathlib.Path(source)
        # A pattern says little without its folder.
        named = "/".join(path.parts[-2:]) if set(path.name) & set("*?[") else path.name
        attrs["source"] = source if "://" in source else named
    return attrs


def _as_datasets(
    dataset: xarray.Dataset,
    found: Mapping[str, tuple[moments.Moments, moments.Moments]],
    attrs: Mapping[str, Any],
) -> Statistics:
    """Returns the results as datasets in the published layout.

    Raises:
      ValueError: A variable has no value in the period.
    """
    kinds: dict[str, dict[str, xarray.Variable]] = {kind: {} for kind in _KINDS}
    for name, (values, changes) in found.items():
        if not values.count.any():
            raise ValueError(f"{name}: every value of the period is missing")
        on_levels = name in dataset and "level" in dataset[name].dims
        for kind, numbers, counted in (
            ("mean", values.known_mean, values),
            ("stddev", _above_rounding(values), values),
            ("min", values.known_minimum, values),
            ("diffs_stddev", changes.stddev, changes),
        ):
            if not counted.count.any():
                continue
            kinds[kind][name] = xarray.Variable(
                ("level",) if on_levels else (),
                np.asarray(numbers if on_levels else numbers[0], np.float32),
                {
                    "count": int(counted.count.sum()),
                    "missing": int(counted.missing.sum()),
                },
            )
    coords = {}
    if "level" in dataset.dims and "level" in dataset.coords:
        coords["level"] = dataset["level"].variable
    return Statistics(
        **{
            kind: xarray.Dataset(kinds[kind], coords=coords, attrs=dict(attrs))
            for kind in _KINDS
        }
    )
