"""Random fields that look the same everywhere on the sphere, from real harmonics.

Harmonics are orthonormal over the unit sphere: the mean of their squares is
1 / (4 pi). Grids are regular: any rows and any columns.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float, Num

from weatherlib.geometry import harmonics

__all__ = [
    "EARTH_RADIUS_KM",
    "isotropic_field",
    "spectrum_of_length",
    "synthesise",
]

EARTH_RADIUS_KM = 6371.0

_MOST_DEGREES = 1023
_NEGLIGIBLE = 1e-8


def synthesise(
    coefficients: Float[np.ndarray, "*field 2 degree degree"],
    lat: Num[np.ndarray, " lat"],
    lon: Num[np.ndarray, " lon"],
) -> Float[np.ndarray, "*field lat lon"]:
    """Returns the fields with some coefficients, at the points of a grid.

    Args:
      coefficients: Of cosines (0) and sines (1), by degree and order; those with an
        order above the degree and the sines of order 0 are not read.
      lat: Degrees north, shape [lat].
      lon: Degrees east, shape [lon].
    """
    degrees = coefficients.shape[-1]
    rows = _tables(np.asarray(lat, np.float64).tobytes(), degrees)
    waves = np.zeros((*coefficients.shape[:-3], len(lat), 2, degrees))
    for order in range(degrees):
        part = coefficients[..., order:, order] @ rows[order]
        waves[..., order] = np.moveaxis(part, -1, -2)
    # The sum over orders as one product of matrices, which is where the work lies.
    angles = np.arange(degrees)[:, np.newaxis] * np.deg2rad(np.asarray(lon, np.float64))
    basis = np.sqrt(2.0) * np.stack([np.cos(angles), np.sin(angles)])
    basis[:, 0] = np.array([1.0, 0.0])[:, np.newaxis]
    flat = waves.reshape(*waves.shape[:-2], 2 * degrees)
    return flat @ basis.reshape(2 * degrees, len(lon))


@functools.lru_cache(maxsize=2)
def _tables(lat: bytes, degrees: int) -> tuple[np.ndarray, ...]:
    """Returns the Legendre functions of every order, kept for the next fields."""
    sines = np.sin(np.deg2rad(np.frombuffer(lat, np.float64)))
    # From norm 1 over [-1, 1] to norm 1 over the sphere.
    scale = np.sqrt(1 / (2 * np.pi))
    return tuple(
        harmonics.legendre(sines, order, degrees - 1) * scale
        for order in range(degrees)
    )


def spectrum_of_length(
    length_km: float | int, *, radius_km: float = EARTH_RADIUS_KM
) -> Float[np.ndarray, " degree"]:
    """Returns the variance of each coefficient of a field with a correlation length.

    The correlation of two points falls with their distance d as
    exp(-d^2 / (2 length^2)), as far as that is possible on a sphere: the spectrum is
    that of heat spreading from a point. The variance of the field is 1 everywhere.

    Args:
      length_km: Distance at which the correlation has fallen to exp(-1/2) = 0.61, km.
      radius_km: Of the sphere, km.

    Returns:
      Variance of a coefficient by its degree, shape [degree], as long as it matters.

    Raises:
      ValueError: The length is not positive, or so short that white noise does as well.
    """
    if not 0 < length_km < np.inf:
        raise ValueError(f"correlation length must be positive, not {length_km} km")
    angle = length_km / radius_km
    degree = np.arange(_MOST_DEGREES + 1)
    log = -degree * (degree + 1) * angle**2 / 2
    kept = log > np.log(_NEGLIGIBLE)
    if kept.all():
        raise ValueError(
            f"correlation length {length_km:g} km is too short for harmonics up to "
            f"degree {_MOST_DEGREES}; use white noise instead"
        )
    # At least two degrees, so that the length of a whole globe is no constant.
    count = max(2, int(kept.sum()))
    power = np.exp(log[:count])
    return power * 4 * np.pi / ((2 * degree[:count] + 1) * power).sum()


def isotropic_field(
    normals: Float[np.ndarray, "*field 2 degree degree"],
    spectrum: Float[np.ndarray, " degree"],
    lat: Num[np.ndarray, " lat"],
    lon: Num[np.ndarray, " lon"],
) -> Float[np.ndarray, "*field lat lon"]:
    """Returns Gaussian random fields whose statistics are the same everywhere.

    Args:
      normals: Independent draws of the standard normal distribution.
      spectrum: Variance of a coefficient by its degree.
      lat: Degrees north, shape [lat].
      lon: Degrees east, shape [lon].
    """
    scaled = np.asarray(normals, np.float64) * np.sqrt(spectrum)[:, np.newaxis]
    return synthesise(scaled, lat, lon)
