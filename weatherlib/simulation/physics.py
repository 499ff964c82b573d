"""Heating, friction and water of the simulated atmosphere, on arrays.

All in SI units. Fields have the shape [layer, lon, lat] from the top down, surface
fields [lon, lat].

Sources: Held and Suarez (1994), doi:10.1175/1520-0477(1994)075<1825:APFTIO>2.0.CO;2,
for friction and the relaxation of temperature; Thatcher and Jablonowski (2016),
doi:10.5194/gmd-9-1263-2016, for their change by moisture and for the sea surface.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Field",
    "condense",
    "equilibrium_temperature",
    "evaporate",
    "friction_rate",
    "mix_humidity",
    "relaxation_rate",
    "saturation_humidity",
    "sea_surface_temperature",
    "sun_anomaly",
]

GRAVITY = 9.80665
GAS_CONSTANT = 287.0
GAS_CONSTANT_VAPOUR = 461.5
HEAT_CAPACITY = 1004.6
LATENT_HEAT = 2.5e6
REFERENCE_PRESSURE = 1e5
LAPSE_RATE = 0.0065

# What the functions take: traced or not.
Field = jax.Array | np.ndarray | float

_KAPPA = GAS_CONSTANT / HEAT_CAPACITY
_DAY = 86400.0
_BOUNDARY = 0.7
# Thatcher and Jablonowski's equator and contrast of the equilibrium, K.
_EQUATOR, _CONTRAST, _STABILITY, _STRATOSPHERE = 294.0, 65.0, 10.0, 200.0
_EXCHANGE = 2.2e-3
_GUST = 2.0


def relaxation_rate(sigma: np.ndarray, sin_lat: np.ndarray) -> np.ndarray:
    """Returns the rate at which temperature tends to equilibrium, s-1.

    Args:
      sigma: Pressure over surface pressure, shape [layer].
      sin_lat: Shape [lat].

    Returns:
      Shape [layer, 1, lat].
    """
    depth = np.maximum(0.0, (sigma - _BOUNDARY) / (1 - _BOUNDARY))
    cos_lat = np.sqrt(1 - sin_lat**2)
    rate = 1 / 40 + (1 / 4 - 1 / 40) * depth[:, None, None] * cos_lat**4
    return rate / _DAY


def friction_rate(sigma: np.ndarray) -> np.ndarray:
    """Returns the rate at which wind near the ground slows down, s-1, shape [layer]."""
    return np.maximum(0.0, (sigma - _BOUNDARY) / (1 - _BOUNDARY)) / _DAY


def equilibrium_temperature(pressure: Field, sin_lat: np.ndarray) -> jax.Array:
    """Returns the temperature of radiative equilibrium, K.

    Args:
      pressure: Pa, shape [layer, lon, lat].
      sin_lat: Shape [lat].
    """
    ratio = pressure / REFERENCE_PRESSURE
    contrast = _CONTRAST * sin_lat**2
    stability = _STABILITY * jnp.log(ratio) * (1 - sin_lat**2)
    return jnp.maximum(_STRATOSPHERE, (_EQUATOR - contrast - stability) * ratio**_KAPPA)


def sea_surface_temperature(sin_lat: np.ndarray) -> np.ndarray:
    """Returns the temperature of the sea, K, shape [lat]."""
    latitude = np.arcsin(sin_lat)
    width = np.deg2rad(26.0)
    return 271.0 + 29.0 * np.exp(-(latitude**2) / (2 * width**2))


def saturation_humidity(temperature: Field, pressure: Field) -> jax.Array:
    """Returns the specific humidity of saturated air, kg kg-1, at most 0.1.

    Args:
      temperature: K.
      pressure: Pa, a shape that broadcasts with `temperature`.

    Source: Clausius and Clapeyron with a constant latent heat.
    """
    inverse = 1 / temperature - 1 / 273.16
    vapour_pressure = 610.78 * jnp.exp(-LATENT_HEAT / GAS_CONSTANT_VAPOUR * inverse)
    ratio = GAS_CONSTANT / GAS_CONSTANT_VAPOUR
    return jnp.minimum(0.1, ratio * vapour_pressure / pressure)


def condense(
    temperature: Field, humidity: Field, pressure: Field
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns temperature and humidity after vapour above saturation has rained out.

    Args:
      temperature: K, shape [layer, lon, lat].
      humidity: Specific humidity, kg kg-1.
      pressure: Pa.

    Returns:
      Warmer temperature, lower humidity, and the vapour lost by each layer, kg kg-1.
    """
    saturated = saturation_humidity(temperature, pressure)
    slope = LATENT_HEAT * saturated / (GAS_CONSTANT_VAPOUR * temperature**2)
    excess = jnp.maximum(humidity - saturated, 0.0)
    rain = excess / (1 + LATENT_HEAT / HEAT_CAPACITY * slope)
    warmer = temperature + LATENT_HEAT / HEAT_CAPACITY * rain
    return jnp.asarray(warmer), jnp.asarray(humidity - rain), rain


def evaporate(
    humidity: Field,
    surface_humidity: Field,
    wind_speed: Field,
    depth: Field,
    seconds: float,
) -> jax.Array:
    """Returns the humidity of the lowest layer after evaporation, never lower.

    Args:
      humidity: Lowest layer, kg kg-1, shape [lon, lat].
      surface_humidity: Humidity of the air that touches the ground, kg kg-1.
      wind_speed: Lowest layer, m s-1.
      depth: Of the lowest layer, m.
      seconds: Length of the step.
    """
    share = _EXCHANGE * jnp.sqrt(wind_speed**2 + _GUST**2) * seconds / depth
    gain = share / (1 + share) * (surface_humidity - humidity)
    return jnp.asarray(humidity + jnp.maximum(gain, 0.0))


def mix_humidity(
    humidity: jax.Array, sigma: np.ndarray, thickness: np.ndarray, seconds: float
) -> jax.Array:
    """Returns the humidity after exchange between neighbouring layers near the ground.

    The water of the column does not change.

    Args:
      humidity: kg kg-1, shape [layer, lon, lat].
      sigma: Centres of the layers, shape [layer].
      thickness: Of the layers in sigma, shape [layer].
      seconds: Length of the step.
    """
    upper = np.maximum(0.0, (sigma[:-1] - 0.45) / 0.55)[:, None, None]
    share = upper * seconds / (seconds + 0.5 * _DAY)
    mass = np.minimum(thickness[1:], thickness[:-1])[:, None, None] / 2
    flux = share * mass * (humidity[1:] - humidity[:-1])
    width = thickness[:, None, None]
    gain = jnp.pad(flux, [(0, 1), (0, 0), (0, 0)])
    loss = jnp.pad(flux, [(1, 0), (0, 0), (0, 0)])
    return humidity + (gain - loss) / width


def sun_anomaly(
    sin_lat: np.ndarray,
    longitude: np.ndarray,
    day_fraction: Field,
    declination: Field,
) -> jax.Array:
    """Returns how far sunlight is above its mean of the day, over the solar constant.

    Args:
      sin_lat: Shape [lat].
      longitude: Radians east, shape [lon].
      day_fraction: Time of day at Greenwich in days.
      declination: Of the sun, radians.

    Returns:
      Shape [lon, lat]. Its mean over a day is zero.
    """
    cos_lat = np.sqrt(1 - sin_lat**2)
    rise = sin_lat * jnp.sin(declination)
    swing = cos_lat * jnp.cos(declination)
    hour = 2 * jnp.pi * (day_fraction - 0.5) + longitude[:, None]
    height = jnp.maximum(rise + swing * jnp.cos(hour), 0.0)
    sunset = jnp.arccos(jnp.clip(-rise / swing, -1.0, 1.0))
    daily = (sunset * rise + swing * jnp.sin(sunset)) / jnp.pi
    return height - daily
