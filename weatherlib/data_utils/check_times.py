"""Checks of the time axis and the dates of a dataset against a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray

from weatherlib.data_utils import date_forms, times
from weatherlib.data_utils.problems import Problem
from weatherlib.task import TaskConfig

__all__ = ["check_times"]


def check_times(
    dataset: xarray.Dataset,
    task: TaskConfig,
    *,
    frames: int | None,
    truth: bool,
    time_step: pd.Timedelta | None,
    needs_dates: bool,
) -> Iterator[Problem]:
    """Yields what is wrong with the time axis and the dates.

    Args:
      dataset: Axes under our names.
      task: Says how much of the past the model reads.
      frames: Frames that there must be, as many as the input takes if None.
      truth: One more frame is needed, to compare with.
      time_step: Step that the model was trained with, None for any.
      needs_dates: Whether a forcing has to be computed from the date.
    """
    if "time" not in dataset.coords:
        yield Problem(
            kind="missing",
            variable="time",
            found="the coordinate is missing",
            fix="add the lead time or date of each frame",
        )
        return
    problem, dataset = _with_dates(dataset)
    if problem is not None:
        yield problem
    values = np.atleast_1d(dataset["time"].values)
    step = None
    if values.dtype.kind not in "mM":
        if problem is None:
            yield from _check_undecoded(dataset)
        values = _lead_times(dataset)
    elif values.dtype.kind == "M" and problem is None:
        yield _dates_problem("holds dates")
    if values is not None:
        problems = list(_check_steps(values))
        yield from problems
        if not problems and values.size > 1:
            step = times.as_timedelta(values[1] - values[0])
            yield from _check_step_length(step, task, time_step)
    yield from _check_frames(dataset, task, step or time_step, frames, truth)
    yield from _check_datetime(dataset, step, needs_dates=needs_dates)


def _with_dates(dataset: xarray.Dataset) -> tuple[Problem | None, xarray.Dataset]:
    """Returns the data with dates of another form read, and the problem they are."""
    try:
        read, changes = date_forms.read_dates(dataset)
    except ValueError as error:
        name, _, rest = str(error).partition(": ")
        found, _, fix = rest.partition("; ")
        return Problem(kind="time", variable=name, found=found, fix=fix), dataset
    if read["time"].dtype == dataset["time"].dtype:
        return None, read
    form = changes[0].removeprefix("read ").removesuffix(" in time")
    return _dates_problem(f"holds {form}"), read


def _dates_problem(found: str) -> Problem:
    """Returns the problem of dates where lead times are expected."""
    return Problem(
        kind="time",
        variable="time",
        found=f"{found}, expected lead times with the dates in `datetime`",
        fix="move the dates to `datetime` and count `time` from the first frame",
        lossless=True,
    )


def _lead_times(dataset: xarray.Dataset) -> np.ndarray | None:
    """Returns times that are numbers as lead times, None where they cannot be."""
    try:
        values = times.decode_time(dataset)["time"].values
    except ValueError:
        return None
    return values if values.dtype.kind == "m" else None


def _check_undecoded(dataset: xarray.Dataset) -> Iterator[Problem]:
    """Yields a problem for times that are numbers or text."""
    time = dataset["time"]
    units = time.attrs.get("units")
    is_number = time.dtype.kind in "iuf"
    is_known = _lead_times(dataset) is not None
    first = f" such as {time.values.ravel()[0]!s}" if time.size else ""
    held = f"numbers ({time.dtype}, units {units!r})" if is_number else "times"
    yield Problem(
        kind="time",
        variable="time",
        found=f"{held}{first}, expected lead times",
        fix="decode them by their units"
        if is_known
        else "set the attribute `units`, such as 'hours', or give dates as datetime64",
        lossless=is_known,
    )


def _check_steps(values: np.ndarray) -> Iterator[Problem]:
    """Yields a problem where frames are missing, repeated, unordered or uneven."""
    if np.isnat(values).any():
        yield Problem(
            kind="time",
            variable="time",
            found=f"{np.isnat(values).sum()} of {values.size} are not a time",
            fix="repair the coordinate",
        )
        return
    steps = np.diff(values).astype("timedelta64[ns]")
    if not steps.size:
        return
    zero = np.timedelta64(0, "ns")
    unique, counts = np.unique(values, return_counts=True)
    if (counts > 1).any():
        yield Problem(
            kind="time",
            variable="time",
            found=f"{_time(unique[counts > 1][0])} occurs more than once",
            fix="drop the repeated frames",
        )
    elif (steps < zero).all():
        yield Problem(
            kind="time",
            variable="time",
            found="frames run backwards",
            fix="sort the data along time",
            lossless=True,
        )
    elif (steps < zero).any():
        yield Problem(
            kind="time",
            variable="time",
            found=f"{_time(values[np.flatnonzero(steps < zero)[0] + 1])} comes after a "
            "later frame",
            fix="sort the data along time",
            lossless=True,
        )
    elif (steps != steps[0]).any():
        smallest = steps.min()
        odd = int(np.flatnonzero(steps != smallest)[0])
        yield Problem(
            kind="time",
            variable="time",
            found=f"uneven: {pd.Timedelta(smallest)} in general, but "
            f"{pd.Timedelta(steps[odd])} after {_time(values[odd])}",
            fix="fill the gap, or use the frames on one side of it",
        )


def _check_step_length(
    step: pd.Timedelta, task: TaskConfig, time_step: pd.Timedelta | None
) -> Iterator[Problem]:
    """Yields a problem where the step does not suit the model."""
    duration = times.as_timedelta(task.input_duration)
    if time_step is not None and step != time_step:
        yield Problem(
            kind="step",
            variable="time",
            found=f"frames are {step} apart, the model steps by {time_step}",
            fix=f"data.subsample(dataset, '{_hours(time_step)}') takes every n-th frame"
            if step < time_step and not time_step % step
            else "get data at this step",
        )
    elif duration / step % 1:
        yield Problem(
            kind="step",
            variable="time",
            found=f"a step of {step} does not divide the input duration of {duration}",
            fix="get data at a step that does",
        )


def _check_frames(
    dataset: xarray.Dataset,
    task: TaskConfig,
    step: pd.Timedelta | None,
    frames: int | None,
    truth: bool,
) -> Iterator[Problem]:
    """Yields a problem where there are too few frames."""
    found = dataset.sizes.get("time", 0)
    if frames is None:
        past = round(times.as_timedelta(task.input_duration) / step) if step else 2
        frames = max(1, past) + truth
    if found < frames:
        purpose = "to read and compare with" if truth else "for the model to read"
        yield Problem(
            kind="frames",
            variable="time",
            found=f"{found} frame(s), at least {frames} are needed {purpose}",
            fix=f"add {frames - found} more",
        )


def _check_datetime(
    dataset: xarray.Dataset, step: pd.Timedelta | None, *, needs_dates: bool
) -> Iterator[Problem]:
    """Yields what is wrong with the dates of the frames."""
    if "datetime" not in dataset.coords:
        has_dates = "time" in dataset.coords and dataset["time"].dtype.kind == "M"
        if needs_dates and not has_dates:
            yield Problem(
                kind="missing",
                variable="datetime",
                found="the coordinate is missing, and forcings follow from the date",
                fix="add the UTC time of each frame with the dimensions (batch, time)",
            )
        return
    dates = dataset["datetime"]
    if dates.dtype.kind != "M":
        yield Problem(
            kind="time",
            variable="datetime",
            found=f"holds {dates.dtype}, expected datetime64",
            fix="give the dates as datetime64, as data.open_dataset reads them",
        )
    elif bool(np.isnat(dates.values).any()):
        yield Problem(
            kind="time",
            variable="datetime",
            found=f"{int(np.isnat(dates.values).sum())} of {dates.size} are missing",
            fix="repair the coordinate",
        )
    elif step is not None and "time" in dates.dims:
        steps = np.diff(dates.values, axis=dates.dims.index("time"))
        if steps.size and (pd.to_timedelta(steps.ravel()) != step).any():
            yield Problem(
                kind="time",
                variable="datetime",
                found=f"dates do not advance by {step} as `time` does",
                fix="repair one of the two",
            )


def _hours(step: pd.Timedelta) -> str:
    """Returns a step as a short text."""
    return f"{step.total_seconds() / 3600:g}h"


def _time(value: Any) -> str:
    """Returns a datetime64 or timedelta64 in words."""
    if value.dtype.kind == "M":
        return str(pd.Timestamp(value))
    return str(pd.Timedelta(value))
