"""Axes in the form of the vocabulary: their values, their direction, their order."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data import fields, lazy
from weatherlib.data_utils import check_grid, lexicon

__all__ = [
    "ORDER",
    "convert_levels",
    "drop_single",
    "order_dims",
    "pick",
    "sort_grid",
    "sort_levels",
    "without_axis",
]

# Ours, and those of ensembles and hindcasts, in the order in which files have them.
ORDER = (
    "sample",
    "batch",
    "time",
    "number",
    "prediction_timedelta",
    "level",
    "lat",
    "lon",
)

# Dimensions of length 1 that name a kind of level, a member or a version.
_LABELS = (
    "number",
    "expver",
    "step",
    "surface",
    "meanSea",
    "heightAboveGround",
    "depthBelowLandLayer",
    "entireAtmosphere",
    "height",
    "nominalTop",
)

# Repeated meridians agree to this share of 360 degrees.
_SAME_DEGREES = 1e-4


def pick(dataset: xarray.Dataset, dim: str, order: np.ndarray) -> xarray.Dataset:
    """Returns entries along a dimension in another order, as slices where they are.

    Args:
      dataset: Has the dimension.
      dim: Its name.
      order: Places of the entries wanted, shape [entry].
    """
    steps = np.unique(np.diff(order))
    if order.size > 1 and steps.size == 1 and steps[0] in (1, -1):
        step = int(steps[0])
        stop = int(order[-1]) + step
        return dataset.isel(
            {dim: slice(int(order[0]), stop if stop >= 0 else None, step)}
        )
    return dataset.isel({dim: order})


def convert_levels(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Gives `level` values in hPa, whole where they are, and an axis.

    Raises:
      ValueError: A level is no number.
    """
    if "level" not in dataset.coords:
        return dataset, []
    _require_finite(dataset["level"])
    changes = []
    values, in_pascal = lexicon.stored_levels(dataset["level"])
    if in_pascal:
        changes.append("converted level from Pa to hPa")
    attrs = dict(dataset["level"].attrs)
    if "units" in attrs:
        attrs["units"] = "hPa"
    is_whole = all(value == int(value) for value in values)
    numbers = np.asarray(values, np.int32 if is_whole else np.float64)
    if "level" not in dataset.dims:
        dataset = _with_level_axis(dataset, numbers[0])
        changes.append("gave level an axis")
    return dataset.assign_coords(level=("level", numbers, attrs)), changes


def _with_level_axis(dataset: xarray.Dataset, level: Any) -> xarray.Dataset:
    """Returns the dataset with its single level as an axis of what lies on levels."""
    dataset = dataset.assign_coords(level=level)
    expanded: dict[Any, xarray.Variable] = {}
    for name, array in dataset.data_vars.items():
        known = variables.VARIABLES.get(str(name))
        if known is None or known.kind != "atmospheric":
            continue
        dims = list(array.dims)
        place = sum(_position(dim) < _position("level") for dim in dims)
        dims.insert(place, "level")
        sizes = {dim: array.sizes.get(dim, 1) for dim in dims}
        expanded[name] = fields.expand(array.variable, sizes)
    return dataset.drop_vars([*expanded, "level"]).assign(expanded)


def sort_levels(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Puts the lowest pressure first."""
    if "level" not in dataset.indexes or dataset["level"].dtype.kind not in "iuf":
        return dataset, []
    order = np.argsort(dataset["level"].values, kind="stable")
    if (np.diff(order) == 1).all():
        return dataset, []
    return pick(dataset, "level", order), ["put the lowest pressure first"]


def sort_grid(
    dataset: xarray.Dataset, *, windows: bool = False
) -> tuple[xarray.Dataset, list[str]]:
    """Puts south first, and counts longitudes of a whole globe from 0 to 360.

    Args:
      dataset: Axes under our names.
      windows: Also count the longitudes of a part of the globe from 0 to 360, or across
        Greenwich from below 0 where that keeps the part in one piece.

    Raises:
      ValueError: A row or column has no place.
    """
    for axis in ("lat", "lon"):
        if axis in dataset.indexes:
            _require_finite(dataset[axis])
    changes = []
    if "lat" in dataset.indexes and not dataset.indexes["lat"].is_monotonic_increasing:
        dataset = pick(dataset, "lat", np.argsort(dataset["lat"].values))
        changes.append("put the rows in order from south to north")
    if "lon" not in dataset.indexes or not dataset["lon"].size:
        return dataset, changes
    dataset, dropped = _drop_repeated_meridian(dataset)
    changes += dropped
    longitude = dataset["lon"].values
    if longitude.size > 2 and abs(np.ptp(longitude) - 360) < _SAME_DEGREES:
        return dataset, changes  # The last column differs from the first.
    if check_grid.goes_around(longitude):
        wanted = longitude % 360
    elif windows:
        wanted = _in_one_piece(longitude)
    else:
        return dataset, changes
    # Counting around rounds; what does not move stays as it is.
    wanted = np.where(np.isclose(wanted, longitude, atol=1e-6), longitude, wanted)
    if not np.array_equal(wanted, longitude):
        attrs = dataset["lon"].attrs
        wanted = wanted.astype(longitude.dtype)
        dataset = dataset.assign_coords(lon=("lon", wanted, attrs))
        changes.append("counted longitudes from 0 to 360")
    if not dataset.indexes["lon"].is_monotonic_increasing:
        dataset = pick(dataset, "lon", np.argsort(dataset["lon"].values))
        if not changes or "longitudes" not in changes[-1]:
            changes.append("put the columns in order from west to east")
    return dataset, changes


def _require_finite(axis: xarray.DataArray) -> None:
    """Raises a ValueError where a value of an axis is no number."""
    values = np.atleast_1d(axis.values)
    lost = np.flatnonzero(~np.isfinite(values)) if values.dtype.kind == "f" else []
    if len(lost):
        raise ValueError(
            f"{axis.name}: {len(lost)} of {values.size} values are not finite, the "
            f"first of them ({values[lost[0]]}) at index {lost[0]}; repair the "
            "coordinate in the file"
        )


def _in_one_piece(longitude: np.ndarray) -> np.ndarray:
    """Returns longitudes of a window, ascending from its western end."""
    turned = longitude % 360
    ordered = np.sort(turned)
    gaps = np.diff(ordered, append=ordered[0] + 360)
    west = ordered[(int(np.argmax(gaps)) + 1) % ordered.size]
    crosses = ordered[0] != west
    return np.where(turned >= west, turned - 360, turned) if crosses else turned


def _drop_repeated_meridian(
    dataset: xarray.Dataset,
) -> tuple[xarray.Dataset, list[str]]:
    """Leaves out a last column at the place of the first, where it holds the same."""
    longitude = dataset["lon"].values
    if longitude.size < 3 or abs(np.ptp(longitude) - 360) > _SAME_DEGREES:
        return dataset, []
    order = np.argsort(longitude)
    ends = dataset.isel(lon=order[[0, -1]])
    for field in ends.data_vars.values():
        if "lon" not in field.dims:
            continue
        frames = field.sizes.get("time", 1)
        sample = field.isel(time=[0, frames - 1]) if frames > 64 else field
        values = sample.transpose("lon", ...).values
        if not np.array_equal(values[0], values[1], equal_nan=values.dtype.kind == "f"):
            return dataset, []
    kept = pick(dataset, "lon", np.sort(order[:-1]))
    return kept, ["left out the last column, which repeats the first"]


def without_axis(dataset: xarray.Dataset, name: str) -> xarray.Dataset:
    """Returns the data without an axis or coordinate of a single entry."""
    if name in dataset.dims:
        return dataset.isel({name: 0}, drop=True)
    return dataset.drop_vars(name)


def drop_single(
    dataset: xarray.Dataset, known: set[str]
) -> tuple[xarray.Dataset, list[str]]:
    """Drops dimensions of length 1 that have no use, and coordinates of none.

    Args:
      dataset: Not changed.
      known: Dimensions that stay.
    """
    single = [
        str(dim)
        for dim, size in dataset.sizes.items()
        if size == 1 and dim in _LABELS and dim not in known
    ]
    spare = [
        str(name)
        for name, coordinate in dataset.coords.items()
        if name in _LABELS
        and name not in dataset.dims
        and name not in known
        and (coordinate.ndim == 0 or name == "expver")
    ]
    dataset = dataset.isel(dict.fromkeys(single, 0), drop=True)
    dataset = dataset.drop_vars(spare, errors="ignore")
    dropped = list(dict.fromkeys([*single, *spare]))
    if not dropped:
        return dataset, []
    return dataset, [f"dropped {', '.join(dropped)}: a single entry"]


def order_dims(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Puts the dimensions of every variable into our order."""
    turned: dict[str, xarray.Variable] = {}
    for name, array in dataset.data_vars.items():
        dims = sorted(array.dims, key=_position)
        if list(array.dims) != dims:
            sizes = {dim: array.sizes[dim] for dim in dims}
            turned[str(name)] = lazy.apply(
                functools.partial(_turned, tuple(dims)),
                [array.variable],
                sizes,
                array.dtype,
                attrs=array.attrs,
            )
    coordinates = {
        name: coordinate.variable.transpose(*sorted(coordinate.dims, key=_position))
        for name, coordinate in dataset.coords.items()
        if list(coordinate.dims) != sorted(coordinate.dims, key=_position)
    }
    if coordinates:
        dataset = dataset.assign_coords(coordinates)
    if not turned:
        return dataset, []
    return dataset.assign(turned), [
        f"put the dimensions of {', '.join(turned)} in order"
    ]


def _turned(dims: tuple[Hashable, ...], values: xarray.Variable) -> xarray.Variable:
    """Returns values with their dimensions in another order."""
    return values.transpose(*dims)


def _position(dim: Any) -> int:
    """Returns the place of a dimension in our order, others at the end."""
    return ORDER.index(dim) if dim in ORDER else len(ORDER)
