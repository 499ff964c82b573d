"""Where a climatology is written: whole or not at all."""

from __future__ import annotations

import pathlib
import shutil

import xarray

from weatherlib.data import output_files

__all__ = ["target", "write"]

_SUFFIXES = (".nc", ".zarr")


def target(path: str) -> pathlib.Path:
    """Returns the path.

    Raises:
      ValueError: Its suffix is no known format.
      FileNotFoundError: Its folder does not exist.
    """
    found = pathlib.Path(path)
    if found.suffix not in _SUFFIXES:
        raise ValueError(f"{path}: a climatology is written as .nc or .zarr")
    if not found.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {found.parent} does not exist")
    return found


def write(dataset: xarray.Dataset, path: pathlib.Path) -> None:
    """Writes the dataset in place of an older one.

    Raises:
      OSError: It cannot be written; an older file stays as it is.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        _remove(partial)
        if path.suffix == ".zarr":
            dataset.to_zarr(partial, consolidated=False)
        else:
            compression = {"zlib": True, "complevel": 1, "shuffle": True}
            encoding = dict.fromkeys(dataset.data_vars, compression)
            dataset.to_netcdf(partial, encoding=encoding)
        output_files.replace(partial, path, _remove)
    finally:
        _remove(partial)


def _remove(path: pathlib.Path) -> None:
    """Deletes a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
