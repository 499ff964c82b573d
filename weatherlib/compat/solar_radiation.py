"""The published module `solar_radiation`, computed by `geometry.solar`.

The published function returns JAX arrays with and without `use_jit`, so this one does
too; the numbers come from NumPy, which is faster here than the published jitted code.
They are also more exact: the published code counts days in float32, which shifts times
that are no multiple of three hours by up to 42 s and sums by up to 0.2 % of the largest
(0.4 % after 2044).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray

from weatherlib.geometry import solar

__all__ = [
    "TsiDataLoader",
    "era5_tsi_data",
    "get_toa_incident_solar_radiation",
    "get_toa_incident_solar_radiation_for_xarray",
    "get_tsi",
    "reference_tsi_data",
]

_TimestampLike: TypeAlias = str | pd.Timestamp | np.datetime64
_TimedeltaLike: TypeAlias = str | pd.Timedelta | np.timedelta64

TsiDataLoader: TypeAlias = Callable[[], xarray.DataArray]
"""Makes yearly means of total solar irradiance in W m-2, with the coordinate `time` in
years: 2023.5 is the middle of 2023."""


def reference_tsi_data() -> xarray.DataArray:
    """Returns the present best value of total solar irradiance, for all times."""
    return _to_data_array(solar.reference_solar_irradiance())


def era5_tsi_data() -> xarray.DataArray:
    """Returns the yearly values of total solar irradiance that ERA5 uses."""
    return _to_data_array(solar.era5_solar_irradiance())


def get_tsi(
    timestamps: Sequence[_TimestampLike], tsi_data: xarray.DataArray
) -> np.ndarray:
    """Returns total solar irradiance at each time in W m-2, shape [time].

    Args:
      timestamps: UTC.
      tsi_data: What a `TsiDataLoader` returns.
    """
    return solar.total_solar_irradiance(timestamps, _from_data_array(tsi_data))


def get_toa_incident_solar_radiation(
    timestamps: Sequence[_TimestampLike],
    latitude: np.ndarray | jax.Array,
    longitude: np.ndarray | jax.Array,
    tsi_data: xarray.DataArray | None = None,
    integration_period: _TimedeltaLike = "1h",
    num_integration_bins: int = 360,
    use_jit: bool = False,
) -> jax.Array:
    """Returns the solar energy received up to each time, in J m-2.

    Args:
      timestamps: Ends of the periods in UTC.
      latitude: Degrees north, shape [lat].
      longitude: Degrees east, shape [lon].
      tsi_data: What a `TsiDataLoader` returns; that of ERA5 by default.
      integration_period: Length of the period. ERA5 has one hour.
      num_integration_bins: Intervals of the trapezoidal rule.
      use_jit: Makes no difference. The published code compiles if it is true.

    Returns:
      Shape [time, lat, lon].

    Raises:
      ValueError: An argument is out of range.
    """
    del use_jit
    return jnp.asarray(
        _radiation(
            timestamps,
            np.asarray(latitude),
            np.asarray(longitude),
            tsi_data,
            integration_period,
            num_integration_bins,
        )
    )


def get_toa_incident_solar_radiation_for_xarray(
    data_array_like: xarray.DataArray | xarray.Dataset,
    tsi_data: xarray.DataArray | None = None,
    integration_period: _TimedeltaLike = "1h",
    num_integration_bins: int = 360,
    use_jit: bool = False,
) -> xarray.DataArray:
    """Returns the solar energy received up to each `datetime` of a dataset, in J m-2.

    Args:
      data_array_like: Has the dimensions `lat` and `lon` with coordinates, and the
        coordinate `datetime` with any dimensions or none.
      tsi_data: What a `TsiDataLoader` returns; that of ERA5 by default.
      integration_period: Length of the period. ERA5 has one hour.
      num_integration_bins: Intervals of the trapezoidal rule.
      use_jit: Makes no difference. The published code compiles if it is true.

    Returns:
      The dimensions of `datetime`, then `lat` and `lon`, with all coordinates that fit.
      The values are a NumPy array.

    Raises:
      ValueError: A dimension or coordinate is missing, or an argument out of range.
    """
    del use_jit
    coords = data_array_like.coords
    for kind, wanted, found in (
        ("dimensions", ("lat", "lon"), data_array_like.dims),
        ("coordinates", ("datetime", "lat", "lon"), coords),
    ):
        missing = [name for name in wanted if name not in found]
        if missing:
            raise ValueError(
                f"{', '.join(missing)} {kind} are missing in `data_array_like`."
            )
    radiation = _radiation(
        coords["datetime"].data,
        coords["lat"].data,
        coords["lon"].data,
        tsi_data,
        integration_period,
        num_integration_bins,
    )
    dims = (*coords["datetime"].dims, "lat", "lon")
    kept = {name: c for name, c in coords.items() if set(c.dims) <= set(dims)}
    return xarray.DataArray(radiation, dims=dims, coords=kept)


def _radiation(
    timestamps: Sequence[_TimestampLike] | np.ndarray,
    latitude: np.ndarray,
    longitude: np.ndarray,
    tsi_data: xarray.DataArray | None,
    integration_period: _TimedeltaLike,
    num_integration_bins: int,
) -> np.ndarray:
    return solar.get_toa_incident_solar_radiation(
        timestamps,
        latitude,
        longitude,
        None if tsi_data is None else _from_data_array(tsi_data),
        integration_period,
        num_integration_bins,
    )


def _to_data_array(irradiance: solar.SolarIrradiance) -> xarray.DataArray:
    return xarray.DataArray(
        irradiance.watts_per_square_metre,
        dims=["time"],
        coords={"time": irradiance.years},
    )


def _from_data_array(tsi_data: xarray.DataArray) -> solar.SolarIrradiance:
    return solar.SolarIrradiance(
        np.asarray(tsi_data.coords["time"].data, np.float64),
        np.asarray(tsi_data.data, np.float64),
    )
