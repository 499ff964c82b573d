"""Which starts of a set can be made: all their frames are there, none has NaN."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray

from weatherlib import data
from weatherlib.cli import console
from weatherlib.data_utils import problems

__all__ = ["print_left_out", "to_leave_out"]

# Of states that are read at once.
_MOST_STATES = 64
_MOST_BYTES = 1 << 24
# So many starts are named one by one.
_NAMED = 50


def to_leave_out(
    states: data.InitialStates, starts: np.ndarray, *, earlier: int = 0
) -> dict[int, str]:
    """Returns the places of starts that the data do not hold whole, and why.

    The frames of the others are read once, to look for values that are not finite.

    Args:
      states: The data.
      starts: UTC, datetime64[ns], ascending, shape [start].
      earlier: Steps before each start at which a state is needed as well.

    Raises:
      ValueError: A static field is missing.
    """
    step = states.time_step.to_timedelta64().astype("timedelta64[ns]")
    first = 1 - states.frames - earlier
    dates = starts[:, np.newaxis] + step * np.arange(first, 1)
    # The last frames of the states that are read.
    ends = dates[:, states.frames - 1 :]
    is_lost, is_short = (
        (times.get_indexer(pd.DatetimeIndex(wanted.ravel())) < 0).reshape(wanted.shape)
        for times, wanted in ((states.times, dates), (states.starts, ends))
    )
    found = {
        int(place): f"no frame at {_stamps(dates[place][is_lost[place]])}"
        if is_lost[place].any()
        else f"the state at {_stamps(ends[place][is_short[place]])} is not whole"
        for place in np.flatnonzero(is_short.any(1))
    }
    whole = np.flatnonzero(~is_short.any(1))
    broken = _broken(states, np.unique(ends[whole]))
    for place in map(int, whole):
        faults = [broken[date] for date in dates[place].tolist() if date in broken]
        if faults:
            found[place] = faults[0]
    return dict(sorted(found.items()))


def print_left_out(
    out: console.Console, starts: np.ndarray, left_out: dict[int, str]
) -> None:
    """Prints how many starts of a set are not made, and which, if there are any.

    Args:
      out: Where.
      starts: All of them, shape [start].
      left_out: From `to_leave_out`.
    """
    if not left_out:
        return
    out.heading("Left out")
    out.print(f"  {len(left_out)} of {len(starts)} starts:")
    for place, reason in list(left_out.items())[:_NAMED]:
        out.print(f"  {_stamps(starts[[place]])}: {reason}")
    if len(left_out) > _NAMED:
        out.print(f"  and {len(left_out) - _NAMED} more, which the file names")


def _broken(states: data.InitialStates, moments: np.ndarray) -> dict[int, str]:
    """Returns what is wrong with the values of frames, by date in nanoseconds.

    Args:
      states: The data.
      moments: Last frames of the states to look at, datetime64[ns], shape [state].
    """
    task = states.task
    reads = {*task.input_variables, *task.forcing_variables}
    found: dict[int, str] = {}
    first, size = 0, 1
    while first < len(moments):
        part = states.several(moments[first : first + size])
        dates = part["datetime"].transpose("batch", "time").values
        for name, field in part.data_vars.items():
            if "time" not in field.dims or field.dtype.kind != "f":
                continue
            for date in dates[_is_broken(field, is_read=name in reads)]:
                text = f"{name} has values that are not finite at {_stamps(date)}"
                found.setdefault(date.astype("datetime64[ns]").item(), text)
        first += size
        each = max(1, part.nbytes // size)
        size = max(1, min(_MOST_STATES, _MOST_BYTES // each))
    return found


def _is_broken(field: xarray.DataArray, *, is_read: bool) -> np.ndarray:
    """Returns in which frames a model cannot take a field, shape [batch, time].

    As `data_utils.require` has it: what is predicted only may be missing.
    """
    values = field.transpose("batch", "time", ...).values
    wrong = ~np.isfinite(values) if is_read else np.isinf(values)
    return wrong.any(axis=tuple(range(2, wrong.ndim)))


def _stamps(dates: np.ndarray) -> str:
    """Returns dates for a message, cut short where they are many."""
    stamps = np.datetime_as_string(np.atleast_1d(dates), unit="m")
    return problems.listed(stamps, most=3)
