"""Values of forecasts and truth at given times, read when they are asked for."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import xarray

__all__ = ["ForecastReader", "Source", "TruthReader", "stored_starts"]


class Source(Protocol):
    """Where forecasts of one model or reference come from."""

    def read(
        self,
        variable: str,
        inits: np.ndarray,
        leads: np.ndarray,
        levels: np.ndarray | None,
    ) -> np.ndarray:
        """Returns values of shape [member, init, lead, level, row, column].

        Args:
          variable: Name.
          inits: Starts, datetime64[ns].
          leads: Lead times, timedelta64[ns].
          levels: Pressure levels in hPa, None for a variable without; the level axis
            then has length 1.
        """
        ...


@dataclasses.dataclass(frozen=True)
class TruthReader:
    """What happened.

    Attributes:
      dataset: In the form of `intake.as_truth`, on the common grid.
      name: For messages.
    """

    dataset: xarray.Dataset
    name: str = "the truth"

    @property
    def times(self) -> np.ndarray:
        """All times, ascending, datetime64[ns], shape [time]."""
        return self.dataset["time"].values

    def holds(self, moments: np.ndarray) -> np.ndarray:
        """Tells which of the moments are there, in their shape."""
        return np.isin(moments, self.times)

    def at(
        self, variable: str, moments: np.ndarray, levels: np.ndarray | None
    ) -> np.ndarray:
        """Returns float64 of shape [*moments.shape, level, row, column].

        Moments that are not there are NaN. Each frame is read once.
        """
        array = _on_levels(self.dataset[variable], levels)
        array = array.transpose("time", "level", "lat", "lon")
        wanted, inverse = np.unique(moments.ravel(), return_inverse=True)
        held = self.holds(wanted)
        found = np.full((len(wanted), *array.shape[1:]), np.nan)
        if held.any():
            places = np.searchsorted(self.times, wanted[held])
            found[held] = _values(array.isel(time=_as_slice(places)))
        return found[inverse.ravel()].reshape(*moments.shape, *array.shape[1:])


@dataclasses.dataclass(frozen=True)
class ForecastReader:
    """Forecasts of a file.

    Attributes:
      dataset: In the form of `intake.as_forecasts`, on the common grid.
    """

    dataset: xarray.Dataset

    @property
    def members(self) -> int:
        """How many members there are."""
        return self.dataset.sizes.get("number", 1)

    def read(
        self,
        variable: str,
        inits: np.ndarray,
        leads: np.ndarray,
        levels: np.ndarray | None,
    ) -> np.ndarray:
        """Returns values as `Source.read`; every start and lead must be there."""
        array = _on_levels(self.dataset[variable], levels)
        if "number" not in array.dims:
            array = array.expand_dims("number")
        order = ("number", "init_time", "lead_time", "level", "lat", "lon")
        array = array.transpose(*order)
        starts = np.searchsorted(self.dataset["init_time"].values, inits)
        steps = np.searchsorted(self.dataset["lead_time"].values, leads)
        return _values(
            array.isel(init_time=_as_slice(starts), lead_time=_as_slice(steps))
        )


def stored_starts(dataset: xarray.Dataset) -> int:
    """Returns how many starts one chunk of the stored forecasts holds."""
    found = [1]
    for array in dataset.data_vars.values():
        shape = array.encoding.get("chunks") or array.encoding.get("chunksizes")
        original = array.encoding.get("original_shape")
        if array.chunks is not None and "init_time" in array.dims:
            found.append(max(array.chunksizes["init_time"]))
        elif shape and (original is None or len(original) == len(shape)):
            places = dict(zip(array.dims, shape)) if len(shape) == array.ndim else {}
            found.append(int(places.get("init_time", 1)))
    return max(found)


def _on_levels(array: xarray.DataArray, levels: np.ndarray | None) -> xarray.DataArray:
    """Returns the array with an axis of levels, of the chosen ones where it has any."""
    if levels is None:
        return array.expand_dims("level")
    held = array["level"].values
    places = np.array([int(np.flatnonzero(held == level)[0]) for level in levels])
    return array.isel(level=_as_slice(places))


def _as_slice(places: np.ndarray) -> slice | np.ndarray:
    """Returns a slice where the places are evenly spaced: it reads faster."""
    if len(places) == 1:
        return slice(int(places[0]), int(places[0]) + 1)
    step = int(places[1] - places[0])
    if step > 0 and (np.diff(places) == step).all():
        return slice(int(places[0]), int(places[-1]) + 1, step)
    return places


def _values(array: xarray.DataArray) -> np.ndarray:
    """Returns the values in float64, computed here and not by another scheduler."""
    if array.chunks is not None:
        # Inside a worker of a cluster, a nested computation could wait for itself.
        array = array.compute(scheduler="synchronous")
    return np.asarray(array.values, np.float64)
