"""A forecast of any length set up from its initial state alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib import variables
from weatherlib.data_utils import extract, progress, times
from weatherlib.task import TaskConfig

__all__ = ["forcings", "split_initial", "targets_template"]

_DIMS = ("batch", "time", "level", "lat", "lon")


def split_initial(
    dataset: xarray.Dataset,
    task: TaskConfig,
    *,
    time_step: times.TimedeltaLike | None = None,
) -> xarray.Dataset:
    """Returns the inputs of a forecast that starts from the last frame of the data.

    Nothing after that frame is needed. Forcings that follow from time and place are
    computed where they are missing.

    Args:
      dataset: Dimensions (batch, time, level, lat, lon) with the coordinate
        `datetime`. Not changed.
      task: Variables, levels and input duration of the model.
      time_step: Time between frames, needed only where there is a single frame.

    Returns:
      The input variables at the frames of `task.input_duration`, `time` ending at zero.

    Raises:
      ValueError: A variable, level or coordinate is missing, or the data has fewer
        frames than the model reads.
    """
    dataset = times.decode_time(dataset)
    step = _time_step(dataset, time_step)
    duration = times.as_timedelta(task.input_duration)
    frames = round(duration / step)
    if frames < 1 or frames * step != duration:
        raise ValueError(
            f"time: the step of {step} does not divide the input duration of "
            f"{duration}; the model needs data at another time step"
        )
    found = dataset.sizes["time"]
    if found < frames:
        raise ValueError(
            f"time: {found} frame(s) at a step of {step}, expected {frames} to cover "
            f"the input duration of {duration}"
        )
    computable = set(task.input_variables) & progress.COMPUTABLE
    missing = [
        name
        for name in task.input_variables
        if name not in dataset and name not in computable
    ]
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: inputs of the model that are not in the data, "
            f"which has {', '.join(map(str, dataset.data_vars))}"
        )
    present = [name for name in task.input_variables if name in dataset]
    inputs = extract.select_levels(dataset[present], task.pressure_levels, dataset)
    inputs = inputs.isel(time=slice(found - frames, None))
    inputs = extract.with_forcings(inputs, sorted(computable))
    lead_times = times.lead_times(step, 1 - frames, 1)
    inputs = inputs.drop_vars("datetime", errors="ignore")
    return inputs.assign_coords(time=lead_times)[list(task.input_variables)]


def targets_template(
    initial: xarray.Dataset,
    task: TaskConfig,
    steps: int,
    time_step: times.TimedeltaLike | None = None,
) -> xarray.Dataset:
    """Returns the targets of a forecast of any length, filled with NaN.

    Values are dask blocks of one frame that share a description, so the template of a
    thousand steps costs next to nothing until a part is read.

    Args:
      initial: The state the forecast starts from, or inputs made from it.
      task: Names the targets and their levels.
      steps: Number of frames.
      time_step: Time between frames; taken from `initial` if None.

    Returns:
      float32, dimensions (batch, time, level, lat, lon) as far as each variable has
      them; `time` is one to `steps` time steps.

    Raises:
      ValueError: `steps` is not positive, the time step cannot be told, or a target's
        dimensions are unknown.
    """
    initial = times.decode_time(initial)
    lead_times = _lead_times(initial, steps, time_step)
    progress.require_coordinates(initial, "lat", "lon")
    coords: dict[str, Any] = {"time": lead_times, **_grid(initial)}
    if task.pressure_levels:
        level = initial["level"].dtype if "level" in initial.coords else np.int32
        coords["level"] = np.asarray(task.pressure_levels, level)
    sizes = {
        "batch": initial.sizes.get("batch", 1),
        **{str(name): len(values) for name, values in coords.items()},
    }
    data = {
        name: _blank(_target_dims(name, initial, task), sizes)
        for name in task.target_variables
    }
    return xarray.Dataset(data, coords=coords)


def forcings(
    initial: xarray.Dataset,
    task: TaskConfig,
    steps: int,
    time_step: times.TimedeltaLike | None = None,
    *,
    known: xarray.Dataset | None = None,
    integration_period: str = "1h",
    lazy: bool = True,
) -> xarray.Dataset:
    """Returns the forcings of a forecast of any length.

    Solar radiation and the progress of year and day follow from time and place. A
    forcing without a time axis is repeated from `initial`. Anything else has to be in
    `known`, which also goes before what is computed.

    Args:
      initial: The state the forecast starts from, with the coordinate `datetime`.
      task: Names the forcings.
      steps: Number of frames.
      time_step: Time between frames; taken from `initial` if None.
      known: Data with forcings at the valid times, found by its `datetime`.
      integration_period: Period over which solar radiation is summed.
      lazy: Leaves solar radiation as dask blocks of one frame, computed when read.

    Returns:
      float32 forcings; `time` is one to `steps` time steps.

    Raises:
      ValueError: A forcing cannot be computed and is not in the data, `steps` is not
        positive, or the time step cannot be told.
    """
    initial = times.decode_time(initial)
    lead_times = _lead_times(initial, steps, time_step)
    if not task.forcing_variables:
        return xarray.Dataset(coords={"time": lead_times})
    progress.require_coordinates(initial, "lat", "lon")
    start = times.valid_times(initial).isel(time=-1, drop=True)
    offsets = xarray.DataArray(lead_times, dims="time")
    datetimes = (start + offsets).transpose(..., "time")
    found = _known_forcings(task.forcing_variables, initial, known, datetimes)
    rest = [name for name in task.forcing_variables if name not in found]
    found |= progress.compute_forcings(
        rest,
        datetimes,
        initial["lat"],
        initial["lon"],
        integration_period=integration_period,
        lazy=lazy,
    )
    coords = {"time": lead_times, **_grid(initial)}
    ordered = {name: found[name] for name in task.forcing_variables}
    return xarray.Dataset(ordered, coords=coords)


def _grid(dataset: xarray.Dataset) -> dict[str, xarray.Variable]:
    """Returns the coordinates of the grid, free of others that ride on them."""
    return {name: dataset.coords[name].variable for name in ("lat", "lon")}


def _time_step(
    dataset: xarray.Dataset, time_step: times.TimedeltaLike | None
) -> pd.Timedelta:
    """Returns the time step given, or else that of the data."""
    if time_step is None:
        if "time" not in dataset.coords:
            raise ValueError("time: the data has no such coordinate; give a time step")
        return times.infer_time_step(dataset.coords["time"])
    step = times.as_timedelta(time_step)
    if step <= pd.Timedelta(0):
        raise ValueError(f"time_step must be positive, not {step}")
    return step


def _lead_times(
    initial: xarray.Dataset, steps: int, time_step: times.TimedeltaLike | None
) -> pd.TimedeltaIndex:
    """Returns the lead times of a forecast."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    step = _time_step(initial, time_step)
    return times.lead_times(step, 1, steps + 1)


def _target_dims(
    name: str, initial: xarray.Dataset, task: TaskConfig
) -> tuple[str, ...]:
    """Returns the dimensions of a target from the data, else from the vocabulary."""
    if name in initial:
        found = set(initial[name].dims) | {"batch", "time"}
        return tuple(dim for dim in _DIMS if dim in found)
    known = variables.find(name)
    if known is None:
        raise ValueError(
            f"{name}: neither in the initial state nor in weatherlib.variables, so its "
            "dimensions are unknown; give the targets template yourself"
        )
    has_level = known.kind == "atmospheric" and bool(task.pressure_levels)
    return tuple(dim for dim in _DIMS if dim != "level" or has_level)


def _blank(dims: Sequence[str], sizes: dict[str, int]) -> xarray.Variable:
    """Returns a lazy variable of NaN with one block for each frame."""
    import dask.array

    blocks = tuple(1 if dim == "time" else sizes[dim] for dim in dims)
    shape = tuple(sizes[dim] for dim in dims)
    values = dask.array.full(shape, np.float32(np.nan), chunks=blocks, dtype=np.float32)
    return xarray.Variable(dims, values)


def _known_forcings(
    names: Sequence[str],
    initial: xarray.Dataset,
    known: xarray.Dataset | None,
    datetimes: xarray.DataArray,
) -> dict[str, xarray.Variable]:
    """Returns the forcings that the data holds at the valid times."""
    found: dict[str, xarray.Variable] = {}
    for name in names:
        if known is not None and name in known:
            found[name] = _at_valid_times(name, known, datetimes)
        elif name in initial and "time" not in initial[name].dims:
            found[name] = initial[name].variable
    missing = [
        name for name in names if name not in found and name not in progress.COMPUTABLE
    ]
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: forcings that cannot be computed from time and "
            "place; give their values at the valid times through `known`"
        )
    return found


def _at_valid_times(
    name: str, known: xarray.Dataset, datetimes: xarray.DataArray
) -> xarray.Variable:
    """Returns one variable at the valid times of each member."""
    if "time" not in known[name].dims:
        return known[name].variable
    held = times.valid_times(known)
    members = held.values.reshape(-1, held.sizes["time"])
    wanted = datetimes.values.reshape(-1, datetimes.sizes["time"])
    if len(members) not in (1, len(wanted)):
        raise ValueError(
            f"{name}: the known values have {len(members)} batch members, the forecast "
            f"has {len(wanted)}"
        )
    parts = []
    for member, when in enumerate(wanted):
        row = min(member, len(members) - 1)
        index = pd.Index(members[row]).get_indexer(pd.Index(when))
        if (index < 0).any():
            absent = pd.DatetimeIndex(when[index < 0])[0]
            raise ValueError(f"{name}: no known value at {absent}, a valid time")
        values = known[name].variable.isel(time=index)
        if "batch" in values.dims:
            values = values.isel(batch=slice(row, row + 1))
        parts.append(values)
    if "batch" not in parts[0].dims:
        return parts[0] if "batch" not in datetimes.dims else _stacked(parts)
    return xarray.Variable.concat(parts, dim="batch")


def _stacked(parts: Sequence[xarray.Variable]) -> xarray.Variable:
    """Returns variables without a batch as one with it, in front."""
    return xarray.Variable.concat(
        [part.set_dims(["batch", *part.dims]) for part in parts], dim="batch"
    )
