"""Fields that follow from time and place: sun, progress of year and day, latitude."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray

from weatherlib.geometry import solar

__all__ = [
    "AVG_SEC_PER_YEAR",
    "COMPUTABLE",
    "COMPUTABLE_FORCINGS",
    "COMPUTABLE_STATICS",
    "DAY_PROGRESS",
    "LATITUDE",
    "SEC_PER_DAY",
    "TISR",
    "YEAR_PROGRESS",
    "add_derived_vars",
    "add_tisr_var",
    "compute_forcings",
    "featurize_progress",
    "get_day_progress",
    "get_seconds_since_epoch",
    "get_year_progress",
    "with_statics",
]

SEC_PER_DAY = 86400
# Mean tropical year of 365.24219 days.
AVG_SEC_PER_YEAR = SEC_PER_DAY * 365.24219

DAY_PROGRESS = "day_progress"
YEAR_PROGRESS = "year_progress"
TISR = "toa_incident_solar_radiation"
LATITUDE = "lattitude"

_SUFFIXES = ("", "_sin", "_cos")
_DAY_FEATURES = tuple(DAY_PROGRESS + suffix for suffix in _SUFFIXES)
_YEAR_FEATURES = tuple(YEAR_PROGRESS + suffix for suffix in _SUFFIXES)

# Every forcing that needs nothing but the valid time and the grid.
COMPUTABLE_FORCINGS = frozenset({TISR, *_DAY_FEATURES, *_YEAR_FEATURES})

# Fields that need nothing but the grid. The latitude of each point is spelled as in
# the published ClimaX, whose input it is.
COMPUTABLE_STATICS = frozenset({LATITUDE})
COMPUTABLE = COMPUTABLE_FORCINGS | COMPUTABLE_STATICS


def get_year_progress(seconds_since_epoch: np.ndarray) -> np.ndarray:
    """Returns how far the mean year has gone, in [0, 1), as float32.

    Years are counted from 1970-01-01 in mean tropical years, as the published models
    were trained, so 1 January is only about zero.

    Args:
      seconds_since_epoch: Seconds since 1970-01-01 UTC, any shape.
    """
    # The division goes by days first: this order gives the published last bits.
    years = (
        seconds_since_epoch / SEC_PER_DAY / np.float64(AVG_SEC_PER_YEAR / SEC_PER_DAY)
    )
    return _unit_interval(years)


def get_day_progress(
    seconds_since_epoch: np.ndarray, longitude: np.ndarray
) -> np.ndarray:
    """Returns how far the local solar day has gone, in [0, 1), as float32.

    Args:
      seconds_since_epoch: Seconds since 1970-01-01 UTC, any shape.
      longitude: Degrees east, shape [lon].

    Returns:
      Shape of `seconds_since_epoch` followed by [lon].
    """
    at_greenwich = np.mod(seconds_since_epoch, SEC_PER_DAY) / SEC_PER_DAY
    offset = np.deg2rad(longitude) / (2 * np.pi)
    return _unit_interval(at_greenwich[..., np.newaxis] + offset)


def _unit_interval(progress: np.ndarray) -> np.ndarray:
    """Returns the fractional part in float32, kept below one after rounding."""
    fraction = np.mod(progress, 1.0).astype(np.float32)
    return np.minimum(fraction, np.nextafter(np.float32(1), np.float32(0)))


def featurize_progress(
    name: str, dims: Sequence[str], progress: np.ndarray
) -> Mapping[str, xarray.Variable]:
    """Returns the progress itself, its sine and its cosine, named after `name`.

    Args:
      name: Name of the progress; `_sin` and `_cos` are appended for the others.
      dims: One name for each dimension of `progress`.
      progress: Values in [0, 1).

    Raises:
      ValueError: `dims` and `progress` differ in their number of dimensions.
    """
    if len(dims) != np.ndim(progress):
        raise ValueError(
            f"{name}: dims {tuple(dims)} name {len(dims)} dimensions, but the values "
            f"have {np.ndim(progress)}"
        )
    phase = progress * (2 * np.pi)
    values = (progress, np.sin(phase), np.cos(phase))
    return {
        name + suffix: xarray.Variable(dims, value)
        for suffix, value in zip(_SUFFIXES, values, strict=True)
    }


def get_seconds_since_epoch(datetime_sequence: xarray.DataArray) -> np.ndarray:
    """Returns whole seconds since 1970-01-01 UTC of datetime64 values, as int64."""
    return np.asarray(datetime_sequence.data).astype("datetime64[s]").astype(np.int64)


def add_derived_vars(data: xarray.Dataset) -> None:
    """Adds year and day progress, their sines and cosines to `data` where missing.

    Args:
      data: Changed in place. Has the coordinates `datetime` (with the dimensions
        `batch` and `time` as far as `data` has them) and `lon`.

    Raises:
      ValueError: A coordinate is missing.
    """
    require_coordinates(data, "datetime", "lon")
    seconds = get_seconds_since_epoch(data.coords["datetime"])
    time_dims = (*(("batch",) if "batch" in data.dims else ()), "time")
    if YEAR_PROGRESS not in data.data_vars:
        progress = get_year_progress(seconds)
        data.update(featurize_progress(YEAR_PROGRESS, time_dims, progress))
    if DAY_PROGRESS not in data.data_vars:
        longitude = data.coords["lon"]
        progress = get_day_progress(seconds, longitude.data)
        dims = (*time_dims, *(str(dim) for dim in longitude.dims))
        data.update(featurize_progress(DAY_PROGRESS, dims, progress))


def add_tisr_var(data: xarray.Dataset) -> None:
    """Adds the solar radiation at the top of the atmosphere to `data` where missing.

    Each value is the sum over the hour that ends at `datetime`, J m-2, as in ERA5.
    Members of a batch may start at different times; each gets its own sun.

    Args:
      data: Changed in place. Has the coordinates `datetime`, `lat` and `lon`.

    Raises:
      ValueError: A coordinate is missing, or the members of the batch do not advance
        by the same steps although they share one `time` axis.
    """
    if TISR in data.data_vars:
        return
    require_coordinates(data, "datetime", "lat", "lon")
    datetimes = data.coords["datetime"]
    require_common_steps(datetimes)
    data.update({TISR: _radiation(datetimes, data.coords["lat"], data.coords["lon"])})


def compute_forcings(
    names: Sequence[str],
    datetimes: xarray.DataArray,
    lat: xarray.DataArray,
    lon: xarray.DataArray,
    *,
    integration_period: str = "1h",
    lazy: bool = False,
) -> dict[str, xarray.Variable]:
    """Returns fields by name, computed from valid time and place alone.

    Args:
      names: Members of `COMPUTABLE`. Those of `COMPUTABLE_STATICS` have no time.
      datetimes: UTC, with the dimensions of the result's time and batch.
      lat: Degrees north, shape [lat].
      lon: Degrees east, shape [lon].
      integration_period: Period ending at the valid time over which solar radiation
        is summed.
      lazy: Makes the radiation a dask array with one block a time, computed when read.

    Raises:
      ValueError: A name cannot be computed.
    """
    unknown = sorted(set(names) - COMPUTABLE)
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: cannot be computed from time and place; only "
            f"{', '.join(sorted(COMPUTABLE))} can"
        )
    computed: dict[str, xarray.Variable] = {}
    seconds = get_seconds_since_epoch(datetimes)
    dims = tuple(str(dim) for dim in datetimes.dims)
    if set(names) & set(_YEAR_FEATURES):
        computed |= featurize_progress(YEAR_PROGRESS, dims, get_year_progress(seconds))
    if set(names) & set(_DAY_FEATURES):
        progress = get_day_progress(seconds, lon.data)
        computed |= featurize_progress(DAY_PROGRESS, (*dims, "lon"), progress)
    if TISR in names:
        computed[TISR] = _radiation(datetimes, lat, lon, integration_period, lazy=lazy)
    if LATITUDE in names:
        computed[LATITUDE] = _latitudes(lat, lon)
    return {name: computed[name] for name in names}


def with_statics(dataset: xarray.Dataset, names: Iterable[str]) -> xarray.Dataset:
    """Returns the data with those fields of the grid added that are asked for.

    Args:
      dataset: Fields that it holds stay as they are.
      names: What is asked for; others than `COMPUTABLE_STATICS` are passed over.

    Raises:
      ValueError: The data have no coordinates `lat` and `lon`.
    """
    missing = sorted((COMPUTABLE_STATICS & set(names)) - set(dataset.data_vars))
    if not missing:
        return dataset
    require_coordinates(dataset, "lat", "lon")
    lat, lon = dataset["lat"], dataset["lon"]
    nothing = xarray.DataArray(np.empty(0, "datetime64[ns]"), dims="time")
    return dataset.assign(compute_forcings(missing, nothing, lat, lon))


def _latitudes(lat: xarray.DataArray, lon: xarray.DataArray) -> xarray.Variable:
    """Returns the latitude of each point, degrees north, float32."""
    rows = np.asarray(lat.values, np.float32)[:, np.newaxis]
    values = np.broadcast_to(rows, (lat.size, lon.size)).copy()
    return xarray.Variable(("lat", "lon"), values, {"units": "degrees_north"})


def _radiation(
    datetimes: xarray.DataArray,
    lat: xarray.DataArray,
    lon: xarray.DataArray,
    integration_period: str = "1h",
    *,
    lazy: bool = False,
) -> xarray.Variable:
    """Returns radiation with the dimensions of `datetimes`, lat and lon, J m-2."""
    times = np.asarray(datetimes.data).astype("datetime64[ns]")
    dims = (*datetimes.dims, "lat", "lon")
    radiation = functools.partial(
        solar.get_toa_incident_solar_radiation,
        latitude=np.asarray(lat.data),
        longitude=np.asarray(lon.data),
        integration_period=integration_period,
    )
    if not lazy:
        return xarray.Variable(dims, radiation(times))
    import dask.array

    blocks = dask.array.map_blocks(
        radiation,
        dask.array.from_array(times).rechunk(1),
        dtype=np.float32,
        new_axis=[times.ndim, times.ndim + 1],
        chunks=(*((1,) * size for size in times.shape), lat.shape, lon.shape),
        meta=np.empty((0,) * len(dims), np.float32),
    )
    return xarray.Variable(dims, blocks)


def require_coordinates(data: xarray.Dataset, *names: str) -> None:
    """Raises a ValueError that names every missing coordinate."""
    missing = [name for name in names if name not in data.coords]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} must be a coordinate of the data; it has "
            f"{', '.join(map(str, data.coords)) or 'none'}"
        )


def require_common_steps(datetimes: xarray.DataArray) -> None:
    """Raises a ValueError where members of a batch advance by different steps."""
    if "batch" not in datetimes.dims or "time" not in datetimes.dims:
        return
    times = datetimes.transpose("batch", "time").data.astype("datetime64[ns]")
    since_start = times - times[:, :1]
    odd = np.flatnonzero((since_start != since_start[:1]).any(axis=1))
    if odd.size:
        raise ValueError(
            f"datetime: batch member {odd[0]} does not advance by the same steps as "
            "member 0, so one `time` axis cannot serve both; cannot select a dimension "
            "for the times: split the batch"
        )
