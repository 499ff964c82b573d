"""Series at another step, and precipitation over another period."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray

from weatherlib.data import lazy, rain_sums
from weatherlib.data_utils import accumulation, times
from weatherlib.data_utils.problems import listed

__all__ = ["accumulate_precipitation", "deaccumulate", "subsample"]

_PRECIPITATION = re.compile(r"total_precipitation(?:_(\d+)hr)?")


def subsample(dataset: xarray.Dataset, step: Any, *, offset: Any = "0h") -> Any:
    """Returns the frames at multiples of a step.

    Args:
      dataset: With `time` as dates or lead times.
      step: Such as "6h". Dates are counted from 00 UTC, lead times from 0.
      offset: Of the frames wanted, such as "3h" for 03, 09, 15 and 21 UTC.

    Raises:
      ValueError: There are no such frames, or some of them are missing.
    """
    length, shift = times.as_timedelta(step), times.as_timedelta(offset)
    period = _nanoseconds(length)
    if period <= 0:
        raise ValueError(f"step is {length}, expected a positive length of time")
    values = _moments(dataset).astype("datetime64[ns]").astype(np.int64)
    rest = (values - _nanoseconds(shift)) % period
    places = np.flatnonzero(rest == 0)
    if not places.size:
        raise ValueError(
            f"time: no frame is a multiple of {length}"
            + (f" from {shift}" if shift else "")
        )
    odd = np.flatnonzero(np.diff(values[places]) != period)
    if odd.size:
        place = int(odd[0])
        raise ValueError(
            f"time: with a step of {length} the frame after "
            f"{dataset['time'].values[places[place]]} is missing"
        )
    if places.size > 1:
        stride = int(places[1] - places[0])
        if (np.diff(places) == stride).all():
            stop = int(places[-1]) + 1
            return dataset.isel(time=slice(int(places[0]), stop, stride))
    return dataset.isel(time=places)


def accumulate_precipitation(
    dataset: xarray.Dataset, hours: int, *, source: str | None = None
) -> xarray.Dataset:
    """Returns the data with precipitation summed over the hours before each time.

    Frames at the start, whose period begins before the data, are left out. The sum is
    in m under the name `total_precipitation_{hours}hr`.

    Args:
      dataset: With precipitation over this period, which is taken as it is, or over a
        shorter one, such as 1 h.
      hours: Length of the period.
      source: Variable to sum; the one of the longest period that divides `hours` if
        None.

    Raises:
      ValueError: There is none, frames are missing, it is no depth of water, or it
        grows from the start of a forecast.
    """
    name, period = _part(dataset, hours, source)
    new = f"total_precipitation_{hours}hr"
    rain = dataset[name].variable
    if period == hours:
        whole = rain_sums.in_metres(name, rain).copy(deep=False)
        whole.attrs = {**whole.attrs, **rain_sums.attrs(hours)}
        return dataset.assign({new: whole})
    step = times.infer_time_step(dataset["time"])
    stride, rest = divmod(period * 3600 * 10**9, _nanoseconds(step))
    if rest or not stride:
        raise ValueError(
            f"{name}: sums over {period} h every {step} do not cover the time between; "
            f"hourly data is needed for sums over {hours} h"
        )
    terms = hours // period
    # The first whole period ends after all of its terms.
    first = (terms - 1) * stride
    frames = dataset.sizes["time"]
    if frames <= first:
        raise ValueError(
            f"{name}: {frames} frame(s), sums over {hours} h need {first + 1}"
        )
    frames_of_terms = [
        slice(first - back, frames - back)
        for back in (term * stride for term in range(terms))
    ]
    total = rain_sums.summed(name, rain, frames_of_terms, hours)
    cut = dataset.isel(time=slice(first, None))
    return cut.assign({new: total})


def deaccumulate(
    dataset: xarray.Dataset,
    name: str = "total_precipitation",
    *,
    begins_anew: Any = None,
) -> xarray.Dataset:
    """Returns the data with sums from the start of a forecast as sums over each step.

    The first frame is left out: over how long it sums is not known. Rounding that makes
    a sum shrink counts as no rain.

    Args:
      dataset: With `time` evenly spaced.
      name: Variable that grows.
      begins_anew: Period after which the sum begins at zero, counted from 00 UTC or
        lead time 0, such as "24h" for ERA5-Land, where 00 UTC has the sum of the day
        before. None where it grows throughout.

    Returns:
      The new variable is `total_precipitation_{step}hr`, or `name` for others; the old
      one is left out.

    Raises:
      ValueError: There is no such variable, or less than two frames.
    """
    if name not in dataset:
        raise ValueError(f"{name}: not in the data, which has {listed(dataset)}")
    step = times.infer_time_step(dataset["time"])
    hours = _nanoseconds(step) / 3.6e12
    array = dataset[name]
    now = array.variable.isel(time=slice(1, None))
    before = array.variable.isel(time=slice(0, -1))
    is_rain = _PRECIPITATION.fullmatch(name) is not None
    attrs = {**array.attrs, **(rain_sums.attrs(hours) if is_rain else {})}
    attrs["cell_methods"] = f"time: sum (interval: {hours:g} hours)"
    is_first = np.zeros(now.sizes["time"], bool)
    if begins_anew is not None:
        period = _nanoseconds(begins_anew)
        moments = _moments(dataset)[1:].astype("datetime64[ns]").astype(np.int64)
        is_first = moments % period == _nanoseconds(step)
    first = xarray.Variable("time", is_first)
    steps = lazy.apply(
        _growth, [now, before, first], now.sizes, array.dtype, attrs=attrs
    )
    new = f"total_precipitation_{hours:g}hr" if is_rain else name
    cut = dataset.isel(time=slice(1, None)).drop_vars(name)
    return cut.assign({new: steps})


def _growth(
    now: xarray.Variable, before: xarray.Variable, first: xarray.Variable
) -> xarray.Variable:
    """Returns what was added between two sums, or since the sum began."""
    later = now.astype(np.float64)
    change = later - before * (1 - first.astype(np.float64))
    grown: Any = np.maximum(change, 0.0)
    return grown.transpose(*now.dims)


def _nanoseconds(length: Any) -> int:
    """Returns a length of time as a whole number."""
    return int(times.as_timedelta(length).as_unit("ns").value)


def _part(dataset: xarray.Dataset, hours: int, source: str | None) -> tuple[str, int]:
    """Returns the precipitation to sum, and its period in hours."""
    held = accumulation.periods(dataset)
    if source is not None and source not in held:
        raise ValueError(
            f"{source}: no precipitation of the data, which has "
            f"{listed(held) or 'none'}"
        )
    asked = {name: held[name] for name in held if source in (None, name)}
    fitting = {
        name: period
        for name, period in asked.items()
        if period is not None and not hours % period
    }
    if not fitting and None in asked.values():
        grown = next(name for name, period in asked.items() if period is None)
        raise ValueError(
            f"{grown}: summed from the start of the forecast; data.deaccumulate turns "
            "it into sums over each step first"
        )
    if not fitting:
        raise ValueError(
            f"no precipitation over a period that divides {hours} h; the data has "
            f"{listed(f'{n} ({p} h)' for n, p in held.items()) or 'none'}"
        )
    # Sums at their own step are preferred: fewer terms.
    name = max(fitting, key=lambda candidate: fitting[candidate])
    return name, fitting[name]


def _moments(dataset: xarray.Dataset) -> np.ndarray:
    """Returns the times of the frames, lead times counted from the epoch."""
    if "time" not in dataset.dims or dataset["time"].dtype.kind not in "mM":
        raise ValueError("time: the data has no axis of dates or lead times")
    values = dataset["time"].values
    if values.dtype.kind == "m":
        return np.datetime64("1970-01-01", "ns") + values.astype("timedelta64[ns]")
    return values
