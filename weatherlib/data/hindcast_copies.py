"""A complete set of forecasts as a file of its own, where it cannot just be renamed."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from weatherlib.data import hindcast_layout, output_files

__all__ = ["to_netcdf", "to_zarr"]

# Names the starts that a set does not have.
_LEFT_OUT = "starts_left_out"


def to_netcdf(partial: pathlib.Path, path: pathlib.Path, left_out: np.ndarray) -> None:
    """Writes a complete set as one NetCDF file, start by start.

    Args:
      partial: The Zarr store, which is removed.
      path: The file.
      left_out: Which starts the file does not have, bool, shape [start].
    """
    writing = path.with_name(path.name + ".writing")
    with _opened(partial, left_out) as found:
        for variable in found.variables.values():
            variable.encoding = {}
        encoding: dict[Any, Any] = {
            name: {"_FillValue": np.float32(np.nan)} for name in found.data_vars
        }
        found.to_netcdf(writing, engine="netcdf4", encoding=encoding)
    writing.replace(path)
    shutil.rmtree(partial)


def to_zarr(
    partial: pathlib.Path, path: pathlib.Path, left_out: np.ndarray, zarr_format: int
) -> None:
    """Writes the starts of a set that are there as another store, start by start.

    Args:
      partial: The Zarr store, which is removed.
      path: The other one.
      left_out: Which starts that does not have, bool, shape [start].
      zarr_format: 2 or 3.
    """
    from weatherlib.data import zarr_groups

    writing = path.with_name(path.name + ".writing")
    version: dict[str, Any] = {}
    if zarr_groups.has_version_3():
        version["zarr_format"] = zarr_format
    with _opened(partial, left_out) as found:
        found.to_zarr(writing, mode="w", consolidated=zarr_format == 2, **version)
    output_files.replace(writing, path, shutil.rmtree)
    shutil.rmtree(partial)


@contextlib.contextmanager
def _opened(partial: pathlib.Path, left_out: np.ndarray) -> Iterator[xarray.Dataset]:
    """Yields the starts of an unfinished set that are there, and names the others."""
    with xarray.open_dataset(
        partial, engine="zarr", chunks={}, consolidated=False, decode_times=False
    ) as dataset:
        found = dataset.drop_vars(hindcast_layout.COMPLETE)
        if left_out.any():
            starts = xarray.decode_cf(dataset[["time"]])["time"].values[left_out]
            found = found.isel(time=np.flatnonzero(~left_out))
            stamps = np.datetime_as_string(starts, unit="m")
            found.attrs[_LEFT_OUT] = ", ".join(stamps)
        yield found
