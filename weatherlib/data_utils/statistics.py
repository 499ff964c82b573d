"""Means and standard deviations of a dataset, in one pass over its frames."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import xarray

from weatherlib.data_utils import progress

__all__ = ["Statistics", "compute_statistics"]

_KINDS = ("mean", "stddev", "diffs_stddev")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What normalisation needs, each variable of shape [level] or [].

    Attributes:
      mean: Over time, batch and grid points.
      stddev: Likewise.
      diffs_stddev: Of the change from one frame to the next.
    """

    mean: xarray.Dataset
    stddev: xarray.Dataset
    diffs_stddev: xarray.Dataset

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes `{mean,stddev,diffs_stddev}_by_level.nc`, the published file names."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in _KINDS:
            path = folder / f"{kind}_by_level.nc"
            partial = path.with_name(path.name + ".partial")
            getattr(self, kind).to_netcdf(partial)
            partial.replace(path)


@dataclasses.dataclass
class _Moments:
    """Count, mean and sum of squared deviations, merged block by block.

    Source: Chan, Golub and LeVeque (1979), updating formulae.
    """

    count: int = 0
    mean: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0

    def add(self, values: np.ndarray, axes: tuple[int, ...]) -> None:
        """Adds a block; the axes are those that the statistics run over."""
        count = int(np.prod([values.shape[axis] for axis in axes]))
        mean = values.mean(axis=axes, keepdims=True)
        squares = ((values - mean) ** 2).sum(axis=axes)
        shift = mean.squeeze(axes) - self.mean
        total = self.count + count
        self.squares = self.squares + squares + shift**2 * self.count * count / total
        self.mean = self.mean + shift * count / total
        self.count = total

    @property
    def stddev(self) -> np.ndarray:
        """The standard deviation of all values added."""
        return np.sqrt(self.squares / self.count)


def compute_statistics(
    dataset: xarray.Dataset, *, frames_per_block: int = 128
) -> Statistics:
    """Returns the statistics of every variable, and of year and day progress.

    Grid points count equally, whatever area they stand for. Memory is that of one
    block of one variable.

    Args:
      dataset: Dimensions (batch, time, level, lat, lon) as far as each variable has
        them, frames in order and without gaps; `datetime` gives the progress.
      frames_per_block: Frames read at a time.

    Raises:
      ValueError: There are fewer than two frames, or a value is not finite.
    """
    if dataset.sizes.get("time", 0) < 2:
        raise ValueError(
            f"statistics of changes need 2 frames, found {dataset.sizes.get('time', 0)}"
        )
    dataset = _with_progress(dataset)
    found: dict[str, dict[str, xarray.Variable]] = {kind: {} for kind in _KINDS}
    for name, array in dataset.data_vars.items():
        values, changes = _moments(str(name), array.variable, frames_per_block)
        dims = tuple(str(dim) for dim in array.dims if dim == "level")
        found["mean"][str(name)] = _variable(dims, values.mean)
        found["stddev"][str(name)] = _variable(dims, values.stddev)
        if changes.count:
            found["diffs_stddev"][str(name)] = _variable(dims, changes.stddev)
    coords = {"level": dataset["level"].variable} if "level" in dataset.coords else {}
    kinds = {kind: xarray.Dataset(found[kind], coords=coords) for kind in _KINDS}
    return Statistics(**kinds)


def _variable(dims: tuple[str, ...], values: np.ndarray | float) -> xarray.Variable:
    return xarray.Variable(dims, np.asarray(values, np.float32))


def _with_progress(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the data with the progress of year and day where it is not there."""
    if "datetime" not in dataset.coords:
        return dataset
    dataset = dataset.copy()
    progress.add_derived_vars(dataset)
    return dataset


def _moments(
    name: str, variable: xarray.Variable, frames: int
) -> tuple[_Moments, _Moments]:
    """Returns the moments of a variable and of its changes along time."""
    values, changes = _Moments(), _Moments()
    if "time" not in variable.dims:
        variable = variable.set_dims(["time", *variable.dims])
    rest = tuple(dim for dim in variable.dims if dim not in ("time", "level"))
    order = ("time", *rest, *(dim for dim in variable.dims if dim == "level"))
    variable = variable.transpose(*order)
    axes = tuple(range(1 + len(rest)))
    last: np.ndarray | None = None
    for first in range(0, variable.sizes["time"], frames):
        part = variable.isel(time=slice(first, first + frames))
        block = np.asarray(part.values, np.float64)
        if not np.isfinite(block).all():
            raise ValueError(
                f"{name}: missing or infinite values in frames {first} to "
                f"{first + len(block) - 1}; fill or leave out the variable"
            )
        values.add(block, axes)
        joined = block if last is None else np.concatenate([last, block])
        if len(joined) > 1:
            changes.add(np.diff(joined, axis=0), axes)
        last = block[-1:]
    return values, changes
