"""Zarr groups that grow along their time axis."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import xarray
import zarr

from weatherlib.data import storage

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
        if self._format == 3 and not _has_version_3():
            raise ValueError(
                f"zarr_format 3 needs zarr 3; zarr {zarr.__version__} is installed"
            )

    @property
    def frames(self) -> int:
        """How many complete frames the file holds."""
        return self._frames

    def create(self, first: xarray.Dataset, attrs: Mapping[str, Any]) -> None:
        """Makes the group with its first frames."""
        self._group = _new_group(self._path, self._format)
        self._group.attrs.update({**_plain(attrs), storage.FRAMES: 0})
        extra = " ".join(sorted({*map(str, first.coords)} - {*map(str, first.dims)}))
        rounded = self._compression.round_dataset(first)
        for name, variable in rounded.variables.items():
            is_field = name in rounded.data_vars
            listed = {"coordinates": extra} if is_field and extra else {}
            array = self._new_array(str(name), variable, is_field=is_field)
            array.attrs.update(_plain({**variable.attrs, **listed}))
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
        """Opens an unfinished group and cuts off a frame that was not completed."""
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
            if "time" in _dimensions(array) and array.shape[0] > self._frames:
                array.resize((self._frames, *array.shape[1:]))
        return self.read(0, 0).assign_attrs(dict(self._group.attrs))

    def read(self, start: int, stop: int) -> xarray.Dataset:
        """Returns the frames from `start` up to `stop`."""
        data = {}
        for name, array in self._arrays.items():
            dims = _dimensions(array)
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
        self._group = _open_group(self._path)
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

    def _new_array(
        self, name: str, variable: xarray.Variable, *, is_field: bool
    ) -> Any:
        """Returns a new array with the shape of the variable and no values yet."""
        chunks = variable.shape or None
        if "time" in variable.dims:
            chunks = storage.chunk_sizes(variable, small=not is_field)
        # Readers take the fill value of format 2 for missing data, so numbers that may
        # be anything, such as a lead time of zero, have none.
        fill = np.nan if variable.dtype.kind == "f" else None
        settings: dict[str, Any] = {
            "shape": variable.shape,
            "chunks": chunks or (),
            "dtype": variable.dtype,
            "fill_value": fill,
            **self._compressors(),
        }
        if not _has_version_3():
            array = self._group.create(name, **settings)
        else:
            if self._format == 3:
                settings["dimension_names"] = variable.dims
            array = self._group.create_array(name, **settings)
        if self._format == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = list(variable.dims)
        return array

    def _compressors(self) -> dict[str, Any]:
        """Returns the setting that asks for the compression chosen."""
        level = self._compression.level
        keyword = "compressors" if _has_version_3() else "compressor"
        if level is None:
            return {}
        if level == 0:
            return {keyword: None}
        if self._format == 3:
            from zarr import codecs

            return {keyword: (codecs.GzipCodec(level=level),)}
        from numcodecs import Zlib

        return {keyword: Zlib(level)}


def _new_group(path: pathlib.Path, zarr_format: int) -> Any:
    """Returns a new group in an empty folder."""
    version: dict[str, Any] = {}
    if _has_version_3():
        version["zarr_format"] = zarr_format
    return zarr.open_group(str(path), mode="w-", **version)


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns attributes with NumPy's numbers as those of Python, for JSON."""
    return {
        str(key): value.tolist() if hasattr(value, "tolist") else value
        for key, value in attrs.items()
    }


def _open_group(path: pathlib.Path) -> Any:
    """Returns the group for writing.

    Consolidated metadata are left aside: they would give arrays their earlier length,
    and zarr cuts what is written behind it without a word.
    """
    aside: dict[str, Any] = {}
    if _has_version_3():
        aside["use_consolidated"] = False
    return zarr.open_group(str(path), mode="r+", **aside)


def _has_version_3() -> bool:
    """Tells whether the installed library is zarr 3, whose keywords differ."""
    return int(zarr.__version__.partition(".")[0]) >= 3


def _dimensions(array: Any) -> tuple[str, ...]:
    """Returns the names of an array's dimensions, in either format."""
    named = array.attrs.get("_ARRAY_DIMENSIONS")
    if named is None:
        named = array.metadata.dimension_names
    return tuple(named or ())
