"""The form a forecast takes in a file: CF names, units and times as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib import variables

__all__ = [
    "COORDINATE_ATTRS",
    "EPOCH",
    "REFERENCE_TIME",
    "VALID_TIME",
    "decode",
    "encode",
    "field_attrs",
    "reference_times",
]

REFERENCE_TIME = "forecast_reference_time"
VALID_TIME = "valid_time"

# Time comes first in a file because frames are appended along it.
_FILE_ORDER = ("time", "sample", "batch", "level", "lat", "lon")
_MODEL_ORDER = ("sample", "batch", "time", "level", "lat", "lon")

# What CF says of a variable.
_CF_ATTRS = ("long_name", "units", "standard_name", "cell_methods")
_NANOSECONDS = {"hours": 3600 * 10**9, "seconds": 10**9}
EPOCH = "1970-01-01 00:00:00"
COORDINATE_ATTRS: Mapping[str, Mapping[str, str]] = {
    "lat": {
        "standard_name": "latitude",
        "long_name": "latitude",
        "units": "degrees_north",
        "axis": "Y",
    },
    "lon": {
        "standard_name": "longitude",
        "long_name": "longitude",
        "units": "degrees_east",
        "axis": "X",
    },
    "level": {
        "standard_name": "air_pressure",
        "long_name": "pressure level",
        "units": "hPa",
        "positive": "down",
        "axis": "Z",
    },
    "sample": {"standard_name": "realization", "long_name": "ensemble member"},
}


def encode(
    chunk: xarray.Dataset,
    reference_time: np.ndarray | None = None,
    time_unit: str | None = None,
) -> xarray.Dataset:
    """Returns frames as they are stored: time first, times as whole seconds or hours.

    Args:
      chunk: Frames of a forecast with `time` as lead times. Not changed.
      reference_time: Start of each batch member, datetime64, shape [batch] or []; the
        valid times follow from it. Without it, they come from the `datetime` of the
        chunk if there is one, and are left out otherwise.
      time_unit: "hours" or "seconds"; hours where they are whole if None.

    Raises:
      ValueError: `time` is missing or no lead time, or not whole in `time_unit`.
    """
    if "time" not in chunk.dims or "time" not in chunk.coords:
        raise ValueError("time: a forecast needs the dimension and its lead times")
    if chunk["time"].dtype.kind != "m":
        raise ValueError(
            f"time: holds {chunk['time'].dtype}, expected lead times (timedelta64)"
        )
    lead_times = chunk["time"].values.astype("timedelta64[ns]")
    data = {
        str(name): _encode_variable(str(name), array.variable)
        for name, array in chunk.data_vars.items()
    }
    coords: dict[str, xarray.Variable] = {
        "time": _encode_lead_times(lead_times, time_unit)
    }
    for name in chunk.dims:
        if name in chunk.coords and name != "time":
            attrs = {**chunk[name].attrs, **COORDINATE_ATTRS.get(str(name), {})}
            coords[str(name)] = xarray.Variable(name, chunk[name].values, attrs)
    if reference_time is None:
        reference_time = reference_times(chunk)
    if reference_time is not None:
        coords |= _encode_dates(reference_time, lead_times)
    return xarray.Dataset(data, coords=coords)


def reference_times(chunk: xarray.Dataset) -> np.ndarray | None:
    """Returns the start of each member by `datetime` less `time`, None without one."""
    if "datetime" not in chunk.coords:
        return None
    start = (chunk["datetime"] - chunk["time"]).isel(time=0, drop=True)
    return start.values.astype("datetime64[ns]")


def decode(encoded: xarray.Dataset) -> xarray.Dataset:
    """Returns stored frames in the form in which models hold them.

    The inverse of `encode` as far as variables, their values and lead times go.
    """
    nanoseconds = _NANOSECONDS[str(encoded["time"].attrs["units"])]
    lead_times = (encoded["time"].values * nanoseconds).astype("timedelta64[ns]")
    dropped = [name for name in (REFERENCE_TIME, VALID_TIME) if name in encoded]
    decoded = encoded.drop_vars(dropped).assign_coords(time=lead_times)
    order = [dim for dim in _MODEL_ORDER if dim in decoded.dims]
    decoded = decoded.transpose(*order, ...)
    decoded.attrs = {}
    return decoded


def _encode_variable(name: str, variable: xarray.Variable) -> xarray.Variable:
    """Returns the values on the host, time first, with the attributes of CF."""
    order = [dim for dim in _FILE_ORDER if dim in variable.dims]
    variable = variable.transpose(*order, ...)
    values = np.asarray(variable.values)
    if values.dtype.name in ("bfloat16", "float16"):
        values = values.astype(np.float32)
    return xarray.Variable(variable.dims, values, field_attrs(name, variable.attrs))


def field_attrs(name: str, held: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the attributes that CF asks for of a variable.

    Args:
      name: Of the variable.
      held: Attributes that it has, which count where the vocabulary does not know it.
    """
    own = {key: held[key] for key in _CF_ATTRS if key in held}
    attrs: dict[str, Any] = {"long_name": name.replace("_", " "), **own}
    known = variables.find(name)
    if known is not None:
        attrs |= {
            "long_name": known.long_name,
            "units": known.units,
            "standard_name": known.standard_name,
            "cell_methods": known.cell_methods,
        }
    return {key: value for key, value in attrs.items() if value is not None}


def _encode_lead_times(lead_times: np.ndarray, unit: str | None) -> xarray.Variable:
    """Returns lead times as whole numbers of the unit."""
    nanoseconds = lead_times.astype(np.int64)
    if unit is None:
        unit = "seconds" if np.any(nanoseconds % _NANOSECONDS["hours"]) else "hours"
    counts, rest = np.divmod(nanoseconds, _NANOSECONDS[unit])
    if rest.any():
        odd = pd.Timedelta(lead_times[np.flatnonzero(rest)[0]])
        raise ValueError(f"time: the lead time {odd} is not a whole number of {unit}")
    attrs = {
        "standard_name": "forecast_period",
        "long_name": "lead time",
        "units": unit,
        "axis": "T",
    }
    return xarray.Variable("time", counts, attrs)


def _encode_dates(
    reference_time: np.ndarray, lead_times: np.ndarray
) -> dict[str, xarray.Variable]:
    """Returns the start and the valid times, seconds since 1970."""
    start = np.asarray(reference_time).astype("datetime64[s]").astype(np.int64)
    lead = lead_times.astype("timedelta64[s]").astype(np.int64)
    dims: Sequence[str] = ("batch",) if start.ndim else ()
    valid = lead.reshape(-1, *[1] * start.ndim) + start
    attrs = {"units": f"seconds since {EPOCH}", "calendar": "proleptic_gregorian"}
    return {
        REFERENCE_TIME: xarray.Variable(
            dims,
            start,
            {"standard_name": REFERENCE_TIME, "long_name": "start of forecast"} | attrs,
        ),
        VALID_TIME: xarray.Variable(
            ("time", *dims),
            valid,
            {"standard_name": "time", "long_name": "valid time"} | attrs,
        ),
    }
