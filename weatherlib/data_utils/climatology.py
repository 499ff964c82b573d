"""What is usual at a day of the year and an hour of the day, from a long series.

The layout is that of WeatherBench 2: dimensions (hour, dayofyear, [level,] lat, lon),
the mean under the variable's name and the standard deviation under `NAME_std`. Days of
the year are those of the calendar, 1 to 366, so 1 March is day 60 or 61.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib.data_utils import day_sums, jobs, lexicon, series

__all__ = ["DEVIATION", "ClimatologyConfig", "climatology", "climatology_at"]

# Ends the names of standard deviations.
DEVIATION = "_std"

# Points whose sums are held at a time, over all hours and days.
_VALUES = 1 << 26


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClimatologyConfig:
    """How the usual weather is estimated.

    Attributes:
      start: First date of the period, such as "1990"; None for that of the data.
      end: Last date, included: "2019" is all of that year.
      window: Days over which the mean is smoothed, an odd number. Weights fall linearly
        from the day itself to nothing at the ends, as in WeatherBench 2.
      harmonics: Waves a year of a fit by least squares, which takes the place of the
        smoothed mean; 0 for none. Two or three suit records of a few years. The
        standard deviation is smoothed by `window` in both cases.
      variables: Those wanted; None for all that have a time.
      workers: Threads; None for those of the machine.
      scheduler: Address of a dask.distributed scheduler to be used instead.
    """

    start: str | None = None
    end: str | None = None
    window: int = 61
    harmonics: int = 0
    variables: tuple[str, ...] | None = None
    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(
                f"window: {self.window} must be an odd number of days, such as 61"
            )
        if not 0 <= self.harmonics <= 20:
            raise ValueError(f"harmonics: {self.harmonics} must be 0 to 20")


def climatology(
    dataset: xarray.Dataset,
    config: ClimatologyConfig | None = None,
    *,
    report: Callable[[series.Piece, int], None] = lambda piece, total: None,
    **settings: Any,
) -> xarray.Dataset:
    """Returns mean and standard deviation by hour and day of the year.

    Each hour of the day is treated by itself; there are as many as the data have. The
    data are read once, the result is held in memory.

    Args:
      dataset: Dimensions (batch, time, level, lat, lon) as far as each variable has
        them; dates in order. May be lazy.
      config: How it is estimated.
      report: Is told of each part that is done, and of the bytes of all.
      **settings: Fields of the config to change.

    Returns:
      float32 variables (hour, dayofyear, ...); NaN where all values are missing.

    Raises:
      ValueError: There are no dates or none in the period, a variable is not there, or
        the record leaves days of the year without data.
      OSError: Values cannot be read.

    Source: windows as in WeatherBench 2, doi:10.1029/2023MS004019.
    """
    config = dataclasses.replace(config or ClimatologyConfig(), **settings)
    stamps = series.dates(dataset)
    frames = series.period(stamps, config.start, config.end)
    index = pd.DatetimeIndex(stamps)
    dataset = _one_series(dataset)
    names = _chosen(dataset, config.variables)
    calendar = _calendar(index, frames)
    _require_cover(calendar, frames, config)
    pieces = _pieces(dataset, names, frames, calendar)
    total = sum(piece.nbytes for piece in pieces)
    results = jobs.run_jobs(
        day_sums.usual,
        [
            day_sums.Request(
                piece=piece,
                calendar=calendar,
                window=config.window,
                harmonics=config.harmonics,
            )
            for piece in pieces
        ],
        scheduler=config.scheduler,
        workers=config.workers,
        report=lambda request: report(request.piece, total),
    )
    found = _assemble(dataset, names, calendar.hours, zip(pieces, results))
    found.attrs = _attrs(config, index, frames)
    return found


def climatology_at(
    usual: xarray.Dataset, when: Any, *, deviation: bool = False
) -> xarray.Dataset:
    """Returns the climatology at given dates.

    Args:
      usual: From `climatology`, or a file of WeatherBench 2.
      when: Dates: a DataArray of datetime64, whose dimensions and coordinates the
        result gets, or a sequence, which becomes `time`.
      deviation: Whether to return standard deviations, under the plain names, instead
        of means.

    Raises:
      ValueError: It is no climatology, lacks an hour of the dates, or has no standard
        deviations.
    """
    missing = {"hour", "dayofyear"} - set(usual.dims)
    if missing:
        raise ValueError(
            f"a climatology has dimensions hour and dayofyear; this one has "
            f"{', '.join(map(str, usual.dims)) or 'none'}"
        )
    dates = _as_dates(when)
    names = [str(name) for name in usual.data_vars]
    spreads = [name for name in names if name.endswith(DEVIATION)]
    if deviation:
        if not spreads:
            raise ValueError("the climatology has no standard deviations (NAME_std)")
        usual = usual[spreads].rename({n: n[: -len(DEVIATION)] for n in spreads})
    else:
        usual = usual[[name for name in names if name not in spreads]]
    hour, day = dates.dt.hour, dates.dt.dayofyear
    # Minutes would be cut off silently otherwise.
    whole = (dates.dt.floor("h") == dates).values
    if not whole.all():
        odd = np.ravel(dates.values)[np.flatnonzero(~whole.ravel())[0]]
        raise ValueError(f"the climatology is by full hours, and {odd} is none")
    lacking = sorted(set(np.ravel(hour.values)) - set(usual["hour"].values))
    if lacking:
        held = ", ".join(f"{h:g}" for h in usual["hour"].values)
        raise ValueError(
            f"the climatology has the hours {held} and not {lacking[0]}; make one from "
            "data with that hour, or leave those dates out"
        )
    chosen = usual.sel(hour=hour, dayofyear=day).drop_vars(["hour", "dayofyear"])
    return chosen.assign_coords(dates.coords)


def _as_dates(when: Any) -> xarray.DataArray:
    """Returns dates as an array with dimensions."""
    if not isinstance(when, xarray.DataArray):
        values = np.asarray(when, "datetime64[ns]")
        when = xarray.DataArray(values, dims=("time",) if values.ndim else ())
        if values.ndim:
            when = when.assign_coords(time=values)
    if when.dtype.kind != "M":
        raise ValueError(f"a climatology is taken at dates, not at {when.dtype} values")
    return when


def _one_series(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the data without their batch dimension.

    Raises:
      ValueError: It holds several series.
    """
    if "batch" not in dataset.dims:
        return dataset
    if dataset.sizes["batch"] > 1:
        raise ValueError(
            f"batch: a climatology needs one series, found {dataset.sizes['batch']}"
        )
    return dataset.isel(batch=0)


def _calendar(index: pd.DatetimeIndex, frames: range) -> day_sums.Calendar:
    """Returns the places of all frames, by the hours of those in the period."""
    hours = sorted(set(index[frames.start : frames.stop].hour))
    days = index.day_of_year.to_numpy() - 1
    slots = np.searchsorted(hours, index.hour) * day_sums.DAYS + days
    return day_sums.Calendar(hours=tuple(hours), slots=slots)


def _pieces(
    dataset: xarray.Dataset,
    names: list[str],
    frames: range,
    calendar: day_sums.Calendar,
) -> list[series.Piece]:
    """Returns the variables cut so that the sums of each part fit into memory."""
    most = _VALUES // (len(calendar.hours) * day_sums.DAYS)
    pieces = []
    for name in names:
        variable = dataset[name].variable
        pieces += series.cut(
            name,
            variable,
            frames,
            largest=most * variable.dtype.itemsize,
            whole_time=True,
        )
    return pieces


def _attrs(
    config: ClimatologyConfig, index: pd.DatetimeIndex, frames: range
) -> dict[str, str | int]:
    """Returns what the result says about its origin."""
    method = f"harmonic fit, {config.harmonics} waves a year"
    if not config.harmonics:
        method = f"linearly weighted window of {config.window} days"
    return {
        "date_start": str(index[frames[0]]),
        "date_end": str(index[frames[-1]]),
        "method": method,
        "frames": len(frames),
    }


def _chosen(dataset: xarray.Dataset, wanted: Sequence[str] | None) -> list[str]:
    """Returns the variables wanted that have a time."""
    held = [
        str(name)
        for name, array in dataset.data_vars.items()
        if "time" in array.dims and array.dtype.kind in "fiu"
    ]
    for name in wanted or ():
        if name not in held:
            close = lexicon.closest(name, held)
            hint = f"did you mean {close}?" if close else f"it has {', '.join(held)}"
            raise ValueError(f"{name}: the data have no such variable in time; {hint}")
    return [name for name in held if wanted is None or name in wanted]


def _require_cover(
    calendar: day_sums.Calendar, frames: range, config: ClimatologyConfig
) -> None:
    """Checks that the record reaches all days of the year, at each hour.

    Raises:
      ValueError: It leaves too long a gap for the window or the waves.
    """
    slots = calendar.slots[frames.start : frames.stop]
    for number, hour in enumerate(calendar.hours):
        days = np.unique(slots[slots // day_sums.DAYS == number] % day_sums.DAYS)
        gaps = np.diff(days, append=days[0] + day_sums.DAYS)
        gap = int(gaps.max())
        if config.harmonics:
            enough = gap <= day_sums.DAYS // (2 * config.harmonics)
            method = f"{config.harmonics} harmonics"
        else:
            # A day at the very end of the window has no weight.
            enough = gap // 2 < max(config.window // 2, 1)
            method = f"a window of {config.window} days"
        if not enough:
            raise ValueError(
                f"no data at {hour:02d} UTC on the {gap - 1} days after day "
                f"{int(days[gaps.argmax()]) + 1} of the year, too many for {method}; "
                "give whole years, a wider window or fewer harmonics"
            )


def _assemble(
    dataset: xarray.Dataset, names: list[str], hours: Sequence[int], results: Any
) -> xarray.Dataset:
    """Returns the parts of all variables in one dataset."""
    arrays: dict[str, np.ndarray] = {}
    for piece, (mean, spread) in results:
        variable = dataset[piece.name].variable.isel(time=0)
        order = ["level"] if "level" in variable.dims else []
        order += [str(d) for d in variable.dims if d != "level"]
        shape = [len(hours), day_sums.DAYS, *(variable.sizes[d] for d in order)]
        where = [slice(None)] * len(shape)
        for dim, part in (("level", piece.levels), ("lat", piece.rows)):
            if dim in order:
                where[2 + order.index(dim)] = part
        for name, values in ((piece.name, mean), (piece.name + DEVIATION, spread)):
            if name not in arrays:
                arrays[name] = np.empty(shape, np.float32)
            target = arrays[name][tuple(where)]
            arrays[name][tuple(where)] = values.reshape(target.shape)
    coords: dict[str, Any] = {"hour": list(hours), "dayofyear": np.arange(1, 367)}
    data = {}
    for name in [n + end for n in names for end in ("", DEVIATION)]:
        source = dataset[name.removesuffix(DEVIATION)]
        dims = [d for d in ("level",) if d in source.dims]
        dims += [d for d in source.dims if d not in ("level", "time")]
        data[name] = (("hour", "dayofyear", *dims), arrays[name], source.attrs)
    grid = {
        name: dataset[name].variable
        for name in dataset.dims
        if name in dataset.coords and name != "time"
    }
    return xarray.Dataset(data, coords=coords | grid)
