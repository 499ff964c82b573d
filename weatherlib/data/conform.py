"""Changes that fit a dataset to a model and lose nothing, each one reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data_utils import check_fields, lexicon, times, units
from weatherlib.task import TaskConfig

__all__ = ["conform"]

# A step takes the data and the task and returns the data with what it changed.
_Step = Callable[[xarray.Dataset, TaskConfig], tuple[xarray.Dataset, list[str]]]


def conform(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Returns the data in the form that models read, and what was changed for it.

    Names, units, axes and their order are brought into line with the task; what the
    task does not name is left out. Only changes that lose nothing are made: levels or
    variables that are missing stay so, and a unit is converted only where the
    attribute states it, or, without an attribute, where the values leave no doubt.

    Args:
      dataset: In the vocabulary of ERA5, WeatherBench, CDS or GRIB files. Not changed.
      task: Variables and levels wanted.

    Returns:
      The dataset with dimensions (batch, time, level, lat, lon), and one line for each
      change. No line means that the data was fine.
    """
    changes: list[str] = []
    for step in _STEPS:
        dataset, made = step(dataset, task)
        changes += made
    return dataset, changes


def _rename(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Gives axes and variables our names."""
    dataset, renamed = lexicon.rename(dataset, lexicon.task_variables(task))
    return dataset, [f"renamed {old} to {new}" for new, old in renamed.items()]


def _drop_extra(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Leaves out variables, coordinates and dimensions of length 1 that have no use."""
    names = [name for name in lexicon.task_variables(task) if name in dataset.data_vars]
    extra = [str(name) for name in dataset.data_vars if name not in names]
    changes = [f"left out {', '.join(extra)}: not in the task"] if extra else []
    datetimes = dataset.coords.get("datetime")
    dataset = dataset[names]
    if datetimes is not None:
        dataset = dataset.assign_coords(datetime=datetimes)
    known = {*check_fields.DIMS, "datetime"}
    single = [
        str(dim)
        for dim, size in dataset.sizes.items()
        if dim not in known and size == 1
    ]
    if single:
        dataset = dataset.isel(dict.fromkeys(single, 0), drop=True)
        changes.append(f"dropped {', '.join(single)}: a single entry")
    spare = [
        str(name)
        for name in dataset.coords
        if name not in known and name not in dataset.dims
    ]
    if spare:
        dataset = dataset.drop_vars(spare)
        changes.append(f"left out the coordinates {', '.join(spare)}")
    return dataset, changes


def _unpack(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Turns packed integers into the numbers they stand for."""
    packed = [
        str(name)
        for name, array in dataset.data_vars.items()
        if array.dtype.kind in "iu"
        and {"scale_factor", "add_offset"} & set(array.attrs)
    ]
    if not packed:
        return dataset, []
    decoded = xarray.decode_cf(dataset[packed], decode_times=False)
    return dataset.assign(decoded.data_vars), [f"unpacked {', '.join(packed)}"]


def _levels(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Brings the levels of the task into its order, in hPa."""
    if "level" not in dataset.coords or not task.pressure_levels:
        return dataset, []
    changes = []
    values, in_pascal = lexicon.stored_levels(dataset["level"])
    if in_pascal:
        changes.append("converted level from Pa to hPa")
    attrs = dict(dataset["level"].attrs)
    if "units" in attrs:
        attrs["units"] = "hPa"
    whole = all(value == int(value) for value in values)
    numbers = np.asarray(values, np.int32 if whole else np.float64)
    if "level" not in dataset.dims:
        dataset = dataset.assign_coords(level=numbers[0])
        on_levels = [
            name
            for name in dataset.data_vars
            if getattr(variables.VARIABLES.get(str(name)), "kind", "") == "atmospheric"
        ]
        expanded = {
            name: dataset[name].expand_dims("level", _place(dataset[name]))
            for name in on_levels
        }
        dataset = dataset.drop_vars([*on_levels, "level"]).assign(expanded)
        changes.append("gave level an axis")
    dataset = dataset.assign_coords(level=("level", numbers, attrs))
    wanted = [level for level in task.pressure_levels if level in values]
    complete = len(wanted) == len(task.pressure_levels)
    if complete and len(set(values)) == len(values) and values != wanted:
        extra = [f"{value:g}" for value in values if value not in wanted]
        changes.append(
            f"left out the levels {', '.join(extra)} hPa"
            if extra
            else "brought the levels into the order of the model"
        )
        dataset = dataset.sel(level=wanted)
    return dataset, changes


def _static(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Takes axes from variables that cannot have them, where they hold one field."""
    changes = []
    for name, array in dataset.data_vars.items():
        known = variables.VARIABLES.get(str(name))
        if known is None:
            continue
        if known.kind == "static" and "time" in array.dims:
            first = array.isel(time=0, drop=True)
            if bool((array == first).all()) or array.sizes["time"] == 1:
                dataset = dataset.assign({name: first})
                changes.append(f"took the time axis from {name}, which is constant")
        if known.kind in ("static", "surface") and array.sizes.get("level") == 1:
            dataset = dataset.assign({name: dataset[name].isel(level=0, drop=True)})
            changes.append(f"took the level axis of length 1 from {name}")
    return dataset, changes


def _units(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Converts values to the units of the vocabulary."""
    changes = []
    for name, array in dataset.data_vars.items():
        known = variables.VARIABLES.get(str(name))
        if known is None or array.dtype.kind not in "iuf":
            continue
        stated = str(array.attrs.get("units", "")).strip()
        if stated:
            change = units.conversion(stated, known.units)
        else:
            change = check_fields.guess_conversion(
                known, array, check_fields.scan(array)
            )
        if change is None:
            continue
        if (change.scale, change.offset) == (1.0, 0.0):
            continue
        # In double precision: single would round twice.
        precise = array.astype(np.float64) * change.scale + change.offset
        kept = array.dtype if array.dtype.kind == "f" else np.float32
        attrs = {**array.attrs, "units": known.units}
        dataset = dataset.assign({name: precise.astype(kept).assign_attrs(attrs)})
        because = "" if stated else ", as the values tell"
        changes.append(
            f"converted {name} from {stated or change.found} to {known.units}{because}"
        )
    return dataset, changes


def _time(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Makes `time` ascending lead times, with the dates in `datetime`."""
    if "time" not in dataset.coords:
        return dataset, []
    changes = []
    if "time" not in dataset.dims:
        dataset = dataset.drop_vars("time").expand_dims(time=[dataset["time"].values])
        changes.append("gave time an axis")
    if dataset["time"].dtype.kind in "iuf":
        if not dataset["time"].attrs.get("units"):
            return dataset, changes
        dataset = times.decode_time(dataset)
        changes.append("decoded time by its units")
    index = dataset.indexes["time"]
    if not index.is_monotonic_increasing and index.is_unique:
        dataset = dataset.sortby("time")
        changes.append("sorted the frames by time")
    if dataset["time"].dtype.kind == "M":
        dates = dataset["time"].values.astype("datetime64[ns]")
        dataset = dataset.assign_coords(time=dates - dates[0])
        if "datetime" not in dataset.coords:
            dataset = dataset.assign_coords(datetime=("time", dates))
        changes.append("moved the dates to datetime, and counted time from the first")
    return dataset, changes


def _grid(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Puts south first, and counts longitudes of a whole globe from 0 to 360."""
    changes = []
    if "lat" in dataset.indexes and not dataset.indexes["lat"].is_monotonic_increasing:
        dataset = dataset.sortby("lat")
        changes.append("put the rows in order from south to north")
    if "lon" not in dataset.indexes:
        return dataset, changes
    longitude = dataset["lon"].values
    around = np.ptp(longitude)
    if longitude.size > 2 and abs(around - 360) < 1e-4:
        order = np.argsort(longitude)
        columns = dataset.isel(lon=order[[0, -1]])
        fields = [v for v in columns.data_vars.values() if "lon" in v.dims]
        if all(bool((f.isel(lon=0) == f.isel(lon=1)).all()) for f in fields):
            dataset = dataset.isel(lon=np.sort(order[:-1]))
            changes.append("left out the last column, which repeats the first")
            longitude = dataset["lon"].values
    step = np.median(np.abs(np.diff(longitude))) if longitude.size > 1 else 0
    whole_globe = abs(np.ptp(longitude) + step - 360) < 0.5 * max(step, 1e-6)
    if longitude.min(initial=0) < 0 and whole_globe:
        attrs = dataset["lon"].attrs
        dataset = dataset.assign_coords(lon=("lon", longitude % 360, attrs))
        changes.append("counted longitudes from 0 to 360")
    if whole_globe and not dataset.indexes["lon"].is_monotonic_increasing:
        dataset = dataset.sortby("lon")
        if not changes or "longitudes" not in changes[-1]:
            changes.append("put the columns in order from west to east")
    return dataset, changes


def _batch(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Gives what changes in time a batch of one, and every variable our order."""
    changes = []
    if "batch" not in dataset.dims:
        batched: dict[Any, Any] = {
            name: array.expand_dims("batch")
            for name, array in dataset.data_vars.items()
            if "time" in array.dims
        }
        dataset = dataset.assign(batched)
        changes.append("added batch, of one member")
    if "datetime" in dataset.coords and "batch" not in dataset["datetime"].dims:
        dates = dataset["datetime"].variable
        members = dataset.sizes.get("batch", 1)
        dataset = dataset.assign_coords(
            datetime=dates.set_dims({"batch": members, **dates.sizes})
        )
    order = check_fields.DIMS
    turned = [
        str(name)
        for name, array in dataset.data_vars.items()
        if list(array.dims) != sorted(array.dims, key=_position)
    ]
    if turned:
        dataset = dataset.transpose(*order, ..., missing_dims="ignore")
        changes.append(f"put the dimensions of {', '.join(turned)} in order")
    return dataset, changes


def _place(array: xarray.DataArray) -> int:
    """Returns where a level axis belongs among the dimensions of an array."""
    return sum(_position(dim) < _position("level") for dim in array.dims)


def _position(dim: Any) -> int:
    """Returns the place of a dimension in the order of models, others at the end."""
    order = check_fields.DIMS
    return order.index(dim) if dim in order else len(order)


_STEPS: tuple[_Step, ...] = (
    _rename,
    _drop_extra,
    _unpack,
    _levels,
    _static,
    _units,
    _time,
    _grid,
    _batch,
)
