"""Sunlight that arrives at the top of the atmosphere, compatible with ERA5.

All of it follows from two unit vectors in a frame that turns with the Earth: where a
place is, and where the sun is. Their dot product is the sine of the sun's altitude.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32

from weatherlib.geometry import sphere

__all__ = [
    "SolarIrradiance",
    "SunPath",
    "days_since_j2000",
    "era5_solar_irradiance",
    "get_toa_incident_solar_radiation",
    "reference_solar_irradiance",
    "sun_path",
    "total_solar_irradiance",
]

_SECONDS_PER_DAY = 86400.0
_DAYS_PER_JULIAN_YEAR = 365.25
_J2000 = np.datetime64("2000-01-01T12:00:00", "ns")

# Tilt of the Earth's axis in radians, 23.4393 degrees.
_OBLIQUITY = 0.409093

# Instants that are quicker visited one by one than split.
_FEW_INSTANTS = 6


class SolarIrradiance(NamedTuple):
    """Power of sunlight at the mean distance of the Earth from the sun.

    Attributes:
      years: Rising, with 2020.5 for the middle of 2020. Shape [year].
      watts_per_square_metre: Mean over each year, shape [year].
    """

    years: Float[np.ndarray, " year"]
    watts_per_square_metre: Float[np.ndarray, " year"]


class SunPath(NamedTuple):
    """Where the sun stands at some instants.

    Attributes:
      direction: Unit vector from the Earth to the sun, in the frame of
        `sphere.positions_from_angles`. Shape [..., 3].
      distance: From the Earth in astronomical units, shape [...].
    """

    direction: Float[np.ndarray, "*instant 3"]
    distance: Float[np.ndarray, "*instant"]


def reference_solar_irradiance() -> SolarIrradiance:
    """Returns the present best value, 1361 W m-2, for all times.

    Source: NOAA climate data record of total solar irradiance.
    """
    return SolarIrradiance(np.array([0.0]), np.array([1361.0]))


def era5_solar_irradiance() -> SolarIrradiance:
    """Returns the yearly values of ERA5, from 1951 to 2034.

    The last cycle of 13 years that was observed repeats afterwards.

    Source: total solar irradiance of the ECMWF model, cycle 41r2, scaled down to
    later observations as in ERA5.
    """
    values = np.concatenate([_BEFORE_1996, np.tile(_FROM_1996_TO_2008, 3)])
    return SolarIrradiance(1951.5 + np.arange(len(values)), _ERA5_SCALE * values)


_ERA5_SCALE = 0.9965

# W m-2 before scaling, one value a year, a row for five years.
_BEFORE_1996 = np.array(
    [
        *[1365.7765, 1365.7676, 1365.6284, 1365.6564, 1365.7773],
        *[1366.3109, 1366.6681, 1366.6328, 1366.3828, 1366.2767],
        *[1365.9199, 1365.7484, 1365.6963, 1365.6976, 1365.7341],
        *[1365.9178, 1366.1143, 1366.1644, 1366.2476, 1366.2426],
        *[1365.9580, 1366.0525, 1365.7991, 1365.7271, 1365.5345],
        *[1365.6453, 1365.8331, 1366.2747, 1366.6348, 1366.6482],
        *[1366.6951, 1366.2859, 1366.1992, 1365.8103, 1365.6416],
        *[1365.6379, 1365.7899, 1366.0826, 1366.6479, 1366.5533],
        *[1366.4457, 1366.3021, 1366.0286, 1365.7971, 1365.6996],
    ]
)
_FROM_1996_TO_2008 = np.array(
    [
        *[1365.6121, 1365.7399, 1366.1021, 1366.3851, 1366.6836],
        *[1366.6022, 1366.6807, 1366.2300, 1366.0480, 1365.8545],
        *[1365.8107, 1365.7240, 1365.6918],
    ]
)


def total_solar_irradiance(
    timestamps: Any, irradiance: SolarIrradiance | None = None
) -> Float[np.ndarray, "*time"]:
    """Returns the irradiance at each time in W m-2, interpolated between mid-years.

    Before the first and after the last year the value stays the same.

    Args:
      timestamps: UTC, any shape.
      irradiance: Yearly values, those of ERA5 by default.

    Raises:
      ValueError: A timestamp cannot be read or is missing.
    """
    times = _as_times(timestamps)
    table = era5_solar_irradiance() if irradiance is None else irradiance
    year = times.astype("datetime64[Y]")
    start, end = (
        y.astype("datetime64[ns]") for y in (year, year + np.timedelta64(1, "Y"))
    )
    fraction = (times - start) / (end - start)
    years = 1970 + year.astype(np.int64) + fraction
    return np.asarray(np.interp(years, table.years, table.watts_per_square_metre))


def days_since_j2000(timestamps: Any) -> Float[np.ndarray, "*time"]:
    """Returns days since noon of 1 January 2000, in the shape of `timestamps`.

    Raises:
      ValueError: A timestamp cannot be read or is missing.
    """
    return np.asarray((_as_times(timestamps) - _J2000) / np.timedelta64(1, "D"))


def sun_path(j2000_days: Float[np.ndarray, "*instant"]) -> SunPath:
    """Returns where the sun stands.

    Args:
      j2000_days: Days since J2000, any shape.

    Source: `sucst.F90` and `fcttim.cdk` of the GEM model, whose series ERA5 follows.
    """
    years = j2000_days / _DAYS_PER_JULIAN_YEAR
    # Angles along the orbit, named as in the source: REL, REM, RLLS and RLLLS.
    rel = 1.7535 + 6.283076 * years
    rem = 6.240041 + 6.283020 * years
    rlls = 4.8951 + 6.283076 * years
    rllls = (
        4.8952
        + 6.283320 * years
        - 0.0075 * np.sin(rel)
        - 0.0326 * np.cos(rel)
        - 0.0003 * np.sin(2 * rel)
        + 0.0002 * np.cos(2 * rel)
    )
    equation_of_time = (
        591.8 * np.sin(2 * rlls)
        - 459.4 * np.sin(rem)
        + 39.5 * np.sin(rem) * np.cos(2 * rlls)
        - 12.7 * np.sin(4 * rlls)
        - 4.8 * np.sin(2 * rem)
    )
    hour_angle = 2 * np.pi * (j2000_days % 1 + equation_of_time / _SECONDS_PER_DAY)
    sin_declination = np.sin(_OBLIQUITY) * np.sin(rllls)
    cos_declination = np.sqrt(1 - sin_declination**2)
    direction = np.stack(
        [
            cos_declination * np.cos(hour_angle),
            -cos_declination * np.sin(hour_angle),
            sin_declination,
        ],
        axis=-1,
    )
    distance = 1.0001 - 0.0163 * np.sin(rel) + 0.0037 * np.cos(rel)
    return SunPath(direction, distance)


def get_toa_incident_solar_radiation(
    timestamps: Any,
    latitude: Any,
    longitude: Any,
    irradiance: SolarIrradiance | None = None,
    integration_period: Any = "1h",
    num_integration_bins: int = 360,
) -> Float32[np.ndarray, "*time lat lon"]:
    """Returns the solar energy received up to each time, in J m-2.

    The defaults give `toa_incident_solar_radiation` of ERA5: the sum over the hour
    before each time, with the trapezoidal rule.

    Args:
      timestamps: Ends of the periods in UTC, any shape; such as [time], or
        [batch, time] for members that start at different times.
      latitude: Degrees north, shape [lat].
      longitude: Degrees east, shape [lon].
      irradiance: Yearly values of the power of sunlight, those of ERA5 by default.
      integration_period: Length of the period, such as "1h" or "6h".
      num_integration_bins: Intervals of the trapezoidal rule.

    Returns:
      Shape [*timestamps, lat, lon].

    Raises:
      ValueError: A timestamp, latitude or longitude is missing or out of range, the
        period is not positive, or there are no bins.
    """
    times = _as_times(timestamps)
    seconds = pd.Timedelta(integration_period).total_seconds()
    if not seconds > 0:
        raise ValueError(
            f"integration_period must be positive, got {integration_period!r}"
        )
    if num_integration_bins < 1:
        raise ValueError(
            f"num_integration_bins must be at least 1, got {num_integration_bins}"
        )
    places = _places(latitude, longitude)
    shape = (np.size(latitude), np.size(longitude))
    offsets = np.linspace(-seconds / _SECONDS_PER_DAY, 0, num_integration_bins + 1)
    weights = np.full(len(offsets), seconds / num_integration_bins)
    weights[[0, -1]] /= 2
    power = total_solar_irradiance(times, irradiance).ravel()
    ends = days_since_j2000(times).ravel()
    energy = np.empty((len(ends), len(places)), np.float32)
    for index, (end, watts) in enumerate(zip(ends, power, strict=True)):
        path = sun_path(end + offsets)
        joules = watts * weights / path.distance**2
        energy[index] = _sum_of_daylight(places, path.direction, joules)
    return energy.reshape(*times.shape, *shape)


def _sum_of_daylight(
    places: Float[np.ndarray, "place 5"],
    sun: Float[np.ndarray, "instant 3"],
    joules: Float[np.ndarray, " instant"],
) -> Float[np.ndarray, " place"]:
    """Returns the sum of `joules * max(0, place @ sun)` over instants.

    Where the sun stays up all the time, the sum moves into the vector of the sun, and
    where it stays down, it is zero. For the other places, a tenth of the globe in one
    hour, each half of the time is looked at by itself. At 0.25 degrees this takes a
    fiftieth of the time of visiting every instant everywhere.

    Args:
      places: x, y, z, distance from the axis, distance from the equatorial plane.
      sun: Directions to the sun in order of time.
      joules: Energy that each instant stands for, with the sun in the zenith, per m2.
    """
    if len(sun) <= _FEW_INSTANTS:
        return np.maximum(places[:, :3] @ sun.T, 0) @ joules
    middle = len(sun) // 2
    altitude = places[:, :3] @ sun[middle]
    away = sun - sun[middle]
    # No altitude is further from the middle one than this.
    reach = places[:, 3] * np.hypot(away[:, 0], away[:, 1]).max()
    reach += places[:, 4] * np.abs(away[:, 2]).max()
    total = np.where(altitude >= reach, places[:, :3] @ (joules @ sun), 0.0)
    changing = np.flatnonzero(np.abs(altitude) < reach)
    if changing.size:
        total[changing] = sum(
            _sum_of_daylight(places[changing], sun[half], joules[half])
            for half in (slice(None, middle), slice(middle, None))
        )
    return total


def _places(latitude: Any, longitude: Any) -> Float[np.ndarray, "place 5"]:
    """Returns x, y, z and the distances from the axis and the equatorial plane."""
    lat, lon = (np.asarray(values, np.float64) for values in (latitude, longitude))
    for name, values in (("latitude", lat), ("longitude", lon)):
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(
                f"{name} must be a list of finite numbers in degrees, got {values}"
            )
    if lat.size and np.abs(lat).max() > 90.0001:
        raise ValueError(
            "latitude must lie in [-90, 90] degrees, found "
            f"{lat[np.abs(lat).argmax()]:g}"
        )
    xyz = sphere.grid_positions(lat, lon).reshape(-1, 3)
    extent = np.hypot(xyz[:, 0], xyz[:, 1]), np.abs(xyz[:, 2])
    return np.column_stack([xyz, *extent])


def _as_times(timestamps: Any) -> np.ndarray:
    """Returns datetime64[ns] in the shape of `timestamps`."""
    array = np.asarray(timestamps)
    if array.dtype.kind != "M":
        try:
            times = pd.DatetimeIndex(array.ravel()).to_numpy()
        except (TypeError, ValueError) as error:
            raise ValueError(f"timestamps cannot be read as dates: {error}") from error
        array = times.reshape(array.shape)
    if np.isnat(array).any():
        raise ValueError("timestamps must not be missing (NaT)")
    return array.astype("datetime64[ns]")
