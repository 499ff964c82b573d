"""Inputs, targets and forcings cut out of a dataset that holds the truth too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray

from weatherlib.data_utils import progress, times

__all__ = ["extract_input_target_times", "extract_inputs_targets_forcings"]


def extract_input_target_times(
    dataset: xarray.Dataset,
    input_duration: times.TimedeltaLike,
    target_lead_times: times.TargetLeadTimes,
) -> tuple[xarray.Dataset, xarray.Dataset]:
    """Returns inputs and targets, with `time` counted from the last input frame.

    The last frame of `dataset` becomes the last target, whatever the origin of its
    `time`: lead time zero is that frame less the longest lead time. Inputs are the
    frames in (-input_duration, 0].

    Args:
      dataset: Has `time` as ascending, evenly spaced lead times. Not changed.
      input_duration: Length of the past, such as "12h": two frames six hours apart.
      target_lead_times: One lead time ("6h"), several, or a slice whose ends are both
        included; without a start it begins right after lead time zero.

    Raises:
      ValueError: The file does not reach over the inputs or a target time.
    """
    dataset = times.decode_time(dataset)
    selection, duration = _lead_time_selection(target_lead_times)
    time = dataset.coords["time"]
    if time.dtype.kind != "m":
        raise ValueError(
            f"time: holds {time.dtype}, expected lead times (timedelta64); "
            "weatherlib.data.conform turns dates into lead times"
        )
    dataset = dataset.assign_coords(time=time + duration - time[-1])
    past = times.as_timedelta(input_duration)
    # Slices by label hold both ends; one nanosecond leaves the earlier end out.
    open_start = -past + pd.Timedelta(1, "ns")
    inputs = dataset.sel(time=slice(open_start, pd.Timedelta(0)))
    try:
        targets = dataset.sel(time=selection)
    except (KeyError, pd.errors.InvalidIndexError) as error:
        raise ValueError(_describe_missing(dataset, selection)) from error
    if not targets.sizes["time"]:
        raise ValueError(_describe_missing(dataset, selection))
    _require_inputs(dataset.coords["time"], inputs.sizes["time"], past)
    return inputs, targets


def _lead_time_selection(
    lead_times: times.TargetLeadTimes,
) -> tuple[slice | list[pd.Timedelta], pd.Timedelta]:
    """Returns what to select by label and the longest lead time."""
    if isinstance(lead_times, slice):
        if lead_times.stop is None:
            raise ValueError(
                f"target_lead_times {lead_times} has no end; give one, such as "
                'slice("6h", "24h")'
            )
        start = pd.Timedelta(1, "ns") if lead_times.start is None else lead_times.start
        stop = times.as_timedelta(lead_times.stop)
        return slice(start, stop, lead_times.step), stop
    several = isinstance(lead_times, list | tuple | set)
    wanted = sorted(map(times.as_timedelta, lead_times if several else [lead_times]))
    if not wanted:
        raise ValueError("target_lead_times is empty; give at least one lead time")
    return wanted, wanted[-1]


def _describe_missing(
    dataset: xarray.Dataset, selection: slice | list[pd.Timedelta]
) -> str:
    """Returns the message for lead times that the file does not hold."""
    index = dataset.indexes["time"]
    if not index.is_unique:
        return f"time: {index[index.duplicated()][0]} occurs more than once"
    held = ", ".join(str(t) for t in index[:8]) + (", ..." if len(index) > 8 else "")
    if isinstance(selection, slice):
        wanted = f"any lead time from {selection.start} to {selection.stop}"
    else:
        wanted = ", ".join(str(t) for t in selection if t not in index)
    return (
        f"time: the data lacks {wanted}; counted from the last input frame it holds "
        f"{held}"
    )


def _require_inputs(time: xarray.DataArray, found: int, past: pd.Timedelta) -> None:
    """Raises a ValueError where fewer input frames exist than the past needs."""
    steps = np.diff(time.values).astype("timedelta64[ns]").astype(np.int64)
    even = steps.size > 0 and bool((steps == steps[0]).all()) and steps[0] > 0
    expected = max(1, int(past.as_unit("ns").value // steps[0])) if even else 1
    if found < expected:
        raise ValueError(
            f"time: {found} input frame(s) in the {past} before the first target, "
            f"expected {expected}; the data has {time.size} frame(s) in all, add "
            f"{expected - found} earlier one(s) or ask for shorter lead times"
        )


def extract_inputs_targets_forcings(
    dataset: xarray.Dataset,
    *,
    input_variables: Sequence[str],
    target_variables: Sequence[str],
    forcing_variables: Sequence[str],
    pressure_levels: Sequence[int],
    input_duration: times.TimedeltaLike,
    target_lead_times: times.TargetLeadTimes,
) -> tuple[xarray.Dataset, xarray.Dataset, xarray.Dataset]:
    """Returns what a model reads, what it should predict, and what it is told.

    What follows from time and place (solar radiation, progress of year and day,
    latitude) is computed where the file lacks it, for any number of batch members.
    Times are chosen as `extract_input_target_times` says.

    Args:
      dataset: Dimensions (batch, time, level, lat, lon) with the coordinate
        `datetime`. `time` may hold numbers with units. Not changed.
      input_variables: Names of the inputs.
      target_variables: Names of the targets.
      forcing_variables: Names known at the target times, apart from the targets.
      pressure_levels: Levels in the order wanted, hPa.
      input_duration: Length of the past, such as "12h".
      target_lead_times: One lead time, several, or a slice with both ends.

    Returns:
      Inputs, targets and forcings; forcings have the times of the targets. `datetime`
      is left out of all three.

    Raises:
      ValueError: A variable, level, coordinate or time is missing, or a variable is
        both a forcing and a target.
    """
    both = sorted(set(forcing_variables) & set(target_variables))
    if both:
        raise ValueError(
            f"{', '.join(both)}: named both as forcing and as target; a forcing is "
            "known in advance and cannot be predicted"
        )
    wanted = (*input_variables, *target_variables, *forcing_variables)
    computable = (set(wanted) - set(target_variables)) & progress.COMPUTABLE
    missing = [v for v in wanted if v not in dataset and v not in computable]
    if missing:
        raise ValueError(
            f"{', '.join(dict.fromkeys(missing))}: not in the data, which has "
            f"{', '.join(map(str, dataset.data_vars))}"
        )
    present = [v for v in dict.fromkeys(wanted) if v in dataset]
    dataset = select_levels(dataset[present], pressure_levels, dataset)
    inputs, targets = extract_input_target_times(
        dataset, input_duration, target_lead_times
    )
    inputs, targets = (
        with_forcings(part, sorted(computable)).drop_vars("datetime", errors="ignore")
        for part in (inputs, targets)
    )
    return (
        inputs[list(input_variables)],
        targets[list(target_variables)],
        targets[list(forcing_variables)],
    )


def select_levels(
    dataset: xarray.Dataset, levels: Sequence[int], source: xarray.Dataset
) -> xarray.Dataset:
    """Returns the data on the wanted levels, in their order, with source's `datetime`.

    Raises:
      ValueError: A level, or the coordinate itself, is missing.
    """
    if "datetime" in source.coords and "datetime" not in dataset.coords:
        dataset = dataset.assign_coords(datetime=source.coords["datetime"])
    if "level" not in dataset.dims:
        return dataset
    if "level" not in dataset.coords:
        raise ValueError(
            "level: the dimension has no coordinate; add the levels in hPa"
        )
    held = np.asarray(dataset.coords["level"].values)
    missing = [level for level in levels if level not in held]
    if missing:
        raise ValueError(
            f"level: {', '.join(map(str, missing))} hPa not in the data, which has "
            f"{', '.join(f'{level:g}' for level in held)}"
        )
    return dataset.sel(level=list(levels))


def with_forcings(dataset: xarray.Dataset, names: Sequence[str]) -> xarray.Dataset:
    """Returns the data with those of the computable forcings added that it lacks.

    Raises:
      ValueError: A coordinate that they need is missing.
    """
    dataset = progress.with_statics(dataset, names)
    missing = [name for name in names if name not in dataset.data_vars]
    if not missing:
        return dataset
    progress.require_coordinates(dataset, "datetime", "lat", "lon")
    datetimes = times.valid_times(dataset)
    progress.require_common_steps(datetimes)
    lat, lon = dataset.coords["lat"], dataset.coords["lon"]
    return dataset.assign(progress.compute_forcings(missing, datetimes, lat, lon))
