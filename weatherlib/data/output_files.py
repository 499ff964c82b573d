"""Names, attributes and errors that all files we write have in common."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import weatherlib

__all__ = [
    "NETCDF_SUFFIXES",
    "global_attrs",
    "partial_path",
    "replace",
    "require_free",
    "require_writable_folder",
    "storing",
    "unknown_kind",
]

NETCDF_SUFFIXES = (".nc", ".nc4", ".netcdf")


def require_free(path: pathlib.Path, *, overwrite: bool) -> None:
    """Checks that a name may be given to a new file.

    Raises:
      FileExistsError: A file has it, and may not be replaced.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(
            errno.EEXIST,
            f"{path}: exists already; choose another name or allow overwriting it",
        )


def unknown_kind(path: pathlib.Path) -> ValueError:
    """Returns the error for a suffix that names no format."""
    known = ", ".join((*NETCDF_SUFFIXES, ".zarr"))
    return ValueError(f"{path}: unknown kind of file {path.suffix!r}; use {known}")


def partial_path(path: pathlib.Path) -> pathlib.Path:
    """Returns the name of the unfinished file."""
    return path.with_name(path.name + ".partial")


def global_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes of the file, what CF asks for included.

    Raises:
      ValueError: A value is neither text nor numbers.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    complete = {
        "Conventions": "CF-1.11",
        "title": "Weather forecast",
        "source": f"weatherlib {weatherlib.__version__}",
        "history": f"{now} weatherlib {weatherlib.__version__}: forecast written",
    }
    complete |= {key: value for key, value in attrs.items() if value is not None}
    for key, value in complete.items():
        if not isinstance(value, str | int | float | np.number | np.ndarray | list):
            raise ValueError(
                f"attribute {key!r} is {type(value).__name__}; files hold text and "
                "numbers"
            )
    return complete


def require_writable_folder(path: pathlib.Path) -> None:
    """Makes the folder and raises an OSError where no file can be made in it."""
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".weatherlib-"):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"{folder}: cannot write {path.name} in this folder ({error.strerror}); "
            "choose another one",
        ) from error


@contextlib.contextmanager
def storing(
    partial: pathlib.Path,
    frames: int,
    give_up: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Says of what cannot be stored where it was to go and what is safe already.

    Args:
      partial: The unfinished file.
      frames: How many frames it holds.
      give_up: Is called after a failure, to leave the file in order.

    Raises:
      OSError: Storing failed.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        give_up()
        raise _storage_error(partial, frames, error) from error


def _storage_error(
    partial: pathlib.Path, frames: int, error: OSError | RuntimeError
) -> OSError:
    """Returns the error for frames that could not be stored."""
    number = getattr(error, "errno", None)
    if not number:
        # The NetCDF library hides the cause; a full disk is by far the likeliest.
        number = errno.EIO if _has_space(partial) else errno.ENOSPC
    reason = os.strerror(number) if number != errno.EIO else str(error)
    rest = (
        f"{frames} frame(s) are safe in it. Free some space or choose another disk, "
        "then run again to go on from there"
        if frames
        else "no frame was stored. Free some space or choose another disk"
    )
    return OSError(number, f"{partial}: writing failed ({reason}); {rest}")


def _has_space(path: pathlib.Path) -> bool:
    """Tells whether the disk has some space left."""
    usage = os.statvfs(path.parent)
    return usage.f_bavail * usage.f_frsize > 2**22


def replace(
    partial: pathlib.Path, path: pathlib.Path, remove: Callable[[pathlib.Path], None]
) -> None:
    """Gives the finished file its name in place of any file that has it."""
    if partial.is_dir() and path.exists():
        # A folder cannot take the place of another in one step.
        old = path.with_name(path.name + ".replaced")
        path.rename(old)
        partial.rename(path)
        remove(old)
    else:
        partial.replace(path)
