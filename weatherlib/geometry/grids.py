"""Checks of latitudes and longitudes before anything is built on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["check_latitude", "check_longitude", "is_symmetric", "poleward"]

# Rows of Gaussian grids are up to 0.9 % uneven, near the poles; a row that is missing
# or shifted is far more.
_UNEVEN = 0.02

# Rounding of float32 degrees.
_SLACK = 1e-4

# How far a row may lie from the mirror image of another, degrees.
_MIRRORED = 1e-3


def check_latitude(values: Any) -> Float[np.ndarray, " lat"]:
    """Returns the latitudes of grid rows in float64.

    Args:
      values: Degrees north, in either order. Shape [lat].

    Raises:
      ValueError: They are empty, not finite, repeated, uneven (by more than the 2 %
        that allow Gaussian grids) or leave [-90, 90].
    """
    lat = _check_finite("latitude", values)
    outside = np.flatnonzero(np.abs(lat) > 90 + _SLACK)
    if outside.size:
        raise ValueError(
            f"latitude must lie in [-90, 90] degrees, found {lat[outside[0]]:g}"
        )
    _check_even("latitude", lat, np.diff(lat))
    return lat


def check_longitude(values: Any) -> Float[np.ndarray, " lon"]:
    """Returns the longitudes of grid columns in float64.

    Args:
      values: Degrees east, counted in any way (0 to 360, -180 to 180, or across the
        seam). Shape [lon].

    Raises:
      ValueError: They are empty, not finite, repeated (0 and 360 are the same place)
        or uneven.
    """
    lon = _check_finite("longitude", values)
    _, place = np.unique(
        np.round(lon / _SLACK) % round(360 / _SLACK), return_index=True
    )
    if len(place) < len(lon):
        repeated = np.setdiff1d(np.arange(len(lon)), place)
        raise ValueError(
            f"longitude {lon[repeated[0]]:g} is the same place as another column of "
            "the grid; drop one of them"
        )
    _check_even("longitude", lon, (np.diff(lon) + 180) % 360 - 180)
    return lon


def is_symmetric(values: Any) -> bool:
    """Returns whether each row has one as far from the equator on the other side.

    Args:
      values: Degrees north, in either order. Shape [lat].
    """
    rows = np.asarray(values, np.float64)
    return bool(np.allclose(rows, -rows[::-1], rtol=0, atol=_MIRRORED))


def poleward(latitude: Any) -> np.ndarray:
    """Returns 1 where the nearer pole lies northward or both are as near, or else -1.

    Args:
      latitude: Degrees north, or anything of its sign.
    """
    return np.where(np.asarray(latitude) < 0, -1, 1)


def _check_finite(name: str, values: Any) -> Float[np.ndarray, " point"]:
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name} must be a list of at least one number, got shape {array.shape}"
        )
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers, found {array}")
    return array.astype(np.float64)


def _check_even(name: str, values: np.ndarray, steps: np.ndarray) -> None:
    if not steps.size:
        return
    typical = np.median(steps)
    if (np.sign(steps) != np.sign(typical)).any() or typical == 0:
        raise ValueError(
            f"{name} must rise or fall throughout without repeats, found "
            f"{_around(values, int(np.argmin(steps * np.sign(typical))))}"
        )
    deviation = np.abs(steps - typical)
    worst = int(deviation.argmax())
    if deviation[worst] > _UNEVEN * abs(typical) + _SLACK:
        raise ValueError(
            f"{name} must be evenly spaced: most steps are {abs(typical):g} degrees, "
            f"but there is {_around(values, worst)}"
        )


def _around(values: np.ndarray, index: int) -> str:
    return f"{values[index]:g} followed by {values[index + 1]:g} at index {index}"
