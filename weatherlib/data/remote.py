"""Stores and files behind a URL."""

from __future__ import annotations

import json
import logging
import posixpath
import urllib.parse
from typing import Any

import xarray

from weatherlib import optional

__all__ = ["expand", "is_url", "open_url"]

# What each kind of URL needs, and how it is read without an account.
_SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "gs": ("gcsfs", {"token": "anon"}),
    "gcs": ("gcsfs", {"token": "anon"}),
    "s3": ("s3fs", {"anon": True}),
    "http": ("aiohttp", {}),
    "https": ("aiohttp", {}),
    "file": ("fsspec", {}),
    "memory": ("fsspec", {}),
}

_ZARR_MARKS = ("zarr.json", ".zmetadata", ".zgroup")


def is_url(source: str) -> bool:
    """Tells whether a source is the address of a store, such as gs://..."""
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.isalnum()


def open_url(url: str, storage_options: dict[str, Any] | None = None) -> xarray.Dataset:
    """Returns the data of one Zarr store or NetCDF-4 file, as stored, read lazily.

    Args:
      url: Such as gs://bucket/store.zarr, s3://... or https://...
      storage_options: For fsspec, in place of access without an account.

    Raises:
      ImportError: A package of the `cloud` extra is missing.
      ValueError: The kind of URL, or what lies behind it, is not known.
      OSError: It cannot be reached or read.
    """
    files, path, options = _file_system(url, storage_options)
    settings: dict[str, Any] = {"chunks": None, "decode_timedelta": False}
    marks = _marks(files, path, url)
    try:
        if marks:
            return xarray.open_dataset(
                url,
                engine="zarr",
                storage_options=options or None,
                consolidated=_is_consolidated(files, path, marks),
                **settings,
            )
        file = files.open(path)
    except FileNotFoundError as error:
        if reason := _unreachable(error):
            raise OSError(f"{url}: cannot be reached ({reason})") from error
        raise FileNotFoundError(f"{url}: there is nothing at this address") from error
    # What a connection raises depends on the file system.
    except Exception as error:
        raise OSError(f"{url}: cannot be read ({_reason(error)})") from error
    try:
        return xarray.open_dataset(file, engine="h5netcdf", **settings)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{url}: neither Zarr nor NetCDF-4 ({_reason(error)}); other files have to "
            "be fetched first"
        ) from error


def expand(url: str, storage_options: dict[str, Any] | None = None) -> list[str]:
    """Returns the addresses that a pattern with * or ? stands for, in order.

    Raises:
      OSError: They cannot be reached.
    """
    files, path, _ = _file_system(url, storage_options)
    try:
        found = files.glob(path)
    # What a connection raises depends on the file system.
    except Exception as error:
        raise OSError(f"{url}: cannot be reached ({_reason(error)})") from error
    return sorted(files.unstrip_protocol(name) for name in found)


def _file_system(
    url: str, storage_options: dict[str, Any] | None
) -> tuple[Any, str, dict[str, Any]]:
    """Returns the file system of a URL, the path in it, and its options."""
    scheme = url.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise ValueError(
            f"{url}: addresses begin with {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    package, options = _SCHEMES[scheme]
    optional.require(package, extra="cloud")
    fsspec = optional.require("fsspec", extra="cloud")
    # They log the traceback of an error that they raise as well. Python prints what no
    # handler takes; those that an application has set still get it.
    for name in (package, "fsspec"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
    options = dict(options if storage_options is None else storage_options)
    files, path = fsspec.core.url_to_fs(url, **options)
    return files, path, options


def _marks(files: Any, path: str, url: str) -> list[str]:
    """Returns which files of a Zarr store there are.

    Raises:
      OSError: The store cannot be reached.
    """
    if urllib.parse.urlsplit(url).path.endswith((".nc", ".nc4", ".h5")):
        return []
    try:
        return [
            mark
            for mark in _ZARR_MARKS
            if files.exists(posixpath.join(path.rstrip("/"), mark))
        ]
    except Exception as error:
        raise OSError(f"{url}: cannot be reached ({_reason(error)})") from error


def _is_consolidated(files: Any, path: str, marks: list[str]) -> bool:
    """Tells whether the metadata of all arrays of a store is in one place."""
    if "zarr.json" not in marks:
        return ".zmetadata" in marks
    content = files.cat_file(posixpath.join(path.rstrip("/"), "zarr.json"))
    return bool(json.loads(content).get("consolidated_metadata"))


def _unreachable(error: BaseException) -> str | None:
    """Returns why a file was not found where no connection was made, else None."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        # Those of aiohttp for a connection are system errors too.
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            return _reason(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _reason(error: BaseException) -> str:
    """Returns what an error says, its kind where it says nothing."""
    return str(error) or type(error).__name__
