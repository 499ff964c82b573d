"""Vorticity and divergence of winds on the sphere, by spherical harmonics."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = [
    "EARTH_RADIUS",
    "finite_differences",
    "legendre",
    "vorticity_and_divergence",
]

# Up to so many rows the tables of all waves are kept, about 60 MB at most.
_KEPT_ROWS = 128

# Of the sphere that ERA5 and the IFS are computed on, m.
EARTH_RADIUS = 6.371229e6


def vorticity_and_divergence(
    u: Float[np.ndarray, "*field lat lon"],
    v: Float[np.ndarray, "*field lat lon"],
    lat: Float[np.ndarray, " lat"],
    truncation: int | None = None,
) -> tuple[Float[np.ndarray, "*field lat lon"], Float[np.ndarray, "*field lat lon"]]:
    """Returns relative vorticity and divergence of a wind that covers the globe.

    The wind is carried to a Gaussian grid by its trigonometric series along meridians,
    which is exact where the rows resolve it, and projected there on vector spherical
    harmonics up to the triangular truncation that rows and columns allow.

    Args:
      u: Eastward wind, m s-1, shape [..., lat, lon]. Columns evenly around the globe.
      v: Northward wind, m s-1.
      lat: Rows from pole to pole, evenly spaced or Gaussian, in either order. Degrees.
      truncation: Highest total wavenumber; all that the grid resolves if None.

    Returns:
      s-1, of the shape of the wind, float64.

    Raises:
      ValueError: Values are NaN, or rows do not span the globe.

    Source: vector harmonics as in Swarztrauber 1993, doi:10.1175/1520-0493(1993)
      121<3415:TVHTMF>2.0.CO;2.
    """
    rows = np.asarray(lat, np.float64)
    _require_whole(rows)
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        raise ValueError("the wind has values that are not finite; fill them first")
    columns = u.shape[-1]
    # The shortest wave of an even number of columns has no phase.
    resolved = min(rows.size - 1, (columns - 1) // 2)
    truncation = resolved if truncation is None else min(truncation, resolved)
    wind = np.stack([u, v]).astype(np.float64).reshape(2, -1, rows.size, columns)
    waves = np.fft.rfft(wind, axis=-1)
    waves = np.moveaxis(waves, -1, 0)  # [wave, component, field, lat]
    result = np.zeros((columns // 2 + 1, 2, wind.shape[1], rows.size), complex)
    even, odd = _to_gaussian(rows.tobytes())
    for wave in range(truncation + 1):
        # A vector changes sign across the pole: even waves are odd functions there.
        carry = odd if wave % 2 == 0 else even
        on_nodes = waves[wave] @ carry.T
        tables = _kept_tables if rows.size <= _KEPT_ROWS else _tables
        forward = tables(rows.tobytes(), wave, truncation)
        result[wave] = _one_wave(on_nodes, *forward)
    fields = np.fft.irfft(np.moveaxis(result, 0, -1), n=columns, axis=-1)
    vorticity, divergence = fields.reshape(2, *u.shape) / EARTH_RADIUS
    return vorticity, divergence


def _one_wave(
    wind: np.ndarray, zonal: np.ndarray, meridional: np.ndarray, back: np.ndarray
) -> np.ndarray:
    """Returns vorticity and divergence of one zonal wavenumber on the rows.

    Args:
      wind: u and v on the Gaussian nodes, [2, field, node].
      zonal: Takes the part of v in the vorticity of each degree, [degree, node].
      meridional: Takes the part of u.
      back: The harmonics on the rows, [degree, lat].
    """
    u, v = wind
    vorticity = v @ zonal.T + u @ meridional.T
    divergence = u @ zonal.T - v @ meridional.T
    return np.stack([vorticity @ back, divergence @ back])


def _tables(
    rows: bytes, wave: int, truncation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what takes one zonal wavenumber of a wind to its harmonics and back.

    Integration by parts moves the derivatives from the wind to the harmonics.
    """
    lat = np.frombuffer(rows)
    nodes, weights = _gauss(_node_count(lat.size))
    functions = legendre(nodes, wave, truncation + 1)
    degrees = np.arange(wave, truncation + 1)
    # (1 - x2) dP/dx of each degree, from its neighbours.
    up = _epsilon(degrees + 1, wave) * degrees
    down = _epsilon(degrees, wave) * (degrees + 1)
    slope = -up[:, None] * functions[1:]
    slope[1:] += down[1:, None] * functions[:-2]
    along = weights / np.sqrt(1 - nodes**2)
    zonal = 1j * wave * functions[:-1] * along
    back = legendre(np.sin(np.deg2rad(lat)), wave, truncation)
    return zonal, slope * along, back


# Series of fields on the same rows share them, where that costs little memory.
_kept_tables = functools.lru_cache(maxsize=256)(_tables)


def legendre(
    x: Float[np.ndarray, " point"], order: int, highest: int
) -> Float[np.ndarray, "degree point"]:
    """Returns associated Legendre functions of one order, scaled to norm 1 on [-1, 1].

    Args:
      x: Sines of latitudes.
      order: Zonal wavenumber.
      highest: Highest degree.

    Returns:
      Degrees from `order` to `highest`.

    Source: the three-term recurrence in degree; stable upwards.
    """
    functions = np.zeros((highest - order + 1, x.size))
    cosine = np.sqrt(np.clip(1 - x**2, 0, None))
    # The sectoral function in logarithms: factorials overflow, powers underflow.
    steps = np.arange(1, order + 1)
    scale = 0.5 * (np.log(0.5) + np.sum(np.log1p(0.5 / steps)))
    with np.errstate(divide="ignore"):
        sectoral = np.exp(scale + order * np.log(cosine)) if order else np.sqrt(0.5)
    functions[0] = sectoral
    couplings = _epsilon(np.arange(order, highest + 1), order)
    if highest > order:
        functions[1] = x * functions[0] / couplings[1]
    for place in range(2, highest - order + 1):
        below = couplings[place - 1] * functions[place - 2]
        functions[place] = (x * functions[place - 1] - below) / couplings[place]
    return functions


def _epsilon(degree: Any, order: int) -> Any:
    """Returns the factor that couples a degree, or each of several, with the last."""
    squared = np.square(degree, dtype=np.float64)
    return np.sqrt((squared - order**2) / (4 * squared - 1))


def _node_count(rows: int) -> int:
    """Returns how many Gaussian nodes integrate products of two series exactly."""
    return rows + rows // 2 + 2


@functools.lru_cache(maxsize=4)
def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns sines of Gaussian latitudes and their weights."""
    return np.polynomial.legendre.leggauss(count)


@functools.lru_cache(maxsize=4)
def _to_gaussian(rows: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Returns matrices from grid rows to Gaussian nodes, for even and odd functions.

    Even and odd is meant in the angle from the pole, which runs on across it.
    """
    colatitude = np.deg2rad(90 - np.frombuffer(rows))
    nodes = np.arccos(_gauss(_node_count(colatitude.size))[0])
    at_pole = np.sin(colatitude) < 1e-9
    cosines = np.arange(colatitude.size)
    sines = np.arange(1, colatitude.size - int(at_pole.sum()) + 1)
    even = _carry(np.cos, cosines, colatitude, nodes)
    odd = _carry(np.sin, sines, colatitude, nodes)
    return even, odd


def _carry(
    function: np.ufunc, waves: np.ndarray, source: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Returns the matrix of a trigonometric interpolation."""
    at_source = function(np.outer(source, waves))
    return function(np.outer(target, waves)) @ np.linalg.pinv(at_source, rcond=1e-10)


def _require_whole(rows: np.ndarray) -> None:
    """Raises a ValueError where rows do not run from pole to pole."""
    step = 180 / rows.size
    if rows.size < 4 or np.ptp(rows) < 180 - 2.01 * step:
        raise ValueError(
            f"latitudes run from {rows.min():g} to {rows.max():g}; harmonics need the "
            "whole globe"
        )


def finite_differences(
    u: Float[np.ndarray, "*field lat lon"],
    v: Float[np.ndarray, "*field lat lon"],
    lat: Float[np.ndarray, " lat"],
    lon: Float[np.ndarray, " lon"],
) -> tuple[Float[np.ndarray, "*field lat lon"], Float[np.ndarray, "*field lat lon"]]:
    """Returns relative vorticity and divergence of a wind on a part of the globe.

    Second order inside and at the edges. For waves of eight grid lengths the error is
    about a tenth; shorter ones are damped more.

    Args:
      u: Eastward wind, m s-1, shape [..., lat, lon].
      v: Northward wind, m s-1.
      lat: Degrees north, ascending or descending, no poles.
      lon: Degrees east, ascending.

    Returns:
      s-1, float64. NaN where a neighbour is.

    Raises:
      ValueError: The grid has fewer than three rows or columns, or a row on a pole.
    """
    angle = np.deg2rad(np.asarray(lat, np.float64))
    cosine = np.cos(angle)[:, None]
    if u.shape[-1] < 3 or u.shape[-2] < 3:
        raise ValueError(f"a wind of {u.shape[-2:]} points has no derivatives")
    if np.abs(lat).max() > 89.99:
        raise ValueError("finite differences have no value on a pole; cut its row off")
    east = np.deg2rad(np.asarray(lon, np.float64))
    u, v = u.astype(np.float64), v.astype(np.float64)

    def eastward(values: np.ndarray) -> np.ndarray:
        return np.gradient(values, east, axis=-1, edge_order=2) / cosine

    def northward(values: np.ndarray) -> np.ndarray:
        return np.gradient(values * cosine, angle, axis=-2, edge_order=2) / cosine

    vorticity = (eastward(v) - northward(u)) / EARTH_RADIUS
    divergence = (eastward(u) + northward(v)) / EARTH_RADIUS
    return vorticity, divergence
