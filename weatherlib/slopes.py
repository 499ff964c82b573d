"""Slopes and curvatures of fields, for networks that see one grid point at a time.

A node of a graph network knows its neighbours through the mesh only, which is coarser
than the grid. How a field changes around a point says what the wind will carry there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import xarray_jax
from weatherlib.geometry.harmonics import EARTH_RADIUS
from weatherlib.nn.edges import Edges, find_edges, surround

__all__ = ["PARTS", "add_slopes", "compute_slopes"]

PARTS = ("eastward_slope", "northward_slope", "curvature")
"""What is appended to the name of a variable."""

# Nearer to the poles than 75 degrees neighbours in a row are so close that differences
# between them would be mostly noise; they count as if they lay as far apart as there.
_LEAST_COSINE = 0.25

_HORIZONTAL = ("lat", "lon")


def add_slopes(
    dataset: xr.Dataset, names: Iterable[str], length: float = 1000.0
) -> xr.Dataset:
    """Returns a dataset with slopes and curvatures of some of its variables.

    Args:
      dataset: On a latitude-longitude grid, in either order of latitude.
      names: Of the variables. For each there are three more, see `PARTS`.
      length: As for `compute_slopes`.

    Raises:
      ValueError: A variable is missing or has no latitude or longitude.
    """
    added = {}
    for name in names:
        if name not in dataset:
            raise ValueError(
                f"slopes: there is no {name} among {', '.join(map(str, dataset))}"
            )
        field = dataset[name]
        if not set(_HORIZONTAL) <= set(field.dims):
            raise ValueError(
                f"slopes: {name} has no slopes, because its dimensions "
                f"{field.dims} are without lat and lon"
            )
        others = tuple(dim for dim in field.dims if dim not in _HORIZONTAL)
        placed = field.transpose(*others, *_HORIZONTAL)
        values = jnp.asarray(xarray_jax.unwrap_data(placed))
        flat = values.reshape(-1, *values.shape[-2:], 1)
        lat, lon = dataset["lat"].values, dataset["lon"].values
        for part, result in zip(PARTS, compute_slopes(flat, lat, lon, length)):
            wrapped = xarray_jax.wrap(result.reshape(values.shape))
            array = placed.copy(data=wrapped).transpose(*field.dims)
            added[f"{name}_{part}"] = array
    return dataset.assign(added)


def compute_slopes(
    field: Float[Array, "batch lat lon channel"],
    lat: Any,
    lon: Any,
    length: float = 1000.0,
) -> tuple[Float[Array, "batch lat lon channel"], ...]:
    """Returns eastward and northward slopes and curvatures of fields.

    By centred differences, which go round the globe and over its poles; at the sides of
    a region slopes are one-sided. Towards the poles from 75 degrees on, eastward
    differences are taken as if neighbours lay no closer than there.

    Args:
      field: The fields.
      lat: Degrees north, in either order, shape [lat].
      lon: Degrees east, shape [lon].
      length: In km; slopes are changes over this length, and curvatures, which are
        Laplacians, changes of slopes over it. With the size of weather systems all are
        about as large as the field.

    Raises:
      ValueError: The grid is uneven.
    """
    rows, columns = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    edges, scales = _plan(tuple(rows.tolist()), tuple(columns.tolist()), float(length))
    around = surround(field, 1, edges)
    centre = around[:, 1:-1, 1:-1]
    west, east = around[:, 1:-1, :-2], around[:, 1:-1, 2:]
    before, after = around[:, :-2, 1:-1], around[:, 2:, 1:-1]
    eastward, northward, zonal, meridional, converging = (
        jnp.asarray(scale[..., np.newaxis], field.dtype) for scale in scales
    )
    north = northward * (after - before)
    curvature = (
        zonal * ((east - centre) - (centre - west))
        + meridional * ((after - centre) - (centre - before))
        - converging * north
    )
    return eastward * (east - west), north, curvature


@functools.lru_cache(maxsize=8)
def _plan(
    lat: tuple[float, ...], lon: tuple[float, ...], length: float
) -> tuple[Edges, tuple[np.ndarray, ...]]:
    """Returns edges, and factors of differences that broadcast over [lat, lon]."""
    edges = find_edges(lat, lon)
    reach = length * 1000 / EARTH_RADIUS
    rows, columns = np.array(lat), np.array(lon)
    step = np.deg2rad(_step(rows))
    cosine = np.maximum(np.cos(np.deg2rad(rows)), _LEAST_COSINE)[:, np.newaxis]
    width = np.deg2rad(_step(columns)) * cosine
    row_gaps = np.full((len(rows), 1), 2.0)
    column_gaps = np.full((1, len(columns)), 2.0)
    if edges.columns == "repeat":
        column_gaps[:, [0, -1]] = 1
    if edges.over_first_row == "repeat":
        row_gaps[0] = 1
    if edges.over_last_row == "repeat":
        row_gaps[-1] = 1
    # How fast meridians come together northward, which has no meaning on a pole itself.
    sine = np.sin(np.deg2rad(rows))[:, np.newaxis]
    converging = np.where(np.abs(sine) < 1 - 1e-9, sine / cosine, 0.0)
    return edges, (
        reach / (width * column_gaps),
        reach / (step * row_gaps),
        (reach / width) ** 2,
        np.full((1, 1), (reach / step) ** 2),
        reach * converging,
    )


def _step(values: np.ndarray) -> float:
    """Returns the signed degrees between neighbours; where there are none, any."""
    steps = (np.diff(values) + 180) % 360 - 180
    return float(np.median(steps)) if steps.size else 1.0
