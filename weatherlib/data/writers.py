"""Writers of forecasts: files that grow while the forecast runs, and can go on later.

Frames go to NAME.partial, which is readable at any time; `close` gives the file its
name. Whatever stops a forecast, what was written stays, and a writer opened for the
same name goes on behind it.
"""

from __future__ import annotations

import datetime
import errno
import os
import pathlib
import tempfile
import types
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import xarray

import weatherlib
from weatherlib.data import layout, netcdf_storage, storage

__all__ = ["Compression", "ForecastWriter", "MemoryWriter", "open_writer"]

Compression = storage.Compression

_NETCDF_SUFFIXES = (".nc", ".nc4", ".netcdf")
# These may differ between the parts of one forecast.
_FREE_ATTRS = ("history", "date_created", storage.FRAMES)


@final
class MemoryWriter:
    """Keeps a forecast in memory, under the protocol of the file writers."""

    def __init__(self) -> None:
        self._chunks: list[xarray.Dataset] = []
        self._closed = False

    @property
    def frames_written(self) -> int:
        """How many frames there are."""
        return sum(chunk.sizes["time"] for chunk in self._chunks)

    @property
    def dataset(self) -> xarray.Dataset:
        """All frames written so far.

        Raises:
          ValueError: There is none.
        """
        if not self._chunks:
            raise ValueError("the writer holds no frames yet")
        if len(self._chunks) > 1:
            merged = xarray.concat(
                self._chunks, dim="time", data_vars="minimal", coords="minimal",
                compat="override", join="exact",
            )  # fmt: skip
            self._chunks = [merged]
        return self._chunks[0]

    def write(self, chunk: xarray.Dataset) -> None:
        """Adds frames along `time`.

        Raises:
          ValueError: The writer is closed, the chunk has no frames, or they do not
            follow those before.
        """
        if self._closed:
            raise ValueError("the writer is closed")
        last = self._chunks[-1]["time"].values[-1] if self._chunks else None
        _require_order(chunk, last)
        self._chunks.append(chunk.map(_on_host, keep_attrs=True))

    def last_frames(self, n: int) -> xarray.Dataset:
        """Returns the last n frames.

        Raises:
          ValueError: There are fewer.
        """
        _require_frames(n, self.frames_written)
        return self.dataset.isel(time=slice(self.frames_written - n, None))

    def close(self) -> None:
        """Ends the forecast; what was written stays."""
        self._closed = True

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
    ) -> None:
        self._path = path
        self._partial = _partial(path)
        self._store = store
        self._attrs = dict(attrs)
        self._reference_time = reference_time
        self._header: xarray.Dataset | None = None
        self._last: np.timedelta64 | None = None
        self._closed = False
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
        _require_order(chunk, self._last)
        unit = None if self._header is None else self._header["time"].attrs["units"]
        encoded = layout.encode(chunk, self._reference_time, unit)
        if self._header is not None:
            _require_same_forecast(self._partial, self._header, encoded)
        try:
            if self._header is None:
                self._store.create(encoded, self._attrs)
            else:
                self._store.append(encoded)
        except (OSError, RuntimeError) as error:
            self._give_up()
            if not self.frames_written and self._partial.exists():
                self._store.remove(self._partial)
            raise _storage_error(self._partial, self.frames_written, error) from error
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
        _require_frames(n, self.frames_written)
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
        try:
            self._store.finish()
            _replace(self._partial, self._path, self._store)
        except (OSError, RuntimeError) as error:
            self._give_up()
            raise _storage_error(self._partial, self.frames_written, error) from error

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
            _require_same_start(
                self._partial, header, self._attrs, self._reference_time
            )
        except ValueError:
            self._store.close()
            raise
        self._header = header
        last = self._store.read(self._store.frames - 1, self._store.frames)
        self._last = layout.decode(last)["time"].values[-1]

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

    Raises:
      ValueError: The suffix is unknown, or NAME.partial holds another forecast.
      FileExistsError: A finished file has this name.
      OSError: The folder cannot be written, or NAME.partial cannot be read.
    """
    path = pathlib.Path(path)
    settings = compression or Compression()
    partial = _partial(path)
    store: storage.Storage
    if path.suffix.lower() in _NETCDF_SUFFIXES:
        store = netcdf_storage.NetcdfStorage(partial, settings)
    elif path.suffix.lower() == ".zarr":
        from weatherlib.data import zarr_storage

        store = zarr_storage.ZarrStorage(partial, settings, zarr_format)
    else:
        known = ", ".join((*_NETCDF_SUFFIXES, ".zarr"))
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; use {known}")
    if path.exists() and not overwrite:
        raise FileExistsError(
            errno.EEXIST,
            f"{path}: exists already; choose another name or allow overwriting it",
        )
    _require_writable_folder(path)
    return ForecastWriter(
        path,
        store,
        attrs=_global_attrs(attrs or {}),
        reference_time=_as_dates(reference_time),
        resume=resume,
    )


def _partial(path: pathlib.Path) -> pathlib.Path:
    """Returns the name of the unfinished file."""
    return path.with_name(path.name + ".partial")


def _on_host(array: xarray.DataArray) -> xarray.DataArray:
    """Returns the array with its values in host memory."""
    return array.copy(data=np.asarray(array.values))


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


def _global_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes of the file, what CF asks for included."""
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


def _require_writable_folder(path: pathlib.Path) -> None:
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


def _require_order(chunk: xarray.Dataset, last: np.timedelta64 | None) -> None:
    """Raises a ValueError where frames do not follow the last one written."""
    times = chunk["time"].values if "time" in chunk.coords else np.empty(0)
    if not times.size:
        raise ValueError("time: the chunk has no frames with lead times")
    found = times if last is None else np.concatenate([[last], times])
    if (np.diff(found) <= np.timedelta64(0, "ns")).any():
        before = "none" if last is None else np.timedelta64(last, "h")
        raise ValueError(
            f"time: frames must follow each other; last written {before}, then "
            f"{', '.join(str(t.astype('timedelta64[m]')) for t in times[:4])}"
        )


def _require_frames(wanted: int, found: int) -> None:
    """Raises a ValueError where fewer frames were written than are wanted."""
    if not 0 < wanted <= found:
        raise ValueError(f"{wanted} frames wanted, {found} written")


def _require_same_start(
    partial: pathlib.Path,
    header: xarray.Dataset,
    attrs: Mapping[str, Any],
    reference_time: np.ndarray | None,
) -> None:
    """Raises a ValueError where an unfinished file holds another forecast."""
    differences = []
    held_keys = set(header.attrs) | set(attrs)
    for key in sorted(held_keys - set(_FREE_ATTRS)):
        held, now = header.attrs.get(key), attrs.get(key)
        if not np.array_equal(np.asarray(held), np.asarray(now)):
            differences.append(f"{key} is {held!r}, now {now!r}")
    if reference_time is not None:
        now = reference_time.astype("datetime64[s]")
        if layout.REFERENCE_TIME in header:
            held = header[layout.REFERENCE_TIME].values.astype("datetime64[s]")
        else:
            held = np.asarray("NaT", "datetime64[s]")
        if not np.array_equal(held, now):
            differences.append(f"it starts at {held}, now {now}")
    if differences:
        raise _other_forecast(partial, differences)


def _require_same_forecast(
    partial: pathlib.Path, header: xarray.Dataset, encoded: xarray.Dataset
) -> None:
    """Raises a ValueError where a chunk does not fit the frames in the file."""
    differences = []
    for name in sorted({*map(str, header.variables), *map(str, encoded.variables)}):
        if name not in header.variables or name not in encoded.variables:
            where = "the file" if name in header.variables else "the chunk"
            differences.append(f"{name} is only in {where}")
            continue
        held, now = header[name].variable, encoded[name].variable
        if held.dims != now.dims or held.shape[1:] != now.shape[1:]:
            differences.append(f"{name} has {dict(held.sizes)}, now {dict(now.sizes)}")
        elif held.dtype != now.dtype:
            differences.append(f"{name} is {held.dtype}, now {now.dtype}")
        elif "time" not in held.dims and not np.array_equal(held.values, now.values):
            differences.append(f"{name} has other values")
    if differences:
        raise _other_forecast(partial, differences)


def _other_forecast(partial: pathlib.Path, differences: Sequence[str]) -> ValueError:
    """Returns the error for an unfinished file that holds another forecast."""
    return ValueError(
        f"{partial}: holds another forecast: {'; '.join(differences)}. Delete it, "
        "choose another name, or start afresh with resume=False"
    )


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


def _replace(partial: pathlib.Path, path: pathlib.Path, store: storage.Storage) -> None:
    """Gives the finished file its name in place of any file that has it."""
    if partial.is_dir() and path.exists():
        # A folder cannot take the place of another in one step.
        old = path.with_name(path.name + ".replaced")
        path.rename(old)
        partial.rename(path)
        store.remove(old)
    else:
        partial.replace(path)
