"""Zarr groups that grow along their time axis."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import xarray
import zarr

from weatherlib.data import storage, zarr_groups

__all__ = ["ZarrStorage"]


@final
class ZarrStorage(storage.Storage):
    """A Zarr group with one chunk, or several, for each frame of a variable.

    Format 2 is the default: its consolidated metadata are one small file that changes
    at once, so a reader sees complete frames only, whenever it looks.
    """

    def __init__(
        self,
        path: pathlib.Path,
        compression: storage.Compression,
        zarr_format: int | None = None,
    ) -> None:
        self._path = path
        self._compression = compression
        self._format = zarr_format or 2
        self._group: Any = None
        self._arrays: dict[str, Any] = {}
        self._frames = 0
        if self._format not in (2, 3):
            raise ValueError(f"zarr_format must be 2 or 3, not {zarr_format}")
        zarr_groups.require_format(self._format, "zarr_format 3")

    @property
    def frames(self) -> int:
        """How many complete frames the file holds."""
        return self._frames

    def create(self, first: xarray.Dataset, attrs: Mapping[str, Any]) -> None:
        """Makes the group with its first frames."""
        self._group = zarr_groups.new_group(self._path, self._format)
        self._group.attrs.update({**zarr_groups.plain(attrs), storage.FRAMES: 0})
        extra = " ".join(sorted({*map(str, first.coords)} - {*map(str, first.dims)}))
        rounded = self._compression.round_dataset(first)
        for name, variable in rounded.variables.items():
            is_field = name in rounded.data_vars
            listed = {"coordinates": extra} if is_field and extra else {}
            chunks = variable.shape
            if "time" in variable.dims:
                chunks = storage.chunk_sizes(variable, small=not is_field)
            array = zarr_groups.new_array(
                self._group,
                str(name),
                zarr_groups.ArraySpec(
                    dims=tuple(map(str, variable.dims)),
                    shape=variable.shape,
                    chunks=chunks,
                    dtype=variable.dtype,
                ),
                zarr_format=self._format,
                level=self._compression.level,
            )
            array.attrs.update(zarr_groups.plain({**variable.attrs, **listed}))
            array[...] = variable.values
        self._connect()
        self._mark(first.sizes["time"])

    def append(self, frames: xarray.Dataset) -> None:
        """Adds frames; readers see them once all are there."""
        start, stop = self._frames, self._frames + frames.sizes["time"]
        rounded = self._compression.round_dataset(frames)
        names = storage.growing(rounded)
        for name in names:
            array = self._arrays[name]
            array.resize((stop, *array.shape[1:]))
        for name in reversed(names):
            self._arrays[name][start:stop] = rounded[name].values
        self._mark(stop)

    def open(self) -> xarray.Dataset:
        """Opens an unfinished group and cuts off a frame that was not completed.

        Raises:
          ValueError: It is no forecast of this library.
          OSError: It cannot be read.
        """
        try:
            self._connect()
        except (KeyError, ValueError, FileNotFoundError) as error:
            raise OSError(f"{self._path}: cannot be read as Zarr ({error})") from error
        if storage.FRAMES not in self._group.attrs:
            raise ValueError(
                f"{self._path}: not an unfinished forecast of this library"
            )
        self._frames = int(self._group.attrs[storage.FRAMES])
        for array in self._arrays.values():
            if (
                "time" in zarr_groups.dimensions(array)
                and array.shape[0] > self._frames
            ):
                array.resize((self._frames, *array.shape[1:]))
        return self.read(0, 0).assign_attrs(dict(self._group.attrs))

    def read(self, start: int, stop: int) -> xarray.Dataset:
        """Returns the frames from `start` up to `stop`."""
        data = {}
        for name, array in self._arrays.items():
            dims = zarr_groups.dimensions(array)
            part = slice(start, stop) if "time" in dims else slice(None)
            values = np.asarray(array[part] if dims else array[...])
            hidden = ("_ARRAY_DIMENSIONS", "_FillValue", "coordinates")
            attrs = {k: v for k, v in dict(array.attrs).items() if k not in hidden}
            data[name] = xarray.Variable(dims, values, attrs)
        return storage.with_coordinates(data)

    def finish(self) -> None:
        """Takes the mark of an unfinished file away and closes it."""
        del self._group.attrs[storage.FRAMES]
        self._consolidate()
        self.close()

    def close(self) -> None:
        """Closes the group as it is."""
        self._group, self._arrays = None, {}

    @staticmethod
    def remove(path: pathlib.Path) -> None:
        """Deletes the group."""
        shutil.rmtree(path)

    def _connect(self) -> None:
        self._group = zarr_groups.open_group(self._path)
        self._arrays = dict(sorted(self._group.arrays()))

    def _mark(self, frames: int) -> None:
        """Writes the number of complete frames after the frames themselves."""
        self._group.attrs[storage.FRAMES] = frames
        self._consolidate()
        self._frames = frames

    def _consolidate(self) -> None:
        """Shows what is there to readers. Format 3 has no such metadata."""
        if self._format == 2:
            zarr.consolidate_metadata(str(self._path))
