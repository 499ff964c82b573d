"""Writers of forecasts: files that grow while the forecast runs, and can go on later.

Frames go to NAME.partial, which is readable at any time; `close` gives the file its
name. Whatever stops a forecast, what was written stays, and a writer opened for the
same name goes on behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import xarray

from weatherlib.data import (
    continuity,
    derived,
    layout,
    memory,
    netcdf_storage,
    output_files,
    storage,
)

__all__ = ["Compression", "ForecastWriter", "MemoryWriter", "open_writer"]

Compression = storage.Compression
MemoryWriter = memory.MemoryWriter


@final
class ForecastWriter:
    """Appends the frames of one forecast to a file. Made by `open_writer`."""

    def __init__(
        self,
        path: pathlib.Path,
        store: storage.Storage,
        *,
        attrs: Mapping[str, Any],
        reference_time: np.ndarray | None,
        resume: bool,
        derive: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._partial = output_files.partial_path(path)
        self._store = store
        self._attrs = dict(attrs)
        self._reference_time = reference_time
        self._header: xarray.Dataset | None = None
        self._last: np.timedelta64 | None = None
        self._closed = False
        self._derive = tuple(derive)
        if self._partial.exists():
            self._take_over(resume=resume)

    @property
    def path(self) -> pathlib.Path:
        """The name that the finished file gets."""
        return self._path

    @property
    def frames_written(self) -> int:
        """How many frames are safe in the file, those of an earlier run included."""
        return self._store.frames

    def write(self, chunk: xarray.Dataset) -> None:
        """Appends frames along `time` and makes sure that they are in the file.

        Args:
          chunk: The frames that follow those written, with the same variables, grid
            and members as the first chunk.

        Raises:
          ValueError: The writer is closed, or the chunk belongs to another forecast or
            does not follow the frames written.
          OSError: The frames cannot be stored, as when the disk is full. Those before
            are safe.
        """
        if self._closed:
            raise ValueError(f"{self._path}: the writer is closed")
        continuity.require_order(chunk, self._last)
        chunk = derived.add_derived(chunk, self._derive)
        unit = None if self._header is None else self._header["time"].attrs["units"]
        encoded = layout.encode(chunk, self._reference_time, unit)
        if self._header is not None:
            continuity.require_same_forecast(self._partial, self._header, encoded)
        with self._storing():
            if self._header is None:
                self._store.create(encoded, self._attrs)
            else:
                self._store.append(encoded)
        if self._header is None:
            self._header = encoded.isel(time=slice(0, 0))
        self._last = chunk["time"].values[-1]

    def last_frames(self, n: int) -> xarray.Dataset:
        """Returns the last n frames, exactly as they were written.

        Raises:
          ValueError: There are fewer, or the writer is closed.
        """
        if self._closed:
            raise ValueError(f"{self._path}: the writer is closed")
        continuity.require_frames(n, self.frames_written)
        frames = self._store.read(self.frames_written - n, self.frames_written)
        return layout.decode(frames)

    def close(self) -> None:
        """Finishes the file and gives it its name. Closing twice does nothing.

        Raises:
          ValueError: No frame was written.
          OSError: The file cannot be finished or renamed.
        """
        if self._closed:
            return
        self._closed = True
        if not self.frames_written:
            raise ValueError(f"{self._path}: no frame was written")
        with self._storing():
            self._store.finish()
            output_files.replace(self._partial, self._path, self._store.remove)

    def __enter__(self) -> ForecastWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            self._give_up()

    def _take_over(self, *, resume: bool) -> None:
        """Opens what an earlier run left, or deletes it."""
        if not resume:
            self._store.remove(self._partial)
            return
        try:
            header = self._store.open()
        except (OSError, RuntimeError) as error:
            raise OSError(
                getattr(error, "errno", None) or errno.EIO,
                f"{self._partial}: left by an earlier run and unreadable ({error}); "
                "delete it, or start afresh with resume=False",
            ) from error
        if not self._store.frames:
            self._store.close()
            self._store.remove(self._partial)
            return
        try:
            continuity.require_same_start(
                self._partial, header, self._attrs, self._reference_time
            )
        except ValueError:
            self._store.close()
            raise
        self._header = header
        last = self._store.read(self._store.frames - 1, self._store.frames)
        self._last = layout.decode(last)["time"].values[-1]

    def _storing(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context that explains failures, and closes the file after one."""

        def give_up() -> None:
            self._give_up()
            if not self.frames_written and self._partial.exists():
                self._store.remove(self._partial)

        return output_files.storing(self._partial, self.frames_written, give_up)

    def _give_up(self) -> None:
        """Closes the unfinished file as well as it goes."""
        self._closed = True
        try:
            self._store.close()
        except (OSError, RuntimeError):
            # The write that failed is reported; the frames before it are on disk.
            return


def open_writer(
    path: str | os.PathLike[str],
    *,
    attrs: Mapping[str, Any] | None = None,
    reference_time: Any = None,
    overwrite: bool = False,
    resume: bool = True,
    compression: Compression | None = None,
    zarr_format: int | None = None,
    derive: Sequence[str] = (),
) -> ForecastWriter:
    """Returns a writer for a forecast file, NetCDF or Zarr by its suffix.

    Everything that can fail before the first frame fails here.

    Args:
      path: Name of the finished file: .nc, .nc4 or .netcdf, or .zarr. Missing folders
        are made.
      attrs: Global attributes, such as title, source, checkpoint_sha256 and licence.
      reference_time: Start of the forecast, or of each batch member, UTC. Gives the
        file its valid times.
      overwrite: Replaces a finished file of this name once the new one is complete.
      resume: Goes on behind the frames that an earlier run left in NAME.partial;
        otherwise they are deleted.
      compression: How values are made smaller, exact and uncompressed NetCDF if None.
      zarr_format: 2 or 3, for Zarr only.
      derive: Quantities to add to every frame, as `data.add_derived` names them.

    Raises:
      ValueError: The suffix is unknown, or NAME.partial holds another forecast.
      FileExistsError: A finished file has this name.
      OSError: The folder cannot be written, or NAME.partial cannot be read.
    """
    path = pathlib.Path(path)
    settings = compression or Compression()
    partial = output_files.partial_path(path)
    store: storage.Storage
    if path.suffix.lower() in output_files.NETCDF_SUFFIXES:
        store = netcdf_storage.NetcdfStorage(partial, settings)
    elif path.suffix.lower() == ".zarr":
        from weatherlib.data import zarr_storage

        store = zarr_storage.ZarrStorage(partial, settings, zarr_format)
    else:
        raise output_files.unknown_kind(path)
    output_files.require_free(path, overwrite=overwrite)
    output_files.require_writable_folder(path)
    return ForecastWriter(
        path,
        store,
        attrs=output_files.global_attrs(attrs or {}),
        reference_time=_as_dates(reference_time),
        resume=resume,
        derive=derive,
    )


def _as_dates(reference_time: Any) -> np.ndarray | None:
    """Returns one or several dates as datetime64, None as None."""
    if reference_time is None:
        return None
    try:
        return np.asarray(reference_time).astype("datetime64[ns]")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"reference_time {reference_time!r} is not a date; give UTC such as "
            "'2022-01-01T06'"
        ) from error
