"""Opening weather data from one file or store."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any, BinaryIO

import scipy.io
import xarray

from weatherlib.data import grib, sniff
from weatherlib.data_utils import times

__all__ = ["open_dataset"]

# Lead times under the names of different archives. Other variables in hours or
# seconds, such as wave periods, are quantities and stay numbers.
_LEAD_TIMES = ("time", "step", "prediction_timedelta", "lead_time")


def open_dataset(
    path: str | os.PathLike[str] | BinaryIO, *, chunks: Any = None
) -> xarray.Dataset:
    """Returns the data of one NetCDF, HDF5 or GRIB file, or of one Zarr store.

    Values are read when they are used. Lead times stored as numbers become timedelta64.

    Args:
      path: File or folder, or a NetCDF file opened for reading in binary.
      chunks: As for `xarray.open_dataset`: {} makes dask arrays.

    Raises:
      FileNotFoundError: There is no such file; the message names similar ones.
      ValueError: It is no weather data; the message says what it looks like.
      OSError: The file is damaged, cut short or not readable.
      ImportError: It is GRIB, and the packages for that are not installed.
    """
    if not isinstance(path, str | os.PathLike):
        return _open_file_object(path, chunks)
    path = pathlib.Path(path)
    sniff.require_exists(path)
    kind = sniff.kind_of(path)
    if kind == "other":
        raise ValueError(
            f"{path}: not NetCDF, Zarr or GRIB; it is {sniff.describe(path)}"
        )
    if kind == "grib":
        return grib.open_grib(path)
    return _decoded(_open_with_xarray(path, kind, chunks), str(path))


def _open_with_xarray(path: pathlib.Path, kind: str, chunks: Any) -> xarray.Dataset:
    """Returns the dataset with its lead times as they are stored."""
    settings: dict[str, Any] = {"chunks": chunks, "decode_timedelta": False}
    try:
        if kind == "zarr":
            return xarray.open_dataset(
                path, engine="zarr", consolidated=_is_consolidated(path), **settings
            )
        if kind == "netcdf3":
            _require_complete(path)
        return xarray.open_dataset(path, engine="netcdf4", **settings)
    except (OSError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        if isinstance(error, PermissionError):
            raise
        reason = _why_unreadable(path, kind) or str(error)
        raise OSError(f"{path}: damaged or cut short ({reason})") from error
    except ValueError as error:
        raise ValueError(f"{path}: cannot be decoded ({error})") from error


def _open_file_object(file: BinaryIO, chunks: Any) -> xarray.Dataset:
    """Returns the dataset of an open file."""
    name = str(getattr(file, "name", "the open file"))
    settings: dict[str, Any] = {"chunks": chunks, "decode_timedelta": False}
    try:
        dataset = xarray.open_dataset(file, engine="h5netcdf", **settings)
    except (OSError, ValueError) as error:
        raise OSError(
            f"{name}: cannot be read as NetCDF-4 ({error}); give its path for others"
        ) from error
    return _decoded(dataset, name)


def _decoded(dataset: xarray.Dataset, name: str) -> xarray.Dataset:
    """Returns the dataset with its lead times decoded where their units are known."""
    known = [
        lead_time
        for lead_time in _LEAD_TIMES
        if lead_time in dataset.coords and dataset[lead_time].attrs.get("units")
    ]
    try:
        return times.decode_time(dataset, known)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _is_consolidated(path: pathlib.Path) -> bool:
    """Tells whether a Zarr store has consolidated metadata."""
    return (path / ".zmetadata").exists()


def _require_complete(path: pathlib.Path) -> None:
    """Checks that a classic file is as long as its header says.

    The NetCDF library reads what was cut off as zeros.

    Raises:
      OSError: It is shorter.
    """
    with path.open("rb") as file:
        if file.read(4)[3] == 5:
            return  # SciPy does not know the 64-bit data format.
    try:
        # Only the header is read: values are mapped.
        whole = scipy.io.netcdf_file(path, mmap=True)
    except (IndexError, TypeError, ValueError) as error:
        raise OSError(f"shorter than its header says: {error}") from error
    # Closing complains while a variable still holds on to the file.
    whole.variables.clear()
    whole.close()


def _why_unreadable(path: pathlib.Path, kind: str) -> str | None:
    """Returns what HDF5 says about a file that the NetCDF library rejects."""
    if kind != "hdf5":
        return None
    import h5py

    try:
        with h5py.File(path, "r"):
            return None
    except OSError as error:
        return str(error)
