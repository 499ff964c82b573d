"""Opening weather data from a file, a store, many files or a service."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import scipy.io
import xarray

from weatherlib.data import (
    archive,
    axes,
    canonical_form,
    grib,
    lazy,
    open_data,
    remote,
    shards,
    sniff,
)
from weatherlib.data_utils import date_forms, lexicon, recognise, times

__all__ = ["open_dataset"]

# Lead times under the names of different archives. Other variables in hours or
# seconds, such as wave periods, are quantities and stay numbers.
_SUFFIXES = (
    ".nc",
    ".nc4",
    ".netcdf",
    ".h5",
    ".hdf5",
    ".grib",
    ".grib2",
    ".grb",
    ".grb2",
)
# Files beside data that hold none.
_NO_DATA = (".idx", ".md5", ".json", ".txt", ".partial", ".npy")
_DAMAGE = (EOFError, KeyError, OSError, RuntimeError, ValueError)

_LEAD_TIMES = ("time", "step", "prediction_timedelta", "lead_time")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options:
    """How a source is opened; see `open_dataset`."""

    on_error: archive.OnError = "raise"
    overlap: archive.Overlap = "raise"
    by_start: bool = False
    time_step: Any = None
    time_step_if_unknown: Any = None
    storage_options: dict[str, Any] | None = None
    client: Any = None
    skipped: dict[str, str] = dataclasses.field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is {self.on_error!r}, not 'raise' or 'skip'")
        if self.overlap not in ("raise", "first", "last"):
            raise ValueError(
                f"overlap is {self.overlap!r}, not 'raise', 'first' or 'last'"
            )


def open_dataset(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | BinaryIO,
    *,
    chunks: Any = None,
    canonical: bool = True,
    **options: Any,
) -> xarray.Dataset:
    """Returns the data of a file, store, archive or service, under our names.

    Values are read when they are used, and no more of them than that. Names, units and
    axes come in the form that `data.canonical` describes, whatever the source calls
    them. Forecasts by start and step become one series by valid time, of the shortest
    steps, unless `by_start` keeps them.

    Args:
      source: A NetCDF, HDF5 or GRIB file; a Zarr store; a URL of a store or NetCDF file
        (gs://, s3://, https://); a pattern such as "era5/*.nc", or a list of files; a
        folder of NetCDF or GRIB files, also by variable as WeatherBench 1 has it; a
        folder of ClimaX shards; "ecmwf-open-data:" for the latest analysis of ECMWF, or
        "ecmwf-open-data:2026-01-15T00" for another; or a NetCDF file opened in binary.
      chunks: None for lazy arrays; {} for dask arrays as the data is stored, or lengths
        by dimension.
      canonical: False leaves names, units and axes as they are stored.
      **options: `on_error`: "skip" leaves out damaged files among many, with a warning;
        `encoding["skipped"]` of the dataset tells which, and why.
        `overlap`: "first" or "last" where files hold the same times. `by_start`: True
        keeps forecasts by start and step, as `time` and `prediction_timedelta`.
        `time_step` of shards without dates, or `time_step_if_unknown` of those that are
        no whole year. `storage_options` for fsspec, in place of access without an
        account. `client` in place of that of ecmwf-opendata.

    Raises:
      FileNotFoundError: There is no such file; the message names similar ones.
      ValueError: It is no weather data, or files do not go together.
      OSError: A file is damaged, cut short or not readable.
      ImportError: A package for this source is missing; the message names the extra.
    """
    try:
        settings = _Options(**options)
    except TypeError as error:
        fields = dataclasses.fields(_Options)
        known = ", ".join(field.name for field in fields if field.init)
        raise ValueError(f"{error}; the options are {known}") from error
    name = str(getattr(source, "name", source))
    dataset = _open(source, settings)
    if canonical and {"lat", "lon"} <= set(lexicon.axis_names(dataset)):
        try:
            dataset, changes = canonical_form.canonical(dataset)
        except _DAMAGE as error:
            if isinstance(error, ValueError) and isinstance(source, list | tuple):
                raise
            if isinstance(error, ValueError):
                raise ValueError(f"{name}: {error}") from error
            raise OSError(f"{name}: damaged or cut short ({error})") from error
        dataset.encoding["changes"] = changes
    if settings.skipped:
        dataset.encoding["skipped"] = dict(settings.skipped)
    return lazy.chunk(dataset, chunks)


def _open(source: Any, options: _Options) -> xarray.Dataset:
    """Returns the data as it is stored."""
    if isinstance(source, list | tuple):
        if not source:
            raise ValueError("the list of files is empty")
        names = [os.fspath(path) for path in source]
        for name in names:
            _require_name(name)
        return _open_many(names, options)
    if not isinstance(source, str | os.PathLike):
        return _open_file_object(source)
    text = os.fspath(source)
    _require_name(text)
    if text.startswith(open_data.PREFIX):
        return open_data.open_source(text, client=options.client)
    if remote.is_url(text):
        if not glob.has_magic(text):
            return _open_one(text, options)
        return _open_matches(
            text, remote.expand(text, options.storage_options), options
        )
    path = pathlib.Path(text).expanduser()
    if glob.has_magic(text) and not path.exists():
        # A pattern may begin at the root, which Path.glob does not take.
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        return _open_matches(text, found, options)
    sniff.require_exists(path)
    if path.is_dir() and sniff.kind_of(path) != "zarr":
        return _open_folder(path, options)
    return _open_path(path, options)


def _require_name(text: str) -> None:
    """Raises a ValueError for an empty name, which would stand for this folder."""
    if not text.strip():
        raise ValueError(
            f"the name of the source is empty ({text!r}); give a file, folder, pattern "
            "or address, and '.' for the current folder"
        )


def _open_matches(pattern: str, found: list[str], options: _Options) -> xarray.Dataset:
    """Returns the data of all files that a pattern stands for."""
    found = [name for name in found if not name.endswith(_NO_DATA)]
    if not found:
        raise FileNotFoundError(f"{pattern}: no file matches")
    paths = [pathlib.Path(name) for name in found]
    if all(path.suffix == ".npz" for path in paths):
        return _open_shards(paths, options)
    return _open_many(found, options)


def _open_many(names: list[str], options: _Options) -> xarray.Dataset:
    """Returns the data of several files as one."""
    return archive.combine(_open_each(names, options), options.overlap)


def _open_each(names: list[str], options: _Options) -> dict[str, xarray.Dataset]:
    """Returns the data of each file under its name."""
    return archive.open_each(
        names,
        lambda name: _open_one(name, options),
        options.on_error,
        options.skipped,
    )


def _open_one(name: str, options: _Options) -> xarray.Dataset:
    """Returns the data of one file or store, here or behind a URL."""
    if remote.is_url(name):
        return _decoded(remote.open_url(name, options.storage_options), name)
    path = pathlib.Path(name)
    sniff.require_exists(path)
    dataset = _open_path(path, options)
    # WeatherBench 1 keeps z of 500 hPa in a folder that tells the level.
    split = recognise.split_level(path.parent.name)
    held = [str(name) for name in dataset.data_vars]
    if split is None or len(held) != 1 or recognise.split_level(held[0]) is not None:
        return dataset
    level = lexicon.axis_names(dataset).get("level")
    if level is not None and dataset[level].size == 1:
        dataset = axes.without_axis(dataset, level)
    elif level is not None:
        return dataset
    return dataset.rename_vars({held[0]: path.parent.name})


def _open_folder(folder: pathlib.Path, options: _Options) -> xarray.Dataset:
    """Returns the data of the files in a folder, or in the folders in it."""
    found = shards.find_shards(folder)
    if found:
        return _open_shards(found, options)
    here, below = _files(folder, "*"), _files(folder, "*/*")
    if here or below:
        parts = _open_each(here or below, options)
        if here and below and not any(map(_has_time, parts.values())):
            # WeatherBench 1 has constants here or one folder below, as variables are.
            parts |= _open_each(below, options)
        return archive.combine(parts, options.overlap)
    splits = [path for path in _folders(folder) if shards.find_shards(path)]
    if splits:
        names = ", ".join(str(path) for path in splits)
        raise ValueError(f"{folder}: holds folders of shards; give one of {names}")
    raise ValueError(
        f"{folder}: not NetCDF, Zarr or GRIB; it is {sniff.describe(folder)}"
    )


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _files(folder: pathlib.Path, depth: str) -> list[str]:
    """Returns the files of a folder that may hold data, by name."""
    return sorted(
        str(path)
        for path in folder.glob(depth)
        if path.suffix in _SUFFIXES and path.is_file()
    )


def _has_time(dataset: xarray.Dataset) -> bool:
    """Returns whether data are more than constants."""
    return "time" in lexicon.axis_names(dataset)


def _open_shards(paths: list[pathlib.Path], options: _Options) -> xarray.Dataset:
    """Returns the data of NumPy shards along time."""
    _, parts = shards.open_shards(
        paths,
        time_step=options.time_step,
        time_step_if_unknown=options.time_step_if_unknown,
        skipped=options.skipped if options.on_error == "skip" else None,
    )
    return archive.combine(parts, options.overlap)


def _open_path(path: pathlib.Path, options: _Options) -> xarray.Dataset:
    """Returns the data of one file or store on this machine."""
    kind = sniff.kind_of(path)
    if kind == "other":
        raise ValueError(
            f"{path}: not NetCDF, Zarr or GRIB; it is {sniff.describe(path)}"
        )
    if kind == "grib":
        return grib.open_grib(path, by_start=options.by_start)
    dataset = _decoded(_open_with_xarray(path, kind), str(path))
    return _series(dataset, by_start=options.by_start)


def _series(dataset: xarray.Dataset, *, by_start: bool) -> xarray.Dataset:
    """Returns forecasts by start and step, as some files keep them, by valid time.

    Or, `by_start`, with starts and lead times under our names.
    """
    names = {"forecast_reference_time": "time", "forecast_period": "step"}
    if set(names) <= set(dataset.dims) and "valid_time" in dataset.coords:
        dataset = dataset.rename(names)
    if {"step", "valid_time"} <= set(dataset.coords):
        return (grib.with_lead_time if by_start else grib.with_valid_time)(dataset)
    return dataset


def _open_with_xarray(path: pathlib.Path, kind: str) -> xarray.Dataset:
    """Returns the dataset with its lead times as they are stored."""
    settings: dict[str, Any] = {"chunks": None, "decode_timedelta": False}
    if kind == "zarr" and (path / "zarr.json").exists():
        from weatherlib.data import zarr_groups

        zarr_groups.require_format(3, str(path))
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
        reason = str(error)
        if "decode_times" in reason:
            # xarray goes on with advice that is of no use here.
            reason = reason.partition(". ")[0]
            reason += "; correct the attributes units and calendar of its times"
        raise ValueError(f"{path}: cannot be decoded ({reason})") from error


def _open_file_object(file: BinaryIO) -> xarray.Dataset:
    """Returns the dataset of an open file."""
    name = str(getattr(file, "name", "the open file"))
    settings: dict[str, Any] = {"chunks": None, "decode_timedelta": False}
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
        if lead_time in dataset.coords
        and dataset[lead_time].attrs.get("units")
        and not date_forms.are_numbered(dataset[lead_time].variable)
    ]
    try:
        return times.decode_time(dataset, known)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _is_consolidated(path: pathlib.Path) -> bool:
    """Tells whether a Zarr store has consolidated metadata."""
    root = path / "zarr.json"
    if not root.exists():
        return (path / ".zmetadata").exists()
    return bool(json.loads(root.read_bytes()).get("consolidated_metadata"))


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
