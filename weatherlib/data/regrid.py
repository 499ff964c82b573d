"""Fields on another grid or other levels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray

from weatherlib.data import axes, lazy
from weatherlib.data_utils.problems import listed
from weatherlib.geometry import grids, regridding

__all__ = ["interpolate_levels", "regrid", "select_levels"]

Method = Literal["conservative", "linear"]

# Components of vectors change sign where a meridian runs on across a pole.
_COMPONENTS = ("u_component", "v_component")


def regrid(
    dataset: xarray.Dataset,
    lat: Any,
    lon: Any,
    method: Method = "conservative",
    *,
    valid_share: float = 0.5,
) -> xarray.Dataset:
    """Returns all fields on another latitude-longitude grid, worked out when read.

    Conservative: each cell holds the mean over its area, so that integrals over the
    globe stay the same; cells reach half way to their neighbours. Linear: values
    between the four points around, across the poles and the seam of longitude where the
    data covers the globe. NaN has no weight in either.

    Args:
      dataset: With axes `lat` and `lon`, as `data.open_dataset` returns it.
      lat: Rows wanted, in either order. Degrees north.
      lon: Columns wanted. Degrees east.
      method: "conservative" to a coarser grid, "linear" to points or a finer one.
      valid_share: A value needs this share of its weight from places with data, and is
        NaN otherwise.

    Raises:
      ValueError: The method, a grid or the share makes no sense.
    """
    if method not in ("conservative", "linear"):
        raise ValueError(f"method is {method!r}, expected 'conservative' or 'linear'")
    if not 0 < valid_share <= 1:
        raise ValueError(f"valid_share is {valid_share}, expected more than 0, up to 1")
    for axis in ("lat", "lon"):
        if axis not in dataset.indexes:
            raise ValueError(f"{axis}: the data has no such axis to regrid along")
    rows, columns = grids.check_latitude(lat), grids.check_longitude(lon)
    dataset, _ = axes.sort_grid(dataset, windows=True)
    old_rows = np.asarray(dataset["lat"].values, np.float64)
    old_columns = np.asarray(dataset["lon"].values, np.float64)
    order = np.argsort(rows)
    # Columns may run across Greenwich in either way of counting.
    steps = (np.diff(columns) + 180) % 360 - 180
    unwrapped = columns[0] + np.concatenate([[0.0], np.cumsum(steps)])
    west_first = np.argsort(unwrapped)
    weights = _Weights(
        method,
        old_rows,
        old_columns,
        rows[order],
        unwrapped[west_first],
        valid_share=valid_share,
        back=(np.argsort(order), np.argsort(west_first)),
    )
    regridded = {}
    for name, array in dataset.data_vars.items():
        if not {"lat", "lon"} <= set(array.dims) or array.dtype.kind not in "iufb":
            continue
        sizes = {**array.sizes, "lat": rows.size, "lon": columns.size}
        dtype = array.dtype if array.dtype.kind == "f" else np.float32
        flips = any(part in str(name) for part in _COMPONENTS)
        regridded[name] = lazy.apply(
            functools.partial(weights.apply, flips),
            [array.variable],
            sizes,
            dtype,
            whole=("lat", "lon"),
            attrs=array.attrs,
        )
    rest = dataset.drop_vars(list(regridded)).drop_dims(["lat", "lon"])
    coordinates = {
        axis: (axis, values, dataset[axis].attrs)
        for axis, values in (("lat", rows), ("lon", columns))
    }
    return rest.assign(regridded).assign_coords(coordinates)[
        [name for name in dataset.data_vars if name in regridded or name in rest]
    ]


class _Weights:
    """What carries a field to another grid."""

    def __init__(
        self,
        method: Method,
        old_rows: np.ndarray,
        old_columns: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        *,
        valid_share: float,
        back: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._valid_share = valid_share
        self._ghosts = (False, False)
        if method == "conservative":
            self._by_row = regridding.row_overlaps(old_rows, rows)
            self._by_column = regridding.column_overlaps(old_columns, columns)
        else:
            step = np.diff(old_rows).mean() if old_rows.size > 1 else 0
            if regridding.covers_circle(old_columns) and old_columns.size % 2 == 0:
                slack = 1e-6
                self._ghosts = (
                    -90 + slack < old_rows[0] < -90 + step,
                    90 - step < old_rows[-1] < 90 - slack,
                )
            south = [-180 - old_rows[0]] if self._ghosts[0] else []
            north = [180 - old_rows[-1]] if self._ghosts[1] else []
            extended = np.concatenate([south, old_rows, north])
            self._by_row = regridding.row_weights(extended, rows)
            self._by_column = regridding.column_weights(old_columns, columns)
        self._by_row = self._by_row[back[0]]
        self._by_column = self._by_column[back[1]]

    def apply(self, flips: bool, field: xarray.Variable) -> xarray.Variable:
        """Returns a field on the new grid, `flips` where it changes sign at a pole."""
        field = field.transpose(..., "lat", "lon")
        values = self._across_poles(field.values.astype(np.float64), flips)
        is_valid = np.isfinite(values)
        if is_valid.all():
            share = self._by_row.sum(1)[:, None] * self._by_column.sum(1)
            result = self._carry(values)
        else:
            share = self._carry(is_valid.astype(np.float64))
            result = self._carry(np.where(is_valid, values, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            result = np.where(share >= self._valid_share - 1e-9, result / share, np.nan)
        return xarray.Variable(field.dims, result)

    def _carry(self, values: np.ndarray) -> np.ndarray:
        """Returns the weighted sums."""
        return self._by_row @ (values @ self._by_column.T)

    def _across_poles(self, values: np.ndarray, flips: bool) -> np.ndarray:
        """Returns values with a row from the other side of each pole."""
        half = values.shape[-1] // 2
        sign = -1.0 if flips else 1.0
        parts = [values]
        if self._ghosts[0]:
            parts.insert(0, sign * np.roll(values[..., :1, :], half, axis=-1))
        if self._ghosts[1]:
            parts.append(sign * np.roll(values[..., -1:, :], half, axis=-1))
        return np.concatenate(parts, axis=-2)


def select_levels(dataset: xarray.Dataset, levels: Sequence[float]) -> xarray.Dataset:
    """Returns the data on some of its levels, in the order given.

    Args:
      dataset: With the axis `level`.
      levels: In hPa.

    Raises:
      ValueError: The data lacks a level.
    """
    held = _levels(dataset)
    missing = [level for level in levels if level not in held]
    if missing:
        raise ValueError(
            f"level: {listed(missing)} hPa missing, the data has {listed(held)}; "
            "data.interpolate_levels makes those that lie between"
        )
    places = np.array([held.index(level) for level in levels])
    return axes.pick(dataset, "level", places)


def interpolate_levels(
    dataset: xarray.Dataset, levels: Sequence[float]
) -> xarray.Dataset:
    """Returns the data on other levels, linear in the logarithm of pressure.

    Args:
      dataset: With the axis `level`.
      levels: In hPa, each within those of the data.

    Raises:
      ValueError: A level lies beyond those of the data.
    """
    held = np.array(_levels(dataset))
    order = np.argsort(held)
    wanted = np.asarray(levels, np.float64)
    outside = [x for x in wanted if not held.min() <= x <= held.max()]
    if outside:
        raise ValueError(
            f"level: {listed(outside)} hPa lie beyond the levels of the data, "
            f"{held.min():g} to {held.max():g}; nothing is extrapolated"
        )
    weights = regridding.row_weights(np.log(held[order]), np.log(wanted))
    weights = weights[:, np.argsort(order)]
    carry = functools.partial(_carry_levels, weights)
    changed = {
        name: lazy.apply(
            carry,
            [array.variable],
            {**array.sizes, "level": wanted.size},
            array.dtype if array.dtype.kind == "f" else np.float32,
            whole=("level",),
            attrs=array.attrs,
        )
        for name, array in dataset.data_vars.items()
        if "level" in array.dims
    }
    is_whole = (wanted == wanted.astype(int)).all()
    numbers = wanted.astype(np.int32 if is_whole else np.float64)
    attrs = dataset["level"].attrs
    rest = dataset.drop_vars(list(changed)).drop_dims("level")
    whole = rest.assign(changed).assign_coords(level=("level", numbers, attrs))
    return whole[list(dataset.data_vars)]


def _carry_levels(weights: np.ndarray, field: xarray.Variable) -> xarray.Variable:
    """Returns a field on other levels. A level without weight is not looked at."""
    moved = field.transpose("level", ...)
    values = moved.values.astype(np.float64)
    result = np.zeros((len(weights), *values.shape[1:]))
    for place, row in enumerate(weights):
        for level in np.flatnonzero(row):
            result[place] += row[level] * values[level]
    return xarray.Variable(moved.dims, result)


def _levels(dataset: xarray.Dataset) -> list[float]:
    """Returns the levels of the data in hPa."""
    if "level" not in dataset.dims or "level" not in dataset.coords:
        raise ValueError("level: the data has no such axis")
    return [float(level) for level in dataset["level"].values]
