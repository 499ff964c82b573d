"""Initial states cut out of a source by date, with static fields from where they are.

A source may be an archive of decades: only the frames that a forecast starts from are
read.
"""

from __future__ import annotations

from typing import final

import numpy as np
import pandas as pd
import xarray

from weatherlib import variables
from weatherlib.data import regrid
from weatherlib.data import starts as start_rules

# The package has a function of the module's name.
from weatherlib.data.conform import conform as conform_to
from weatherlib.data_utils import lexicon, progress, times
from weatherlib.task import TaskConfig

__all__ = ["InitialStates"]

# Rows and columns of two files are the same within this part of their spacing.
_SAME_PLACE = 1e-2


@final
class InitialStates:
    """The states of a source from which a model can start.

        source = data.open_dataset("era5.zarr")
        states = data.InitialStates(source, graphcast.TASK_13)
        state = states.state(np.datetime64("2026-01-15T00"))

    Attributes:
      task: Variables, levels and input duration of the model.
      time_step: Time between two frames of the model.
      times: All times of the source.
      changes: What `conform` and a static file did, one line each; filled when a state
        is made.
    """

    def __init__(
        self,
        source: xarray.Dataset,
        task: TaskConfig,
        *,
        time_step: times.TimedeltaLike | None = None,
        static: xarray.Dataset | None = None,
        conform: bool = False,
    ) -> None:
        """Looks at the time axis; no values are read.

        Args:
          source: From `data.open_dataset`. Has dates, in `datetime` or as `time`.
          task: Variables, levels and input duration of the model.
          time_step: Time between frames of the model. None: half the input duration
            where the source is finer than that, as the published two-frame models
            have it, else the step of the source.
          static: Fields without time that the source may lack, such as
            `land_sea_mask`, on the same grid.
          conform: Whether states are put through `data.conform`.

        Raises:
          ValueError: The source has no dates, several batch members, a date twice, or
            too few frames; or the time step does not divide the input duration.
        """
        names = lexicon.task_variables(task)
        self.task = task
        self.changes: list[str] = []
        self._source, renamed = lexicon.rename(source, names)
        self._renamed = {new: old for new, old in renamed.items() if new in names}
        self._static = static
        self._conform = conform
        dates = _dates(self._source)
        order = np.argsort(dates.values, kind="stable")
        self.times = dates[order]
        self._places = order
        self.time_step = _time_step(self.times, task, time_step)
        duration = times.as_timedelta(task.input_duration)
        self._frames = round(duration / self.time_step)

    @property
    def frames(self) -> int:
        """Frames that the model reads."""
        return self._frames

    @property
    def starts(self) -> pd.DatetimeIndex:
        """Times at which all frames that the model reads are there."""
        possible = np.ones(len(self.times), bool)
        for back in range(1, self._frames):
            earlier = self.times - back * self.time_step
            possible &= self.times.get_indexer(earlier) >= 0
        return self.times[possible]

    def require(self, wanted: np.ndarray, *, earlier: int = 0, why: str = "") -> None:
        """Checks that forecasts can start at some times, and at some before them.

        Args:
          wanted: datetime64, shape [start].
          earlier: Steps before each start at which a state is needed as well.
          why: What the earlier ones are for, for the message.

        Raises:
          ValueError: A state is missing. The message names the first, the range of the
            source and the nearest starts.
        """
        starts = self.starts
        for back in range(earlier + 1):
            needed = pd.DatetimeIndex(wanted) - back * self.time_step
            missing = np.flatnonzero(starts.get_indexer(needed) < 0)
            if missing.size:
                raise ValueError(
                    self._missing(wanted, missing, back, why if back else "")
                )

    def state(self, start: np.datetime64) -> xarray.Dataset:
        """Returns the frames that a forecast reads, the last of them at the start.

        Args:
          start: UTC.

        Returns:
          Variables of the task as the source has them, dimensions (batch, time, level,
          lat, lon), `time` from zero on and `datetime`. Values are in memory.

        Raises:
          ValueError: A frame or a static field is missing.
        """
        self.require(np.array([start], "datetime64[ns]"))
        return self._cut(self._from(start, range(1 - self._frames, 1))).compute()

    def several(self, starts: np.ndarray) -> xarray.Dataset:
        """Returns the states of several starts at once, as a batch.

        Frames that starts share are read once, and everything is checked once.

        Args:
          starts: UTC, datetime64, shape [start].

        Returns:
          As `state`, with a `batch` of as many as there are starts.

        Raises:
          ValueError: A frame or a static field is missing.
        """
        starts = np.asarray(starts, "datetime64[ns]")
        self.require(starts)
        step = self.time_step.to_timedelta64().astype("timedelta64[ns]")
        dates = starts[:, np.newaxis] + step * np.arange(1 - self._frames, 1)
        places = self._places[self.times.get_indexer(pd.DatetimeIndex(dates.ravel()))]
        held, rows = np.unique(places, return_inverse=True)
        part = self._selected(held).compute()
        part = _as_batch(part, dates, rows.reshape(dates.shape))
        return self._with_static(self._conformed(part))

    def following(self, start: np.datetime64, steps: int) -> xarray.Dataset | None:
        """Returns the frames after a start as far as the source has them, unread.

        Args:
          start: UTC.
          steps: Most frames.

        Returns:
          As `state`, without static fields of another file; None where the next frame
          is missing.
        """
        wanted = self._from(start, range(1, steps + 1))
        lost = np.flatnonzero(self.times.get_indexer(wanted) < 0)
        known = int(lost[0]) if lost.size else steps
        return self._cut(wanted[:known], static=False) if known else None

    def _from(self, start: np.datetime64, steps: range) -> pd.DatetimeIndex:
        """Returns the times so many steps from a start."""
        step = self.time_step.to_timedelta64().astype("timedelta64[ns]")
        return pd.DatetimeIndex(np.datetime64(start, "ns") + step * np.array(steps))

    def _cut(self, wanted: pd.DatetimeIndex, *, static: bool = True) -> xarray.Dataset:
        """Returns the frames at some times in the form that models read."""
        part = self._selected(self._places[self.times.get_indexer(wanted)])
        part = self._conformed(_as_frames(part, wanted))
        return self._with_static(part) if static else part

    def _selected(self, places: np.ndarray) -> xarray.Dataset:
        """Returns the frames at some places of the source, at the task's levels."""
        task = self.task
        names = [n for n in lexicon.task_variables(task) if n in self._source]
        part = self._source[names]
        dates = self._source.coords.get("datetime")
        if dates is not None and "datetime" not in part.coords:
            part = part.assign_coords(datetime=dates)
        # A slice reads a file in one go where a list of places would not.
        if len(places) > 1 and (np.diff(places) == 1).all():
            part = part.isel(time=slice(int(places[0]), int(places[-1]) + 1))
        else:
            part = part.isel(time=places)
        held = np.atleast_1d(part["level"].values) if "level" in part.coords else []
        if "level" in part.dims and set(task.pressure_levels) <= set(held):
            part = part.sel(level=list(task.pressure_levels))
        return part

    def _conformed(self, part: xarray.Dataset) -> xarray.Dataset:
        """Returns the frames as `conform` makes them, where that is wanted."""
        if not self._conform:
            return part
        part, changes = conform_to(part.compute(), self.task)
        lines = [f"renamed {old} to {new}" for new, old in self._renamed.items()]
        self._note([*lines, *changes])
        return part

    def _with_static(self, part: xarray.Dataset) -> xarray.Dataset:
        """Returns the frames with the fields that the source lacks."""
        missing = [
            name
            for name in self.task.input_variables
            if name not in part and name not in progress.COMPUTABLE
        ]
        fields = [name for name in missing if _is_static(name)]
        if self._static is None:
            if fields:
                raise ValueError(
                    f"{', '.join(fields)}: the model reads this, and the source lacks "
                    f"it; name a file that has it with --static"
                )
            return part
        if not missing:
            return part
        held, changes = conform_to(self._static, self.task)
        lost = [name for name in fields if name not in held]
        if lost:
            raise ValueError(
                f"{', '.join(lost)}: neither in the source nor in the static file, "
                f"which has {', '.join(map(str, self._static.data_vars))}"
            )
        found = {name: held[name] for name in missing if name in held}
        timeless = {
            name: field.isel(time=0, drop=True) if "time" in field.dims else field
            for name, field in found.items()
        }
        notes = [f"static file: {change}" for change in changes]
        placed = {}
        for name, field in timeless.items():
            field = field.drop_vars("datetime", errors="ignore")
            if _is_static(name) and not _same_grid(name, field, part):
                field, how = _regridded(name, field, part)
                notes.append(how)
            placed[name] = _on_grid(name, field, part)
        self._note([*notes, f"took {', '.join(placed)} from it"])
        return part.assign(placed)

    def _note(self, lines: list[str]) -> None:
        """Keeps what was done, each thing once."""
        self.changes += [line for line in lines if line not in self.changes]

    def _absent(self, start: pd.Timestamp) -> str:
        """Returns which frames of a state are gaps of the source, as half a line."""
        wanted = self._from(start.to_numpy(), range(1 - self._frames, 1))
        gaps = wanted[self.times.get_indexer(wanted) < 0]
        gaps = gaps[(gaps > self.times[0]) & (gaps < self.times[-1])]
        if not len(gaps):
            return ""
        more = f" and {len(gaps) - 1} other(s)" if len(gaps) > 1 else ""
        return f", as there is no frame at {_stamp(gaps[0])}{more}"

    def _missing(
        self, wanted: np.ndarray, missing: np.ndarray, back: int, why: str
    ) -> str:
        """Returns the message for starts that are not there."""
        step = self.time_step
        start = list(pd.DatetimeIndex(wanted))[missing[0]] - back * step
        text = _stamp(start)
        more = f" and {missing.size - 1} other(s)" if missing.size > 1 else ""
        head = f"--init: no forecast can start at {text}{more}{self._absent(start)}"
        if why:
            head += f", which {why}"
        held = self.times
        message = (
            f"{head}; the source holds {len(held)} times from {_stamp(held[0])} to "
            f"{_stamp(held[-1])}"
        )
        if self._frames > 1 and start in held:
            earlier = start - (self._frames - 1) * self.time_step
            message += (
                f", but the model reads {self._frames} frames, the first of them at "
                f"{_stamp(earlier)}"
            )
        starts = self.starts
        if not len(starts):
            return f"{message}, and no start among them has all frames before it"
        near = start_rules.nearest(starts, start)
        return f"{message}; nearest starts: {', '.join(near)}"


def _dates(source: xarray.Dataset) -> pd.DatetimeIndex:
    """Returns the UTC time of each frame of a source.

    Raises:
      ValueError: There are none, several at one place, or one twice.
    """
    if "datetime" in source.coords:
        dates = times.valid_times(source)
        if "batch" in dates.dims:
            if dates.sizes["batch"] != 1:
                raise ValueError(
                    f"datetime: the source holds {dates.sizes['batch']} batch members; "
                    "a forecast from a date needs a source with one"
                )
            dates = dates.isel(batch=0)
        if dates.dims != ("time",):
            raise ValueError(
                f"datetime: has the dimensions {dates.dims}, expected (batch, time)"
            )
        values = dates.values
    elif "time" in source.coords and source["time"].dtype.kind == "M":
        values = np.atleast_1d(source["time"].values)
    else:
        raise ValueError(
            "time: the source has no dates, so a forecast cannot start at one; leave "
            "--init out to start at the end of the data"
        )
    index = pd.DatetimeIndex(values.astype("datetime64[ns]"))
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise ValueError(f"time: the source holds {_stamp(twice)} more than once")
    return index


def _time_step(
    held: pd.DatetimeIndex, task: TaskConfig, given: times.TimedeltaLike | None
) -> pd.Timedelta:
    """Returns the time step of the model."""
    duration = times.as_timedelta(task.input_duration)
    if given is not None:
        step = times.as_timedelta(given)
    else:
        gaps = np.diff(held.values)
        finest = times.as_timedelta(gaps.min()) if gaps.size else duration
        step = times.as_timedelta(max(finest, duration / 2))
    if step <= pd.Timedelta(0) or round(duration / step) * step != duration:
        raise ValueError(
            f"time: a step of {step} does not divide the input duration of {duration}; "
            "give the model's step with --time-step"
        )
    return step


def _as_frames(part: xarray.Dataset, wanted: pd.DatetimeIndex) -> xarray.Dataset:
    """Returns frames with `time` from zero, `datetime` and a batch of one."""
    dates = wanted.to_numpy().astype("datetime64[ns]")
    if "time" not in part.dims:
        # One frame without an axis.
        part = part.drop_vars("time", errors="ignore").expand_dims("time")
    part = part.drop_vars("datetime", errors="ignore")
    part = part.assign_coords(time=dates - dates[0])
    part = part.assign(
        {
            name: field.expand_dims("batch")
            for name, field in part.data_vars.items()
            if "time" in field.dims and "batch" not in field.dims
        }
    )
    part = part.assign_coords(datetime=(("batch", "time"), dates[np.newaxis]))
    order = ("batch", "time", "level", "lat", "lon")
    return part.transpose(*order, ..., missing_dims="ignore")


def _as_batch(
    part: xarray.Dataset, dates: np.ndarray, rows: np.ndarray
) -> xarray.Dataset:
    """Returns a batch of states.

    Args:
      part: Frames, each once.
      dates: Of each state, shape [batch, time].
      rows: Place of each of these frames in `part`, the same shape.
    """
    part = part.drop_vars(["time", "datetime"], errors="ignore")
    part = part.isel(batch=0, drop=True, missing_dims="ignore")
    if "time" not in part.dims:
        part = part.expand_dims("time")
    part = part.isel(time=xarray.Variable(("batch", "time"), rows))
    part = part.assign_coords(
        time=dates[0] - dates[0, 0], datetime=(("batch", "time"), dates)
    )
    order = ("batch", "time", "level", "lat", "lon")
    return part.transpose(*order, ..., missing_dims="ignore")


def _is_static(name: str) -> bool:
    known = variables.find(name)
    return known is not None and known.kind == "static"


def _same_grid(name: str, field: xarray.DataArray, other: xarray.Dataset) -> bool:
    """Returns whether a field has a value at each row and column of a dataset."""
    if not {"lat", "lon"} <= set(field.coords) & set(other.coords):
        return True  # `_on_grid` tells what is missing.
    try:
        _on_grid(name, field, other)
    except ValueError:
        return False
    return True


def _regridded(
    name: str, field: xarray.DataArray, other: xarray.Dataset
) -> tuple[xarray.DataArray, str]:
    """Returns a static field on the grid of a dataset, and what was done.

    Raises:
      ValueError: It does not cover that grid.
    """
    field = field.load()
    old, new = (abs(float(f["lat"].diff("lat").mean())) for f in (field, other))
    method = "linear" if old >= new else "conservative"
    lat, lon = other["lat"].values, other["lon"].values
    found = regrid.regrid(field.to_dataset(name=name), lat, lon, method)[name].load()
    if found.isnull().any():
        raise ValueError(
            f"{name}: the static file, lat {field['lat'].values.min():g} to "
            f"{field['lat'].values.max():g}, lon {field['lon'].values.min():g} to "
            f"{field['lon'].values.max():g}, does not cover the grid of the source "
            f"({lat.size}x{lon.size}); regrid the file, or give one that does"
        )
    found = found.transpose(*field.dims)
    kind = "between its points" if method == "linear" else "as means of its cells"
    return found, f"regridded {name} of the static file ({kind})"


def _on_grid(
    name: str, field: xarray.DataArray, other: xarray.Dataset
) -> xarray.DataArray:
    """Returns a field at the rows and columns of a dataset, in their order.

    Raises:
      ValueError: It is on another grid.
    """
    for axis in ("lat", "lon"):
        if axis not in field.coords or axis not in other.coords:
            raise ValueError(f"{name}: the static file has no {axis} coordinate")
        ours, theirs = field[axis].values, other[axis].values
        distance = np.abs(theirs[:, np.newaxis] - ours[np.newaxis])
        if axis == "lon":
            distance = np.abs((distance + 180) % 360 - 180)
        spacing = np.abs(np.diff(theirs)).min() if theirs.size > 1 else 1.0
        if (distance.min(axis=1) > _SAME_PLACE * spacing).any():
            raise ValueError(
                f"{name}: the static file has {axis} {ours[0]:g} to {ours[-1]:g} "
                f"({ours.size} values), the source {theirs[0]:g} to {theirs[-1]:g} "
                f"({theirs.size}); regrid the file to the grid of the source"
            )
        field = field.isel({axis: distance.argmin(axis=1)})
        field = field.assign_coords({axis: other[axis]})
    return field


def _stamp(time: object) -> str:
    return np.datetime_as_string(np.datetime64(time, "ns"), unit="m")  # type: ignore[call-overload]
