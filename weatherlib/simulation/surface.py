"""Land, sea and mountains of the simulated world.

The land is that of the Earth. The mountains are smooth hills where the Earth has its
large ranges, as high as a coarse spectral model bears.
"""

from __future__ import annotations

import functools

import numpy as np

from weatherlib import bundled

__all__ = ["cell_edges", "land_fraction", "mountain_height", "overlaps"]

# Latitude and longitude of the centre, half-widths in degrees, height in metres.
_MOUNTAINS = (
    (33.0, 88.0, 8.0, 17.0, 3600.0),  # Tibet
    (48.0, 95.0, 7.0, 14.0, 1300.0),  # Altai and Mongolia
    (42.0, 250.0, 13.0, 9.0, 1900.0),  # Rocky Mountains
    (60.0, 232.0, 8.0, 10.0, 1100.0),  # Coast Mountains
    (-20.0, 292.0, 14.0, 5.0, 2300.0),  # Andes
    (-42.0, 289.0, 9.0, 4.0, 1000.0),  # Patagonia
    (73.0, 320.0, 8.0, 12.0, 2200.0),  # Greenland
    (5.0, 37.0, 11.0, 7.0, 1400.0),  # East Africa
    (-27.0, 26.0, 8.0, 9.0, 1100.0),  # South Africa
    (34.0, 50.0, 6.0, 11.0, 1200.0),  # Iran
    (46.0, 11.0, 4.0, 9.0, 800.0),  # Alps
    (62.0, 135.0, 9.0, 22.0, 700.0),  # East Siberia
)
_ANTARCTICA = 2300.0
_RASTER = 360  # Rows of half a degree.


def cell_edges(centres: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns the borders of cells half way between centres, ending at the limits.

    Args:
      centres: Increasing, shape [n].
      low: Lowest border.
      high: Highest border.

    Returns:
      Shape [n + 1].
    """
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[low], middles, [high]])


def land_fraction(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Returns the share of land in each cell, in [0, 1].

    Args:
      latitude: Rows from south to north, degrees, shape [lat].
      longitude: Evenly spaced columns from 0 eastward, degrees, shape [lon].

    Returns:
      Shape [lat, lon].
    """
    raster = _land_raster()
    rows, columns = raster.shape
    lat_edges = np.linspace(-90, 90, rows + 1)
    lon_edges = np.linspace(0, 360, columns + 1)
    # Columns are centred on their longitude: shift by half a cell.
    half = 180.0 / len(longitude)
    shift = round(half / (lon_edges[1] - lon_edges[0]))
    lat_target = np.sin(np.deg2rad(cell_edges(latitude, -90.0, 90.0)))
    lat_weights = overlaps(np.sin(np.deg2rad(lat_edges)), lat_target)
    lon_target = np.linspace(0, 360, len(longitude) + 1)
    lon_weights = overlaps(lon_edges, lon_target)
    return lat_weights @ np.roll(raster, shift, axis=1) @ lon_weights.T


def mountain_height(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Returns the height of the ground before any filter, in metres.

    Args:
      latitude: Degrees north, any shape.
      longitude: Degrees east, a shape that broadcasts with `latitude`.
    """
    latitude, longitude = np.broadcast_arrays(latitude, longitude)
    height = np.zeros(latitude.shape)
    for lat, lon, lat_width, lon_width, peak in _MOUNTAINS:
        east = (longitude - lon + 180.0) % 360.0 - 180.0
        north = latitude - lat
        height += peak * np.exp(-((east / lon_width) ** 2) - (north / lat_width) ** 2)
    plateau = 1 / (1 + np.exp((latitude + 74.0) / 3.0))
    # East Antarctica is higher than the west.
    skew = 0.8 + 0.2 * np.cos(np.deg2rad(longitude - 80.0))
    return height + _ANTARCTICA * plateau * skew


def overlaps(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the share of each source cell in each target cell.

    Args:
      source: Borders, increasing, shape [source + 1].
      target: Borders in the same unit, shape [target + 1].

    Returns:
      Rows that sum to one, shape [target, source].
    """
    low = np.maximum(target[:-1, np.newaxis], source[np.newaxis, :-1])
    high = np.minimum(target[1:, np.newaxis], source[np.newaxis, 1:])
    shared = np.maximum(high - low, 0.0)
    return shared / shared.sum(axis=1, keepdims=True)


@functools.cache
def _land_raster() -> np.ndarray:
    """Returns ones on land on a fine grid, by counting the coasts west of a point.

    Returns:
      Rows from south to north, columns from 0 eastward, shape [360, 720].

    Source: the even-odd rule for points in polygons.
    """
    with np.load(bundled.coastline_path(), allow_pickle=False) as arrays:
        points = arrays["points"].astype(np.float64)
        ring_starts = arrays["starts"][1:-1]
    starts = np.delete(points, np.append(ring_starts - 1, len(points) - 1), axis=0)
    ends = np.delete(points, np.append(0, ring_starts), axis=0)
    rows = (np.arange(_RASTER) + 0.5) * 180 / _RASTER - 90
    columns = (np.arange(2 * _RASTER) + 0.5) * 180 / _RASTER - 180
    raster = np.zeros((_RASTER, 2 * _RASTER))
    for row, lat in enumerate(rows):
        crossing = (starts[:, 1] > lat) != (ends[:, 1] > lat)
        a, b = starts[crossing], ends[crossing]
        at = a[:, 0] + (lat - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
        raster[row] = np.searchsorted(np.sort(at), columns) % 2
    return np.roll(raster, _RASTER, axis=1)
