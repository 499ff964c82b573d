"""Changes that fit a dataset to a model and lose nothing, each one reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xarray

from weatherlib.data import axes, canonical_form, fields
from weatherlib.data_utils import check_fields, date_forms, lexicon, times
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
    return fields.unpack(dataset)


def _levels(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Brings the levels of the task into its order, in hPa."""
    if "level" not in dataset.coords or not task.pressure_levels:
        return dataset, []
    dataset, changes = axes.convert_levels(dataset)
    values = [float(value) for value in dataset["level"].values]
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
    return fields.drop_idle_axes(dataset)


def _units(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Converts values to the units of the vocabulary."""
    return fields.convert(dataset, guess=True)


def _time(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Makes `time` ascending lead times, with the dates in `datetime`."""
    if "time" not in dataset.coords:
        return dataset, []
    dataset, changes = date_forms.read_dates(dataset)
    dataset, made = canonical_form.with_time_axis(dataset)
    changes += made
    if dataset["time"].dtype.kind in "iuf":
        if not dataset["time"].attrs.get("units"):
            return dataset, changes
        dataset = times.decode_time(dataset)
        changes.append("decoded time by its units")
    dataset, made = canonical_form.sort_times(dataset)
    changes += made
    if dataset["time"].dtype.kind == "M":
        moments = dataset["time"].values.astype("datetime64[ns]")
        dataset = dataset.assign_coords(time=moments - moments[0])
        if "datetime" not in dataset.coords:
            dataset = dataset.assign_coords(datetime=("time", moments))
        changes.append("moved the dates to datetime, and counted time from the first")
    return dataset, changes


def _grid(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Puts south first, and counts longitudes of a whole globe from 0 to 360."""
    return axes.sort_grid(dataset)


def _batch(
    dataset: xarray.Dataset, task: TaskConfig
) -> tuple[xarray.Dataset, list[str]]:
    """Gives what changes in time a batch of one, and every variable our order."""
    changes = []
    if "batch" not in dataset.dims:
        batched: dict[Any, Any] = {
            name: fields.expand(array.variable, {"batch": 1, **array.sizes})
            for name, array in dataset.data_vars.items()
            if "time" in array.dims
        }
        dataset = dataset.assign(batched)
        changes.append("added batch, of one member")
    if "datetime" in dataset.coords and "batch" not in dataset["datetime"].dims:
        dated = dataset["datetime"].variable
        members = dataset.sizes.get("batch", 1)
        dataset = dataset.assign_coords(
            datetime=dated.set_dims({"batch": members, **dated.sizes})
        )
    dataset, made = axes.order_dims(dataset)
    return dataset, changes + made


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
