"""Fields of one file that do not change, at the points of another."""

from __future__ import annotations

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data import regrid

__all__ = ["is_static", "place"]

# Rows and columns of two files are the same within this part of their spacing.
_SAME_PLACE = 1e-2


def is_static(name: str) -> bool:
    """Tells whether a quantity of the vocabulary does not change in time."""
    known = variables.find(name)
    return known is not None and known.kind == "static"


def place(
    name: str, field: xarray.DataArray, other: xarray.Dataset
) -> tuple[xarray.DataArray, list[str]]:
    """Returns a field on the grid of a dataset, and what was done for it.

    Args:
      name: Of the field. What is static is regridded where it is on another grid.
      field: Dimensions lat, lon.
      other: Has the grid.

    Raises:
      ValueError: The field does not cover that grid, or changes and is on another.
    """
    notes = []
    if is_static(name) and not _same_grid(name, field, other):
        field, how = _regridded(name, field, other)
        notes.append(how)
    return _on_grid(name, field, other), notes


def _same_grid(name: str, field: xarray.DataArray, other: xarray.Dataset) -> bool:
    """Returns whether a field has a value at each row and column of a dataset."""
    if not {"lat", "lon"} <= set(field.coords) & set(other.coords):
        return True  # `_on_grid` tells what is missing.
    try:
        _on_grid(name, field, other)
    except ValueError:
        return False
    return True


def _regridded(
    name: str, field: xarray.DataArray, other: xarray.Dataset
) -> tuple[xarray.DataArray, str]:
    """Returns a static field on the grid of a dataset, and what was done.

    Raises:
      ValueError: It does not cover that grid.
    """
    field = field.load()
    old, new = (abs(float(f["lat"].diff("lat").mean())) for f in (field, other))
    method = "linear" if old >= new else "conservative"
    lat, lon = other["lat"].values, other["lon"].values
    found = regrid.regrid(field.to_dataset(name=name), lat, lon, method)[name].load()
    if found.isnull().any():
        raise ValueError(
            f"{name}: the static file, lat {field['lat'].values.min():g} to "
            f"{field['lat'].values.max():g}, lon {field['lon'].values.min():g} to "
            f"{field['lon'].values.max():g}, does not cover the grid of the source "
            f"({lat.size}x{lon.size}); regrid the file, or give one that does"
        )
    found = found.transpose(*field.dims)
    kind = "between its points" if method == "linear" else "as means of its cells"
    return found, f"regridded {name} of the static file ({kind})"


def _on_grid(
    name: str, field: xarray.DataArray, other: xarray.Dataset
) -> xarray.DataArray:
    """Returns a field at the rows and columns of a dataset, in their order.

    Raises:
      ValueError: It is on another grid.
    """
    for axis in ("lat", "lon"):
        if axis not in field.coords or axis not in other.coords:
            raise ValueError(f"{name}: the static file has no {axis} coordinate")
        ours, theirs = field[axis].values, other[axis].values
        distance = np.abs(theirs[:, np.newaxis] - ours[np.newaxis])
        if axis == "lon":
            distance = np.abs((distance + 180) % 360 - 180)
        spacing = np.abs(np.diff(theirs)).min() if theirs.size > 1 else 1.0
        if (distance.min(axis=1) > _SAME_PLACE * spacing).any():
            raise ValueError(
                f"{name}: the static file has {axis} {ours[0]:g} to {ours[-1]:g} "
                f"({ours.size} values), the source {theirs[0]:g} to {theirs[-1]:g} "
                f"({theirs.size}); regrid the file to the grid of the source"
            )
        field = field.isel({axis: distance.argmin(axis=1)})
        field = field.assign_coords({axis: other[axis]})
    return field
