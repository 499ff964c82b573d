"""NetCDF-4 files that grow along an unlimited time axis."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import xarray
from xarray.backends import locks

from weatherlib.data import storage

__all__ = ["NetcdfStorage"]

# Room for the index of the chunks, which grows with them.
_SPARE_BYTES = 2**16
_SPARE_BYTES_PER_VARIABLE = 2**14

# The NetCDF and HDF5 libraries crash when two threads are in them. A forecast is
# written by a thread of its own while xarray may read other files: its locks keep both
# apart.
_LIBRARY = locks.combine_locks([locks.NETCDFC_LOCK, locks.HDF5_LOCK])


@final
class NetcdfStorage(storage.Storage):
    """A NetCDF-4 file with an unlimited time axis."""

    def __init__(self, path: pathlib.Path, compression: storage.Compression) -> None:
        self._path = path
        self._compression = compression
        self._file: Any = None
        self._frames = 0

    @property
    def frames(self) -> int:
        """How many complete frames the file holds."""
        return self._frames

    def create(self, first: xarray.Dataset, attrs: Mapping[str, Any]) -> None:
        """Makes the file with its first frames."""
        level = self._compression.level or 0
        encoding: dict[str, dict[str, Any]] = {}
        for name, variable in first.variables.items():
            settings: dict[str, Any] = {"_FillValue": None}
            if "time" in variable.dims:
                small = name not in first.data_vars
                settings["chunksizes"] = storage.chunk_sizes(variable, small=small)
            if name in first.data_vars and level and variable.ndim:
                settings |= {"zlib": True, "complevel": level, "shuffle": True}
            encoding[str(name)] = settings
        marked = self._compression.round_dataset(first).assign_attrs(
            {**attrs, storage.FRAMES: np.int64(0)}
        )
        marked.to_netcdf(
            self._path,
            engine="netcdf4",
            format="NETCDF4",
            unlimited_dims=["time"],
            encoding=encoding,
        )
        with _LIBRARY:
            self._connect()
            self._mark(first.sizes["time"])

    def append(self, frames: xarray.Dataset) -> None:
        """Adds frames and flushes them to the file."""
        start, stop = self._frames, self._frames + frames.sizes["time"]
        rounded = self._compression.round_dataset(frames)
        self._reserve(rounded)
        arrays = {name: rounded[name].values for name in storage.growing(rounded)}
        with _LIBRARY:
            for name, array in arrays.items():
                self._file[name][start:stop] = array
            self._mark(stop)

    def open(self) -> xarray.Dataset:
        """Opens an unfinished file and cuts off a frame that was not completed.

        Raises:
          ValueError: It is no forecast of this library.
          OSError: It cannot be read.
        """
        with _LIBRARY:
            self._connect()
            attrs = self._attributes()
            held = len(self._file.dimensions.get("time", ()))
        if storage.FRAMES not in attrs:
            self.close()
            raise ValueError(
                f"{self._path}: not an unfinished forecast of this library"
            )
        self._frames = int(attrs[storage.FRAMES])
        if held > self._frames > 0:
            self._cut(attrs)
        return self.read(0, 0).assign_attrs(attrs)

    def read(self, start: int, stop: int) -> xarray.Dataset:
        """Returns the frames from `start` up to `stop`."""
        data = {}
        with _LIBRARY:
            for name, variable in self._file.variables.items():
                dims = variable.dimensions
                part = slice(start, stop) if "time" in dims else slice(None)
                values = np.asarray(variable[part] if dims else variable[...])
                attrs = {key: variable.getncattr(key) for key in variable.ncattrs()}
                attrs.pop("coordinates", None)
                data[name] = xarray.Variable(dims, values, attrs)
        return storage.with_coordinates(data)

    def finish(self) -> None:
        """Takes the mark of an unfinished file away and closes it."""
        file, self._file = self._file, None
        with _LIBRARY:
            file.delncattr(storage.FRAMES)
            file.close()

    def close(self) -> None:
        """Closes the file as it is."""
        file, self._file = self._file, None
        with _LIBRARY:
            if file is not None and file.isopen():
                file.close()

    @staticmethod
    def remove(path: pathlib.Path) -> None:
        """Deletes the file."""
        path.unlink()

    def _connect(self) -> None:
        import netCDF4

        self._file = netCDF4.Dataset(self._path, "a")
        self._file.set_auto_maskandscale(False)

    def _attributes(self) -> dict[str, Any]:
        return {key: self._file.getncattr(key) for key in self._file.ncattrs()}

    def _mark(self, frames: int) -> None:
        """Writes the frames out, and only then their number."""
        self._file.sync()
        self._file.setncattr(storage.FRAMES, np.int64(frames))
        self._file.sync()
        self._frames = frames

    def _reserve(self, frames: xarray.Dataset) -> None:
        """Takes the space for frames from the disk before they are written.

        HDF5 that runs out of space on the way leaves a file that cannot be opened
        again. What is not used goes back when the file is closed.

        Raises:
          OSError: There is not enough space.
        """
        needed = _SPARE_BYTES + frames.nbytes
        needed += _SPARE_BYTES_PER_VARIABLE * len(frames.variables)
        if not hasattr(os, "posix_fallocate"):
            if shutil.disk_usage(self._path.parent).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        with self._path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            os.posix_fallocate(file.fileno(), end, needed)

    def _cut(self, attrs: Mapping[str, Any]) -> None:
        """Makes the file anew without the frame at its end that was not completed.

        An unlimited axis of NetCDF cannot shrink.
        """
        kept = {key: value for key, value in attrs.items() if key != storage.FRAMES}
        shorter = self._path.with_name(self._path.name + ".cut")
        whole = NetcdfStorage(shorter, self._compression)
        for frame in range(self._frames):
            part = self.read(frame, frame + 1)
            if frame:
                whole.append(part)
            else:
                whole.create(part, kept)
        self.close()
        whole.close()
        shorter.replace(self._path)
        with _LIBRARY:
            self._connect()
