"""Angles, positions and areas on the unit sphere.

Conversions keep the dtype of their arguments and work on any array module with the
interface of NumPy, which `xp` names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Num

from weatherlib.geometry import grids

__all__ = [
    "angles_from_degrees",
    "angles_from_positions",
    "degrees_from_angles",
    "grid_positions",
    "latitude_weights",
    "positions_from_angles",
]


def angles_from_degrees(lat: Any, lon: Any, xp: Any = np) -> tuple[Any, Any]:
    """Returns longitude and distance from the north pole, in radians.

    Args:
      lat: Degrees north, any shape.
      lon: Degrees east, any shape.
      xp: Array module.

    Returns:
      `phi` with the shape of `lon` and `theta` with the shape of `lat`.
    """
    return xp.deg2rad(lon), xp.deg2rad(90 - lat)


def degrees_from_angles(phi: Any, theta: Any, xp: Any = np) -> tuple[Any, Any]:
    """Returns latitude and longitude in [0, 360), in degrees.

    Args:
      phi: Longitude in radians, any shape.
      theta: Distance from the north pole in radians, any shape.
      xp: Array module.
    """
    return 90 - xp.rad2deg(theta), xp.mod(xp.rad2deg(phi), 360)


def positions_from_angles(phi: Any, theta: Any, xp: Any = np) -> tuple[Any, Any, Any]:
    """Returns x, y and z of points on the unit sphere.

    The x axis passes through (0° N, 0° E), the z axis through the north pole.

    Args:
      phi: Longitude in radians.
      theta: Distance from the north pole in radians, of a shape that broadcasts.
      xp: Array module.
    """
    return (
        xp.cos(phi) * xp.sin(theta),
        xp.sin(phi) * xp.sin(theta),
        xp.cos(theta),
    )


def angles_from_positions(x: Any, y: Any, z: Any, xp: Any = np) -> tuple[Any, Any]:
    """Returns longitude and distance from the north pole of unit vectors, in radians.

    A `z` outside of [-1, 1] gives NaN.
    """
    with np.errstate(invalid="ignore"):
        return xp.arctan2(y, x), xp.arccos(z)


def grid_positions(
    lat: Num[np.ndarray, " lat"], lon: Num[np.ndarray, " lon"]
) -> Float[np.ndarray, "lat lon 3"]:
    """Returns the positions of all grid points on the unit sphere.

    Args:
      lat: Degrees north, shape [lat].
      lon: Degrees east, shape [lon].

    Returns:
      Shape [lat, lon, 3], in the dtype of the arguments.
    """
    phi, theta = angles_from_degrees(lat, lon)
    xyz = positions_from_angles(phi[None, :], theta[:, None])
    return np.stack(np.broadcast_arrays(*xyz), axis=-1)


def latitude_weights(lat: Any) -> Float[np.ndarray, " lat"]:
    """Returns weights in proportion to the area of grid cells, scaled to mean 1.

    Rows that reach both poles count half a cell there. All other grids, windows
    included, get the cosine of latitude, which is exact for rows of equal height.

    Args:
      lat: Row centres, evenly spaced, in either order. Degrees north, shape [lat].

    Returns:
      Dimensionless float64 weights in the order of `lat`, shape [lat].

    Raises:
      ValueError: `lat` is empty, not finite, uneven, repeated or leaves [-90, 90].

    Source: the loss of the published GraphCast package (version 0.2).
    """
    rows = grids.check_latitude(lat)
    weights = np.cos(np.deg2rad(rows))
    # The slack of the published test for a pole, 0.0009 degrees.
    is_pole = np.isclose(np.abs(rows), 90.0)
    if is_pole.sum() == 2:
        step = np.deg2rad(abs(rows[1] - rows[0]))
        weights = np.where(is_pole, np.sin(step / 4) ** 2, weights * np.sin(step / 2))
    return weights / weights.mean()
