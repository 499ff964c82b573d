"""Precipitation summed over longer periods, frame by frame where it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray

from weatherlib import variables
from weatherlib.data import fields, lazy
from weatherlib.data_utils import accumulation, lexicon, units
from weatherlib.data_utils.problems import listed
from weatherlib.task import TaskConfig

__all__ = ["FrameSum", "attrs", "find_sums", "in_metres", "summed"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FrameSum:
    """Sums over the hours before each frame of a source, as far as its frames go.

    Attributes:
      name: What is made.
      source: Variable that is summed.
      hours: Over which it is summed.
      places: Frames of the source that each sum has as its terms, -1 for one that is
        missing; shape [frame, term].
    """

    name: str
    source: str
    hours: int
    places: np.ndarray

    @property
    def is_whole(self) -> np.ndarray:
        """Whether all terms of each frame are there, shape [frame]."""
        return (self.places >= 0).all(axis=1)

    def at(self, dataset: xarray.Dataset, frames: np.ndarray) -> xarray.Variable:
        """Returns the sums of some frames, unread where the source is.

        Args:
          dataset: The source.
          frames: Places of frames that are whole.
        """
        terms = [_as_slice(column) for column in self.places[frames].T]
        return summed(self.source, dataset[self.source].variable, terms, self.hours)


def find_sums(
    dataset: xarray.Dataset, dates: pd.DatetimeIndex, task: TaskConfig
) -> tuple[list[FrameSum], dict[str, str]]:
    """Returns the precipitation of a task that can be summed from that of a source.

    Args:
      dataset: The source, under our names.
      dates: Of its frames, in their order.
      task: Names what is wanted. What the source has is not summed.

    Returns:
      The sums; and why another one that the model reads cannot be made, by name.
    """
    sums, lost = [], {}
    periods = accumulation.periods(dataset)
    rates = {name: str(dataset[name].attrs["units"]) for name in periods
             if _depth(dataset[name].variable) is None}  # fmt: skip
    periods = {name: hours for name, hours in periods.items() if name not in rates}
    for name in lexicon.task_variables(task):
        hours = accumulation.hours_of_name(name)
        if hours is None or name in dataset or not (periods or rates):
            continue
        found = _best(dataset, dates, name, hours, periods)
        if found is not None:
            sums.append(found)
        elif name in task.input_variables:
            lost[name] = _why_not(name, hours, periods, rates, dates)
    return sums, lost


def summed(
    name: str,
    variable: xarray.Variable,
    terms: Sequence[slice | np.ndarray],
    hours: int,
) -> xarray.Variable:
    """Returns sums of precipitation in m, worked out when they are read.

    Args:
      name: Of the variable, for the message.
      variable: Precipitation over a part of the period.
      terms: Frames of each term of the sums, all of one length.
      hours: Length of the period.

    Raises:
      ValueError: As `in_metres`.
    """
    depth = in_metres(name, variable)
    pieces = [depth.isel(time=frames) for frames in terms]
    return lazy.apply(
        _total,
        pieces,
        pieces[0].sizes,
        depth.dtype,
        attrs={**depth.attrs, **attrs(hours)},
    )


def in_metres(name: str, variable: xarray.Variable) -> xarray.Variable:
    """Returns precipitation in m.

    Raises:
      ValueError: Its unit is that of something else, such as of a rate.
    """
    change = _depth(variable)
    if change is None:
        raise ValueError(
            f"{name}: units {variable.attrs['units']!r}, expected a depth of water, "
            "such as m or mm"
        )
    if (change.scale, change.offset) == (1.0, 0.0):
        return variable
    kept = variable.dtype if variable.dtype.kind == "f" else np.dtype(np.float32)
    return fields.converted(variable, change, kept, variable.attrs)


def _depth(variable: xarray.Variable) -> units.Conversion | None:
    """Returns what turns precipitation into m, None where it is no depth of water."""
    return units.conversion(str(variable.attrs.get("units", "")).strip() or "m", "m")


def attrs(hours: float) -> dict[str, str]:
    """Returns the attributes of precipitation over a period."""
    unit = "hour" if hours == 1 else "hours"
    known = variables.VARIABLES["total_precipitation"]
    return {
        "units": known.units,
        "long_name": f"total precipitation of the last {hours:g} {unit}",
        "cell_methods": f"time: sum (interval: {hours:g} {unit})",
    }


def _total(*terms: xarray.Variable) -> xarray.Variable:
    """Returns the sum in double precision."""
    total = terms[0].astype(np.float64)
    for term in terms[1:]:
        total = total + term
    return total


def _as_slice(places: np.ndarray) -> slice | np.ndarray:
    """Returns even places as a slice, which a file is read by in one go."""
    steps = np.unique(np.diff(places))
    if places.size < 2 or steps.size > 1 or steps[0] < 1:
        return places
    return slice(int(places[0]), int(places[-1]) + 1, int(steps[0]))


def _best(
    dataset: xarray.Dataset,
    dates: pd.DatetimeIndex,
    name: str,
    hours: int,
    periods: dict[str, int | None],
) -> FrameSum | None:
    """Returns the sum of fewest terms that some frame has whole, None without one."""
    parts = [(p, n) for n, p in periods.items() if p is not None and not hours % p]
    for period, source in sorted(parts, key=lambda part: -part[0]):
        if "time" not in dataset[source].dims:
            continue
        places = [
            dates.get_indexer(dates - pd.Timedelta(back, "h"))
            for back in range(0, hours, period)
        ]
        found = FrameSum(
            name=name, source=source, hours=hours, places=np.stack(places, axis=1)
        )
        if found.is_whole.any():
            return found
    return None


def _why_not(
    name: str,
    hours: int,
    periods: dict[str, int | None],
    rates: dict[str, str],
    dates: pd.DatetimeIndex,
) -> str:
    """Returns the message for a sum that cannot be made."""
    held = ", ".join(
        [f"{n} {'from the start of a forecast' if p is None else f'over {p} h'}"
         for n, p in periods.items()]
        + [f"{n} in {unit!r}" for n, unit in rates.items()]
    )  # fmt: skip
    head = f"{name}: the model reads sums over {hours} h, and the source has {held}"
    known = [period for period in periods.values() if period is not None]
    if not periods:
        return f"{head}, which is no depth of water such as m or mm"
    if not known:
        return f"{head}; data.deaccumulate turns it into sums over each step"
    if not any(hours % period == 0 for period in known):
        return f"{head}, of which none adds up to {hours} h; get it for {hours} h"
    steps = listed(
        pd.Timedelta(step) for step in np.unique(np.diff(np.sort(dates.values)))[:3]
    )
    return (
        f"{head}; with frames every {steps or '(one frame)'} these do not cover the "
        f"time between; use a source with a frame for each period, or sums over "
        f"{hours} h"
    )
