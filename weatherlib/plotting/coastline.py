"""Coastlines for maps, read from a small file inside the package.

The lines are those of Natural Earth at 1:110 million, in the public domain, as made by
`scripts/make_coastline.py`. Nothing is ever downloaded.
"""

from __future__ import annotations

import functools

import matplotlib.axes
import matplotlib.collections
import numpy as np

from weatherlib import bundled

__all__ = ["draw", "lines", "rings"]

_DATE_LINE = 179.99
_SOUTH_POLE = -89.99


@functools.cache
def rings() -> tuple[np.ndarray, ...]:
    """Returns the closed outlines of all land, clockwise, lakes the other way round.

    Returns:
      One array per ring: longitude in [-180, 180] and latitude of its points, the last
      equal to the first. Degrees east and north, shape [point, 2].

    Raises:
      FileNotFoundError: The installation lacks the file.
    """
    with np.load(bundled.coastline_path(), allow_pickle=False) as arrays:
        return tuple(np.split(arrays["points"], arrays["starts"][1:-1]))


@functools.cache
def lines() -> tuple[np.ndarray, ...]:
    """Returns the rings without the cuts that only close them on a flat map.

    Land that crosses the date line is cut along it, and Antarctica is closed along the
    pole; neither is a coast.

    Returns:
      One array of longitude and latitude per line. Degrees, shape [point, 2].
    """
    found = []
    for ring in rings():
        on_cut = (np.abs(ring[:, 0]) > _DATE_LINE) | (ring[:, 1] < _SOUTH_POLE)
        artificial = on_cut[:-1] & on_cut[1:]
        pieces = np.split(ring, np.flatnonzero(artificial) + 1)
        found += [piece for piece in pieces if len(piece) > 1]
    return tuple(found)


def draw(
    axes: matplotlib.axes.Axes,
    *,
    color: str = "0.15",
    width: float = 0.6,
    periods: tuple[int, ...] = (-1, 0, 1),
) -> bool:
    """Draws the coastlines behind the limits of a longitude-latitude map.

    Args:
      axes: A map whose x is degrees east, in any convention, and y degrees north.
      color: Colour of the lines.
      width: Width of the lines, in points.
      periods: Turns around the globe to draw, so that maps of 0 to 360 degrees and
        windows across the date line have their coasts.

    Returns:
      Whether there was anything to draw: False where the coastline file is missing.
    """
    try:
        coasts = lines()
    except FileNotFoundError:
        return False
    limits = axes.axis()
    turns = [
        line + np.array([360.0 * turn, 0.0]) for turn in periods for line in coasts
    ]
    collection = matplotlib.collections.LineCollection(
        turns, colors=color, linewidths=width, zorder=3
    )
    axes.add_collection(collection, autolim=False)
    axes.axis(limits)
    return True
