"""The time axis of a series of frames: its step, gaps and periods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from weatherlib import task as tasks
from weatherlib.data_utils import times
from weatherlib.training.config import Period

__all__ = ["extent", "frames_at", "input_frames", "inside", "spacing", "span"]


def frames_at(places: np.ndarray) -> Any:
    """Returns places as a slice where they are evenly spaced, for it copies nothing."""
    steps = np.diff(places)
    if not len(steps):
        return slice(int(places[0]), int(places[0]) + 1)
    if (steps == steps[0]).all():
        return slice(int(places[0]), int(places[-1]) + 1, int(steps[0]))
    return places


def spacing(
    datetimes: np.ndarray, time_step: str | None
) -> tuple[np.timedelta64, int, np.ndarray]:
    """Returns the step, how many frames it spans, and which frames follow a gap.

    Raises:
      ValueError: There are too few frames, they are not in order, or the step is no
        multiple of theirs.
    """
    if len(datetimes) < 2:
        raise ValueError(f"time: training needs several frames, found {len(datetimes)}")
    differences = np.diff(datetimes)
    if (differences <= np.timedelta64(0, "ns")).any():
        at = int(np.argmax(differences <= np.timedelta64(0, "ns")))
        raise ValueError(
            f"time: {datetimes[at + 1]} does not come after {datetimes[at]}; sort the "
            "frames and drop duplicates"
        )
    values, counts = np.unique(differences, return_counts=True)
    native = values[np.argmax(counts)]
    wanted = native
    if time_step is not None:
        wanted = (
            times.as_timedelta(time_step).to_timedelta64().astype("timedelta64[ns]")
        )
    if wanted < native or wanted % native:
        raise ValueError(
            f"data.time_step {time_step} is no multiple of the "
            f"{pd.Timedelta(native)} between frames of the data"
        )
    return wanted, int(wanted // native), differences != native


def input_frames(task: tasks.TaskConfig, step: np.timedelta64) -> int:
    """Returns how many frames the inputs of a task have.

    Raises:
      ValueError: Their length is no multiple of the step.
    """
    duration = times.as_timedelta(task.input_duration)
    count = duration.to_timedelta64() / step
    if count < 1 or not float(count).is_integer():
        raise ValueError(
            f"task.input_duration {task.input_duration} is no multiple of the step of "
            f"{pd.Timedelta(step)}"
        )
    return int(count)


def inside(datetimes: np.ndarray, period: Period) -> np.ndarray:
    """Returns which frames lie in a period."""
    found = np.ones(len(datetimes), bool)
    if period.start is not None:
        found &= datetimes >= np.datetime64(period.start)
    if period.end is not None:
        found &= datetimes < np.datetime64(period.end)
    return found


def extent(datetimes: np.ndarray, period: Period) -> dict[str, Any]:
    """Returns first and last time of a period and how many frames it has."""
    found = datetimes[inside(datetimes, period)]
    if not len(found):
        return {"first": None, "last": None, "frames": 0}
    ends = [str(found[place])[:16] for place in (0, -1)]
    return {"first": ends[0], "last": ends[1], "frames": len(found)}


def span(datetimes: np.ndarray) -> str:
    """Returns first and last time in words."""
    return f"{str(datetimes[0])[:13]} to {str(datetimes[-1])[:13]}"
