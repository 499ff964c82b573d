"""Files that a user names: found, readable and writable, or a clear error."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator

import xarray

from weatherlib import bundled, data
from weatherlib.data import archive
from weatherlib.data_utils import lexicon
from weatherlib.task import TaskConfig

__all__ = [
    "conversions",
    "existing",
    "forecast_path",
    "load",
    "load_small",
    "open_lazily",
    "open_weather",
    "other_units",
    "partial_noted",
    "writable_folder",
]

_LOADED_WHOLE = 2**31


def existing(path: str | os.PathLike[str], what: str) -> pathlib.Path:
    """Returns the path.

    Args:
      path: A file or folder.
      what: What it should be, for the message: "the checkpoint".

    Raises:
      FileNotFoundError: There is nothing of that name.
      ValueError: The name is empty.
    """
    if not os.fspath(path).strip():
        raise ValueError(f"the name of {what} is empty, found {os.fspath(path)!r}")
    path = pathlib.Path(path)
    if path.exists():
        return path
    folder = path.parent
    where = "" if folder.is_dir() else f"; there is no folder {folder} either"
    raise FileNotFoundError(f"{path}: {what} does not exist{where}")


def open_weather(path: str | os.PathLike[str] | None) -> xarray.Dataset:
    """Returns the weather of a file, or the bundled sample.

    Up to two GiB are read at once, larger files when their values are used.

    Args:
      path: NetCDF, Zarr or GRIB; None for the bundled sample.

    Raises:
      FileNotFoundError: There is nothing of that name.
      OSError: It is damaged or of no known format.
      ValueError: Its contents cannot be understood.
    """
    dataset = open_lazily(path)
    return load_small(dataset, bundled.sample_path() if path is None else path)


def load_small(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> xarray.Dataset:
    """Returns the dataset, with its values in memory if they are two GiB or less.

    Args:
      dataset: As opened.
      path: Where from, for the message.

    Raises:
      OSError: The values are damaged.
    """
    return load(dataset, path) if dataset.nbytes <= _LOADED_WHOLE else dataset


def open_lazily(
    path: str | os.PathLike[str] | None, *, by_start: bool = False
) -> xarray.Dataset:
    """Returns the weather of a file, or the bundled sample, without reading values.

    Args:
      path: NetCDF, Zarr or GRIB; None for the bundled sample.
      by_start: Whether forecasts stay by start and lead time.

    Raises:
      FileNotFoundError: There is nothing of that name.
      OSError: It is damaged or of no known format.
      ValueError: Its contents cannot be understood.
    """
    if path is None:
        path = existing(bundled.sample_path(), "the bundled sample")
    try:
        return data.open_dataset(path, by_start=by_start)
    except (OSError, ValueError) as error:
        if not _is_one_of_many(error):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(
            f"{error} (one of many files of {path}; give another folder, or those that "
            "belong together as a pattern in quotes, such as 'era5/*.nc')"
        ) from error


def _is_one_of_many(error: Exception) -> bool:
    """Whether a file among others cannot be read, which other commands may skip."""
    return any(archive.SKIP_HINT in note for note in getattr(error, "__notes__", ()))


def conversions(dataset: xarray.Dataset) -> list[str]:
    """Returns which values were changed when the dataset was opened, and how.

    Args:
      dataset: As `open_lazily` or `open_weather` returns it.
    """
    changes = dataset.encoding.get("changes", [])
    return [change for change in changes if change.startswith("converted ")]


def other_units(changes: Iterable[str], task: TaskConfig) -> list[str]:
    """Returns which variables of a task were stored in other units, and in which.

    Args:
      changes: As `conversions` returns them.
      task: Names the variables.
    """
    wanted = lexicon.task_variables(task)
    lines = []
    for change in changes:
        name, _, units = change.removeprefix("converted ").partition(" from ")
        found, _, needed = units.partition(" to ")
        if name in wanted:
            lines.append(f"{name}: units {found!r}, expected {needed!r}")
    return lines


@contextlib.contextmanager
def partial_noted(
    writer: data.ForecastWriter | data.MemoryWriter,
    output: str | os.PathLike[str] | None,
    frames: int,
) -> Iterator[None]:
    """Adds to whatever stops a run where its unfinished file is.

    Args:
      writer: Takes the frames.
      output: The name it was given, None where nothing goes to a file.
      frames: How many there are to be.
    """
    try:
        yield
    except BaseException as error:
        if output is not None and writer.frames_written:
            error.add_note(
                f"the first {writer.frames_written} of {frames} frames are in "
                f"{output}.partial; the same command continues from there"
            )
        raise


def load(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> xarray.Dataset:
    """Returns the dataset with all its values in memory.

    Args:
      dataset: As opened.
      path: Where from, for the message.

    Raises:
      OSError: The values are damaged.
    """
    try:
        return dataset.load()
    # What damage raises depends on the library and on where it is met.
    except (EOFError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise OSError(
            f"{os.fspath(path)}: damaged or cut short ({error}); fetch or write it "
            "again"
        ) from error


def forecast_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the name of a forecast file, its folder made and checked.

    Raises:
      ValueError: It ends neither in .nc nor in .zarr.
      OSError: Its folder cannot be written.
    """
    path = pathlib.Path(path)
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(
            f"--output {path}: forecasts are written as .nc or .zarr, found "
            f"{path.suffix or 'no suffix'}"
        )
    writable_folder(path.parent)
    return path


def writable_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a folder in which files can be written, making it where it is missing.

    Raises:
      OSError: It cannot be made, is a file, or no file can be made in it.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path}: a folder for output is needed, found a file")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Permission bits do not tell for the superuser or a read-only mount.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(
            f"{path}: cannot write into this folder ({error.strerror}); choose another"
        ) from error
    return path
