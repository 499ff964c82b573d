"""Samples cut out of a long series: frames in memory, or read when they are used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray

from weatherlib import task as tasks
from weatherlib.data_utils import progress, times
from weatherlib.training import frame_axis
from weatherlib.training.config import Period

__all__ = ["LEAD_TIME", "CorruptSampleError", "Frames", "Loader", "Sample"]

_logger = logging.getLogger(__name__)

Sample = tuple[xarray.Dataset, xarray.Dataset, xarray.Dataset]
"""Inputs, targets and forcings."""

Loader = Callable[[np.ndarray], Any]
"""Returns the batch of the samples that begin at the given frames."""

LEAD_TIME = "lead_time"
"""The forcing that holds how far ahead a sample reaches, hours."""

_IN_MEMORY_BYTES = 2**31
_COORDINATES = ("lat", "lon", "level")


class CorruptSampleError(OSError):
    """A sample that cannot be read or holds missing values."""


class Frames:
    """A series of frames from which batches of samples are cut.

    Forcings that follow from time and place are computed where the data lack them.

    Attributes:
      dataset: The variables of the task without the batch, values perhaps not read.
      task: What is read and predicted.
      datetimes: Valid time of each frame, shape [time].
      step: From one frame of a sample to the next.
      inputs: Frames that a sample begins with.
      in_memory: Whether all values are in memory.
      skipped: First valid time of each sample that was replaced, and why.
    """

    def __init__(
        self,
        dataset: xarray.Dataset,
        task: tasks.TaskConfig,
        *,
        time_step: str | None = None,
        in_memory: bool | None = None,
        nan_allowed: Sequence[str] = (),
        skip_corrupt: bool = False,
        source: str = "the data",
    ) -> None:
        """Takes a series; values are read now only where they stay in memory.

        Args:
          dataset: Dimensions (batch, time, level, lat, lon) with one batch member and
            `datetime`, as `data.conform` returns it.
          task: What is read and predicted.
          time_step: Length of a step; None takes that of the data.
          in_memory: Whether to read everything now; None does so up to 2 GiB.
          nan_allowed: Variables that may have missing values.
          skip_corrupt: Whether a sample that cannot be read is replaced by the next.
          source: Where the data come from, for messages.

        Raises:
          ValueError: A variable is missing, there are several batch members, or the
            steps do not fit.
          CorruptSampleError: Values cannot be read into memory.
        """
        if dataset.sizes.get("batch", 1) != 1:
            raise ValueError(
                f"batch: training cuts samples from one series, found "
                f"{dataset.sizes['batch']} members; select one with isel(batch=[0])"
            )
        self.task, self._source = task, source
        self._nan_allowed, self._skip = frozenset(nan_allowed), skip_corrupt
        datetimes = times.valid_times(dataset)
        if "batch" in datetimes.dims:
            datetimes = datetimes.isel(batch=0, drop=True)
        self.datetimes = datetimes.values.astype("datetime64[ns]")
        self.step, self._stride, gaps = frame_axis.spacing(self.datetimes, time_step)
        self._gaps = np.concatenate([[0], np.cumsum(gaps)])
        self.inputs = frame_axis.input_frames(task, self.step)
        self.dataset = self._select(dataset)
        self.skipped: dict[str, str] = {}
        self._arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        small = self.dataset.nbytes <= _IN_MEMORY_BYTES
        self.in_memory = small if in_memory is None else in_memory
        if self.in_memory:
            self._load()

    @property
    def description(self) -> str:
        """How much there is, for people."""
        memory = "in memory" if self.in_memory else "read as needed"
        return f"{len(self.datetimes)} frames, {memory}"

    def starts(self, period: Period | None = None, *, targets: int = 1) -> np.ndarray:
        """Returns the first frames of all samples that lie in a period.

        Args:
          period: Holds inputs and targets; None is the whole series.
          targets: Frames after the inputs.

        Returns:
          Places in the series, ascending, int64 of shape [sample].

        Raises:
          ValueError: There is none.
        """
        period = period or Period()
        reach = (self.inputs + targets - 1) * self._stride
        first = np.arange(max(len(self.datetimes) - reach, 0))
        inside = frame_axis.inside(self.datetimes, period)
        whole = self._gaps[first] == self._gaps[first + reach]
        found = first[inside[first] & inside[first + reach] & whole]
        if not len(found):
            raise ValueError(
                f"the period from {period} has {int(inside.sum())} frames in "
                f"{self._source} ({frame_axis.span(self.datetimes)}), and no "
                f"{self.inputs + targets} of them "
                f"{self.step / np.timedelta64(1, 'h'):g} h apart, as a sample needs"
            )
        return found

    def period(self, period: Period) -> xarray.Dataset:
        """Returns the frames of a period, at the step of samples, with forcings.

        Raises:
          ValueError: It has fewer than two.
        """
        inside = np.flatnonzero(frame_axis.inside(self.datetimes, period))[
            :: self._stride
        ]
        if len(inside) < 2:
            raise ValueError(
                f"the period from {period} has {len(inside)} frames in {self._source} "
                f"({frame_axis.span(self.datetimes)}), at least 2 are needed"
            )
        part = self.dataset.isel(time=inside)
        missing = [n for n in self._names() if n not in part.data_vars]
        datetimes = xarray.DataArray(self.datetimes[inside], dims="time")
        computed = progress.compute_forcings(
            missing, datetimes, part["lat"], part["lon"], lazy=True
        )
        return part.assign(computed).assign_coords(datetime=datetimes)

    def extent(self, period: Period) -> dict[str, Any]:
        """Returns first and last time of a period and how many frames it has."""
        return frame_axis.extent(self.datetimes, period)

    def loader(self, targets: int = 1, period: Period | None = None) -> Loader:
        """Returns the function that reads batches with so many target frames.

        Args:
          targets: Frames after the inputs.
          period: Where samples that replace corrupt ones come from, as for `starts`.
        """
        return lambda starts: self.batch(starts, targets, period)

    def batch(
        self, starts: np.ndarray, targets: int = 1, period: Period | None = None
    ) -> Sample:
        """Returns inputs, targets and forcings of samples that begin at `starts`.

        Times are lead times, counted from the last input frame.

        Args:
          starts: First frames of the samples, shape [batch].
          targets: Frames after the inputs.
          period: Where samples that replace corrupt ones come from; None is the whole
            series.

        Raises:
          CorruptSampleError: A sample cannot be read or has missing values; the
            message names file, variable and time.
        """
        places = np.arange(self.inputs + targets)
        samples = [(int(start), places) for start in starts]
        return self._cut(samples, targets, period)

    def batch_at(
        self, starts: np.ndarray, leads: np.ndarray, period: Period | None = None
    ) -> Sample:
        """Returns samples whose one target lies some steps after the inputs.

        The forcings hold `lead_time`, hours of shape [batch, time]. Targets and
        forcings have no coordinate `time`, for it differs from sample to sample, and
        so batches of any lead times have one form.

        Args:
          starts: First frames of the samples, shape [batch].
          leads: Steps from the last input to the target of each, shape [batch].
          period: As for `batch`.

        Raises:
          CorruptSampleError: As for `batch`.
        """
        past = np.arange(self.inputs)
        samples = [
            (int(start), np.append(past, self.inputs - 1 + int(lead)))
            for start, lead in zip(starts, leads, strict=True)
        ]
        inputs, targets, forcings = self._cut(samples, 1, period)
        hours = np.asarray(leads) * (self.step / np.timedelta64(1, "h"))
        lead_time = (("batch", "time"), hours.astype(np.float32)[:, np.newaxis])
        return (
            inputs,
            targets.drop_vars("time"),
            forcings.drop_vars("time").assign({LEAD_TIME: lead_time}),
        )

    def _cut(
        self,
        samples: Sequence[tuple[int, np.ndarray]],
        targets: int,
        period: Period | None,
    ) -> Sample:
        """Returns the batch of samples, each a first frame and steps from there."""
        read = [self._sample(start, places, period) for start, places in samples]
        past = slice(0, self.inputs)
        future = slice(self.inputs, self.inputs + targets)
        lead = (np.arange(self.inputs + targets) - self.inputs + 1) * self.step
        task = self.task
        return (
            self._joined(read, task.input_variables, past, lead),
            self._joined(read, task.target_variables, future, lead),
            self._joined(read, task.forcing_variables, future, lead),
        )

    def _select(self, dataset: xarray.Dataset) -> xarray.Dataset:
        wanted = self._names()
        missing = [
            name
            for name in wanted
            if name not in dataset.data_vars and name not in progress.COMPUTABLE
        ]
        if missing:
            raise ValueError(
                f"{', '.join(missing)}: not in {self._source}, which has "
                f"{', '.join(map(str, dataset.data_vars))}"
            )
        held = [name for name in wanted if name in dataset.data_vars]
        dataset = dataset[held]
        levels = dataset["level"].values if "level" in dataset.coords else ()
        absent = [level for level in self.task.pressure_levels if level not in levels]
        if len(levels) and absent:
            raise ValueError(
                f"levels {', '.join(map(str, absent))} hPa: not in {self._source}, "
                f"which has {', '.join(f'{level:g}' for level in levels)}; the task "
                "names them in pressure_levels"
            )
        if "batch" in dataset.dims:
            dataset = dataset.isel(batch=0, drop=True)
        return dataset.drop_vars("datetime", errors="ignore")

    def _names(self) -> list[str]:
        task = self.task
        return list(
            dict.fromkeys(
                (*task.input_variables, *task.target_variables, *task.forcing_variables)
            )
        )

    def _load(self) -> None:
        try:
            self.dataset = self.dataset.load()
        except _READ_ERRORS as error:
            if not self._skip:
                raise CorruptSampleError(
                    f"{self._source}: damaged or cut short ({error}); fetch it again, "
                    "or set data.skip_corrupt to go without what cannot be read"
                ) from error
            self.in_memory = False
            return
        self._arrays = {
            str(name): (
                tuple(map(str, array.dims)),
                np.ascontiguousarray(array.values, np.float32),
            )
            for name, array in self.dataset.data_vars.items()
        }
        computed = self._compute(slice(None))
        self._arrays |= {
            name: (tuple(map(str, v.dims)), np.asarray(v.values, np.float32))
            for name, v in computed.items()
        }

    def _compute(self, frames: Any) -> dict[str, xarray.Variable]:
        """Returns the forcings that the data lack."""
        missing = [n for n in self._names() if n not in self.dataset.data_vars]
        if not missing:
            return {}
        return progress.compute_forcings(
            missing,
            xarray.DataArray(self.datetimes[frames], dims="time"),
            self.dataset["lat"],
            self.dataset["lon"],
        )

    def _sample(
        self, start: int, places: np.ndarray, period: Period | None
    ) -> dict[str, Any]:
        """Returns the arrays of one sample, or of the next one that can be read."""
        offsets = places * self._stride
        for first in self._order(start, int(places[-1]), period):
            try:
                return self._read(frame_axis.frames_at(first + offsets))
            except CorruptSampleError as error:
                if not self._skip:
                    raise
                when = str(self.datetimes[first])[:16]
                if when not in self.skipped:
                    self.skipped[when] = str(error)
                    _logger.warning("sample skipped (%s)", error)
        raise CorruptSampleError(f"{self._source}: no sample can be read")

    def _order(self, start: int, last: int, period: Period | None) -> Iterator[int]:
        """Yields a first frame, and then those of the samples that may replace it.

        They are of the same period, and like it do not reach over a gap.
        """
        yield start
        others = self.starts(period, targets=last + 1 - self.inputs)
        others = np.roll(others, -int(np.searchsorted(others, start, side="right")))
        yield from (int(first) for first in others if first != start)

    def _read(self, frames: Any) -> dict[str, Any]:
        """Returns the arrays of some frames, a slice or an array of places."""
        if self._arrays:
            found = {
                name: (dims, _at(dims, values, frames))
                for name, (dims, values) in self._arrays.items()
            }
        else:
            found = {
                str(name): (array.dims, self._values(str(name), array, frames))
                for name, array in self.dataset.data_vars.items()
            }
            found |= {
                name: (v.dims, np.asarray(v.values, np.float32))
                for name, v in self._compute(frames).items()
            }
        for name, (dims, values) in found.items():
            if name not in self._nan_allowed and not np.isfinite(values).all():
                raise CorruptSampleError(
                    f"{self._source}: {name} has missing or infinite values at "
                    f"{self._first_bad(dims, values, frames)}"
                )
        return found

    def _values(self, name: str, array: xarray.DataArray, frames: Any) -> np.ndarray:
        try:
            part = array.isel(time=frames) if "time" in array.dims else array
            return np.asarray(part.values, np.float32)
        except _READ_ERRORS as error:
            raise CorruptSampleError(
                f"{self._source}: {name} cannot be read at "
                f"{str(self.datetimes[frames][0])[:16]} ({error})"
            ) from error

    def _first_bad(self, dims: Any, values: np.ndarray, frames: Any) -> str:
        if "time" not in dims:
            return "all times"
        others = tuple(i for i, dim in enumerate(dims) if dim != "time")
        bad = np.flatnonzero(~np.isfinite(values).all(axis=others))
        return str(self.datetimes[frames][bad[0]])[:16]

    def _joined(
        self,
        samples: list[dict[str, Any]],
        names: Sequence[str],
        frames: slice,
        lead: np.ndarray,
    ) -> xarray.Dataset:
        found = {}
        for name in names:
            dims, values = samples[0][name]
            if "time" in dims:
                parts = [_at(dims, sample[name][1], frames) for sample in samples]
                found[name] = (("batch", *dims), np.stack(parts))
            else:
                found[name] = (dims, values)
        coords = {
            key: self.dataset.coords[key].variable
            for key in _COORDINATES
            if key in self.dataset.coords
        }
        return xarray.Dataset(found, coords={**coords, "time": lead[frames]})


# What damage raises depends on the library and on where it is met.
_READ_ERRORS = (EOFError, KeyError, OSError, RuntimeError, ValueError)


def _at(dims: Sequence[Any], values: np.ndarray, frames: Any) -> np.ndarray:
    if "time" not in dims:
        return values
    return values[(slice(None),) * list(dims).index("time") + (frames,)]
