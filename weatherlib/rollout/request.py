"""One forecast to be made: checked inputs, forcings on demand, names for results."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import xarray

from weatherlib.rollout.layout import Field, Layout

__all__ = ["Forcings", "Request", "forcing_frames"]

Forcings: TypeAlias = xarray.Dataset | Callable[[int, int], xarray.Dataset]
"""Forcings of all frames, or a function that returns those of frames [start, stop)."""

_ADVICE = "delete it, or write under another name, to start anew"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What one forecast starts from and how its results are labelled.

    Attributes:
      layout: The static side of one step.
      steps: Steps in all.
      members: Ensemble members; None without a `sample` dimension.
      first_member: Number of the first of them.
      window: Initial frames by name, led by a member axis where there are members.
      static: Other inputs by name, led by one where `sampled`.
      sampled: Static inputs and forcings that differ between members.
      forcings: Where forcings come from.
      origin: UTC time of the last input frame, with or without a batch, or None.
      attrs: Attributes of each target.
    """

    layout: Layout
    steps: int
    members: int | None
    first_member: int
    window: Mapping[str, np.ndarray]
    static: Mapping[str, np.ndarray]
    sampled: frozenset[str]
    forcings: Forcings
    origin: xarray.Variable | None
    attrs: Mapping[str, Mapping[Any, Any]]

    @property
    def frames(self) -> int:
        """Frames in all."""
        return self.steps * self.layout.frames_per_step

    def lead_times(self, start: int, stop: int) -> np.ndarray:
        """Returns the lead times of frames [start, stop)."""
        return self.layout.time_step * np.arange(start + 1, stop + 1)

    def read_forcings(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Returns the forcings of frames [start, stop) as arrays of the layout.

        Raises:
          ValueError: A variable is missing, has other dimensions or too few times.
        """
        if not self.layout.forcings:
            return {}
        part = forcing_frames(self.forcings, start, stop)
        return {
            name: _forcing_array(
                name, field.with_frames(stop - start), part, name in self.sampled
            )
            for name, field in self.layout.forcings
        }

    def label(self, arrays: Mapping[str, np.ndarray], start: int) -> xarray.Dataset:
        """Returns predicted arrays as a dataset with times, dates and attributes.

        Args:
          arrays: Predictions by name from frame `start` on, led by a member axis where
            there are members.
          start: Number of the first frame.
        """
        leading = () if self.members is None else ("sample",)
        variables = {
            name: ((*leading, *field.dims), arrays[name], self.attrs.get(name, {}))
            for name, field in self.layout.targets
        }
        dataset = xarray.Dataset(variables)
        lead_times = self.lead_times(start, start + dataset.sizes["time"])
        coords: dict[Any, Any] = {
            name: value
            for name, value in self.layout.coord_values().items()
            if set(value[0]) <= set(dataset.dims)
        }
        coords["time"] = lead_times
        if self.origin is not None:
            coords["datetime"] = ((*self.origin.dims, "time"), self._dates(lead_times))
        if self.members is not None:
            coords["sample"] = self._numbers()
        return dataset.assign_coords(coords)

    def window_after(
        self, frames: xarray.Dataset, written: int
    ) -> dict[str, np.ndarray]:
        """Returns the input frames that follow an interrupted forecast.

        Args:
          frames: Its last frames, as many as the inputs have or all there are.
          written: Number of its frames in all.

        Raises:
          ValueError: The frames belong to another forecast.
        """
        count = frames.sizes.get("time", 0)
        self._check_same(frames, self.lead_times(written - count, written))
        forced = self.read_forcings(written - count, written)
        leading = () if self.members is None else ("sample",)
        result = {}
        for name, field in self.layout.window.items():
            if name in forced:
                new = forced[name]
                if leading and name not in self.sampled:
                    new = np.broadcast_to(new, (self.members or 0, *new.shape))
            elif name in frames:
                dims = (*leading, *field.dims)
                new = frames[name].transpose(*dims).values.astype(field.dtype)
            else:
                raise ValueError(
                    f"the forecast to continue lacks {name}, which the next step "
                    f"reads: {_ADVICE}"
                )
            axis = len(leading) + field.dims.index("time")
            joined = np.concatenate([self.window[name], new], axis)
            length = joined.shape[axis]
            kept = np.arange(length - len(self.layout.input_times), length)
            result[name] = np.take(joined, kept, axis)
        return result

    def _numbers(self) -> np.ndarray:
        return self.first_member + np.arange(self.members or 0)

    def _dates(self, lead_times: np.ndarray) -> np.ndarray:
        assert self.origin is not None
        return self.origin.values[..., np.newaxis] + lead_times

    def _check_same(self, frames: xarray.Dataset, lead_times: np.ndarray) -> None:
        found = frames.coords["time"].values
        if not np.array_equal(found, lead_times):
            raise ValueError(
                f"the forecast to continue has the lead times {found}, expected "
                f"{lead_times}: {_ADVICE}"
            )
        if self.origin is not None and "datetime" in frames.coords:
            expected, found = self._dates(lead_times), frames["datetime"].values
            if expected.size != found.size or (expected.ravel() != found.ravel()).any():
                raise ValueError(
                    f"the forecast to continue is valid at {found.ravel()}, expected "
                    f"{expected.ravel()}, so it began at another date: {_ADVICE}"
                )
        coords = dict(self.layout.coord_values())
        if self.members is not None:
            coords["sample"] = (("sample",), self._numbers())
        for name, (_, values) in coords.items():
            if name in frames.coords and not np.array_equal(
                frames[name].values, values
            ):
                raise ValueError(
                    f"the forecast to continue has other values of {name}: {_ADVICE}"
                )


def forcing_frames(forcings: Forcings, start: int, stop: int) -> xarray.Dataset:
    """Returns the forcings of frames [start, stop), read or computed now.

    Raises:
      ValueError: There are fewer frames.
    """
    if isinstance(forcings, xarray.Dataset):
        part = forcings.isel(time=slice(start, stop), missing_dims="ignore")
    else:
        part = forcings(start, stop)
    found = part.sizes.get("time")
    if found is not None and found != stop - start:
        raise ValueError(
            f"the forcings end too early: frames {start} to {stop - 1} are needed, "
            f"but only {found} of them are there"
        )
    return part.compute()


def _forcing_array(
    name: str, field: Field, part: xarray.Dataset, sampled: bool
) -> np.ndarray:
    if name not in part:
        raise ValueError(
            f"the forcings lack {name} at some times; they have "
            f"{', '.join(map(str, part)) or 'no variables'}"
        )
    variable = part[name].variable
    dims = (*(("sample",) if sampled else ()), *field.dims)
    sizes = dict(zip(field.dims, field.shape))
    if set(variable.dims) | {"time"} != set(dims):
        raise ValueError(
            f"the forcing {name} has the dimensions {variable.dims}, expected {dims}"
        )
    if sampled:
        sizes["sample"] = variable.sizes["sample"]
    spread = variable.set_dims({dim: sizes[dim] for dim in dims})
    return np.asarray(spread.values, np.dtype(field.dtype))
