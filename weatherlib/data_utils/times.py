"""The time axis: decoding, lead times, and the step between frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray

__all__ = [
    "TargetLeadTimes",
    "TimedeltaLike",
    "TimedeltaStr",
    "as_timedelta",
    "decode_time",
    "infer_time_step",
    "lead_times",
    "valid_times",
]

# What pandas.Timedelta accepts, such as "6h".
TimedeltaLike = Any
# The same as text.
TimedeltaStr = str
# One lead time, several, or a slice whose ends are both included.
TargetLeadTimes = TimedeltaLike | Sequence[TimedeltaLike] | slice

# Spellings that CF allows beside those of pandas.
_UNITS = {
    "weeks": "W",
    "week": "W",
    "days": "D",
    "day": "D",
    "hours": "h",
    "hour": "h",
    "hrs": "h",
    "hr": "h",
    "minutes": "min",
    "minute": "min",
    "mins": "min",
    "seconds": "s",
    "second": "s",
    "secs": "s",
    "sec": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
}


def as_timedelta(value: TimedeltaLike) -> pd.Timedelta:
    """Returns a length of time, such as "6h", as a Timedelta.

    Raises:
      ValueError: The value is no length of time, or a missing one.
    """
    if isinstance(value, str):
        # pandas is about to drop the small letter, which people write.
        value = re.sub(r"(?<=\d)\s*d\b", "D", value)
        if re.fullmatch(r"\s*[+-]?[\d.]+\s*", value):
            # For pandas these are nanoseconds.
            raise ValueError(f"{value!r} has no unit; expected a length such as '6h'")
    try:
        length = pd.Timedelta(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{value!r} is not a length of time such as '6h'") from error
    if not isinstance(length, pd.Timedelta):
        raise ValueError(f"{value!r} is a missing time, expected one such as '6h'")
    return length


def lead_times(step: pd.Timedelta, first: int, stop: int) -> pd.TimedeltaIndex:
    """Returns multiples of a time step from `first` up to, not including, `stop`."""
    nanoseconds = np.arange(first, stop) * pd.Timedelta(step).as_unit("ns").value
    return pd.TimedeltaIndex(nanoseconds.astype("timedelta64[ns]"))


def decode_time(
    dataset: xarray.Dataset, names: Iterable[str] = ("time",)
) -> xarray.Dataset:
    """Returns the data with lead times stored as numbers turned into timedelta64[ns].

    Example files of the published models store `time` as int32 with the attribute
    `units: hours`, which new versions of xarray leave as numbers unless they are asked
    for `decode_timedelta=True`.

    Args:
      dataset: Not changed.
      names: Coordinates to decode where they exist; those that hold dates or lead
        times already are left alone.

    Raises:
      ValueError: Numbers have no `units`, or units that are no length of time.
    """
    decoded = {
        name: _decoded(name, dataset[name].variable)
        for name in names
        if name in dataset.coords and dataset[name].dtype.kind in "iuf"
    }
    return dataset.assign_coords(decoded) if decoded else dataset


def _decoded(name: str, variable: xarray.Variable) -> xarray.Variable:
    """Returns one coordinate as timedelta64[ns] by its units."""
    units = str(variable.attrs.get("units", "")).strip()
    unit = _UNITS.get(units.lower(), units)
    if not units:
        raise ValueError(
            f"{name}: numbers without a `units` attribute; set it, such as to 'hours' "
            "for lead times, or give dates as datetime64"
        )
    try:
        values = pd.to_timedelta(np.ravel(variable.values), unit=unit)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(
            f"{name}: units {units!r} are not a length of time such as 'hours', and "
            "were not decoded as one since a date; correct the attribute, such as to "
            "'hours since 1900-01-01', or decode it with xarray.decode_cf"
        ) from error
    attrs = {k: v for k, v in variable.attrs.items() if k not in ("units", "dtype")}
    data = values.to_numpy().astype("timedelta64[ns]").reshape(variable.shape)
    return xarray.Variable(variable.dims, data, attrs)


def infer_time_step(time: xarray.DataArray) -> pd.Timedelta:
    """Returns the common difference between successive frames.

    Args:
      time: Lead times or dates, shape [time].

    Raises:
      ValueError: There are fewer than two frames, or they are not evenly spaced in
        ascending order.
    """
    values = np.atleast_1d(time.values)
    if values.size < 2:
        raise ValueError(
            f"time: {values.size} frame(s) do not show the time step; give at least two"
        )
    if values.dtype.kind not in "mM":
        raise ValueError(
            f"time: holds {values.dtype}, expected timedelta64 (see decode_time)"
        )
    steps = np.diff(values).astype("timedelta64[ns]")
    first = as_timedelta(steps[0])
    odd = np.flatnonzero(steps != steps[0])
    if odd.size:
        raise ValueError(
            f"time: uneven steps, {first} at first but {pd.Timedelta(steps[odd[0]])} "
            f"between frames {odd[0]} and {odd[0] + 1}"
        )
    if first <= pd.Timedelta(0):
        raise ValueError(f"time: frames must ascend, but their step is {first}")
    return first


def valid_times(dataset: xarray.Dataset) -> xarray.DataArray:
    """Returns the UTC time of each frame, for each member where there is a batch.

    Args:
      dataset: Has the coordinate `datetime`, with or without `batch`.

    Returns:
      datetime64, dimensions ([batch,] time).

    Raises:
      ValueError: The coordinate is missing or holds something else than dates.
    """
    if "datetime" not in dataset.coords:
        raise ValueError(
            "datetime: the data has no such coordinate; add the UTC time of each frame "
            "as datetime64 with the dimensions (batch, time)"
        )
    datetimes = dataset.coords["datetime"]
    if datetimes.dtype.kind != "M":
        raise ValueError(
            f"datetime: holds {datetimes.dtype}, expected datetime64; give the UTC "
            "time of each frame, as data.open_dataset reads it"
        )
    datetimes = datetimes.reset_coords(drop=True)
    if "batch" in dataset.dims and "batch" not in datetimes.dims:
        datetimes = datetimes.expand_dims(batch=dataset.sizes["batch"])
    order = [dim for dim in ("batch", "time") if dim in datetimes.dims]
    return datetimes.transpose(*order, ...)
