"""Initial states cut out of a source by date, with static fields from where they are.

A source may be an archive of decades: only the frames that a forecast starts from are
read.
"""

from __future__ import annotations

from typing import final

import numpy as np
import pandas as pd
import xarray

from weatherlib.data import fields, rain_sums, static_fields
from weatherlib.data import starts as start_rules

# The package has a function of the module's name.
from weatherlib.data.conform import conform as conform_to
from weatherlib.data_utils import date_forms, lexicon, progress, times
from weatherlib.task import TaskConfig

__all__ = ["InitialStates"]


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
      changes: Which units were converted, which precipitation is summed, and what
        `conform` and a static file did, one line each; the latter two filled when a
        state is made.
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
          source: From `data.open_dataset`. Has dates, in `datetime` or as `time`. What
            states another unit than ours, such as an orography in m, is converted, and
            precipitation over a shorter period than that of the task is summed where
            the frames for it are there.
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
        source, renamed = lexicon.rename(source, names)
        source, self.changes = date_forms.read_dates(source)
        held = [name for name in names if name in source]
        converted, changes = fields.convert(source[held], guess=False)
        self.changes += changes
        self._source = source.assign(converted.data_vars)
        self._renamed = {new: old for new, old in renamed.items() if new in names}
        self._static = static
        self._conform = conform
        dates = _dates(self._source)
        order = np.argsort(dates.values, kind="stable")
        self.times = dates[order]
        self._places = order
        self._sums, self._unsummed = rain_sums.find_sums(self._source, dates, task)
        self.changes += [
            f"summed {rain.source} over {rain.hours} h to {rain.name}"
            for rain in self._sums
        ]
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
        whole = self._are_whole()
        possible = whole
        for back in range(1, self._frames):
            places = self.times.get_indexer(self.times - back * self.time_step)
            possible = possible & (places >= 0) & whole[places]
        return self.times[possible]

    @property
    def why_no_start(self) -> str:
        """Why there is no start, as half a line; nothing where there is one."""
        if len(self.starts):
            return ""
        held = self.times
        if len(held) == 1:
            has = f"one frame, at {_stamp(held[0])}"
        else:
            steps = np.unique(np.diff(held.values))
            even = _hours(steps[0])
            every = even if steps.size == 1 else f"{even} to {_hours(steps[-1])}"
            has = (
                f"{len(held)} frames {every} apart, from {_stamp(held[0])} to "
                f"{_stamp(held[-1])}"
            )
        many = "1 frame" if self._frames == 1 else f"{self._frames} frames"
        apart = f" {_hours(self.time_step)} apart" if self._frames > 1 else ""
        sums = "".join(
            f", each with {rain.source} of all {rain.hours} h before it"
            for rain in self._sums
            if rain.name in self.task.input_variables
        )
        return f"the model reads {many}{apart}{sums}, and the source has {has}"

    def _are_whole(self) -> np.ndarray:
        """Returns whether each of the times has all that is summed for the model."""
        whole = np.ones(len(self.times), bool)
        for rain in self._sums:
            if rain.name in self.task.input_variables:
                whole &= rain.is_whole[self._places]
        return whole

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
          Variables of the task as the source has them, but in our units, dimensions
          (batch, time, level, lat, lon), `time` from zero on and `datetime`. Values are
          in memory.

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
        # Truth may lack it where hours are missing.
        sums = [rain for rain in self._sums if rain.is_whole[places].all()]
        added = {rain.name: rain.at(self._source, places) for rain in sums}
        # A slice reads a file in one go where a list of places would not.
        if len(places) > 1 and (np.diff(places) == 1).all():
            part = part.isel(time=slice(int(places[0]), int(places[-1]) + 1))
        else:
            part = part.isel(time=places)
        part = part.assign(added)
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
        if self._unsummed:
            raise ValueError("\n".join(self._unsummed.values()))
        missing = [
            name
            for name in self.task.input_variables
            if name not in part and name not in progress.COMPUTABLE
        ]
        fixed = [name for name in missing if static_fields.is_static(name)]
        if self._static is None:
            if fixed:
                raise ValueError(
                    f"{', '.join(fixed)}: the model reads this, and the source lacks "
                    f"it; name a file that has it with --static"
                )
            return part
        if not missing:
            return part
        held, changes = conform_to(self._static, self.task)
        lost = [name for name in fixed if name not in held]
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
            placed[name], how = static_fields.place(name, field, part)
            notes += how
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
        starts = self.starts
        if not len(starts):
            return f"{head}; {self.why_no_start}"
        held = self.times
        message = (
            f"{head}; the source holds {len(held)} times from {_stamp(held[0])} to "
            f"{_stamp(held[-1])}"
        )
        if start in held:
            message += self._lacking(start)
        near = start_rules.nearest(starts, start)
        return f"{message}; nearest starts: {', '.join(near)}"

    def _lacking(self, start: pd.Timestamp) -> str:
        """Returns what a forecast from a time of the source lacks, as half a line."""
        needed = self._from(start.to_numpy(), range(1 - self._frames, 1))
        places = self.times.get_indexer(needed)
        if (places < 0).any():
            return (
                f", but the model reads {self._frames} frames, the first of them at "
                f"{_stamp(needed[0])}"
            )
        for rain in self._sums:
            lost = np.flatnonzero(~rain.is_whole[self._places[places]])
            if rain.name in self.task.input_variables and lost.size:
                return (
                    f", but not all frames of {rain.source} in the {rain.hours} h up "
                    f"to {_stamp(needed[lost[0]])}, of which {rain.name} is the sum"
                )
        return ""


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
            f"time: the source has no dates{_instead(source)}, so a forecast cannot "
            "start at one; leave --init out to start at the end of the data"
        )
    index = pd.DatetimeIndex(values.astype("datetime64[ns]"))
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise ValueError(f"time: the source holds {_stamp(twice)} more than once")
    return index


def _instead(source: xarray.Dataset) -> str:
    """Returns what a source has in place of dates, as a part of a line."""
    if "time" not in source.coords or not source["time"].size:
        return ""
    first = source["time"].values.ravel()[0]
    if source["time"].dtype.kind == "m":
        return " but lead times"
    return f" but {source['time'].dtype} such as {first!s}"


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


def _hours(step: object) -> str:
    return f"{times.as_timedelta(step).total_seconds() / 3600:g} h"


def _stamp(time: object) -> str:
    return np.datetime_as_string(np.datetime64(time, "ns"), unit="m")  # type: ignore[call-overload]
