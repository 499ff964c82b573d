"""What a file that grows frame by frame must be able to do.

A storage keeps the number of complete frames in an attribute that is written after the
frames themselves, so that whatever interrupts a write, the file says how much is good.
"""

from __future__ import annotations

import abc
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from weatherlib.data import layout

__all__ = [
    "FRAMES",
    "Compression",
    "Storage",
    "chunk_sizes",
    "growing",
    "with_coordinates",
]

# The attribute that only an unfinished file has.
FRAMES = "frames_written"

# Frames of the small time axes that share one chunk of the file.
_TIME_CHUNK = 1024
# Larger chunks than this are slow to read in part.
_CHUNK_BYTES = 2**26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compression:
    """How values are made smaller.

    Attributes:
      level: Effort from 1 to 9, 0 for none. None leaves NetCDF as it is and gives Zarr
        its usual compression.
      keep_bits: Mantissa bits that are kept when values are rounded, from 1 to 22; None
        stores values exactly. A forecast resumed from rounded values goes on from
        these, so it no longer repeats an unbroken one bit for bit.
    """

    level: int | None = None
    keep_bits: int | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= 9:
            raise ValueError(f"compression level must be 0 to 9, not {self.level}")
        if self.keep_bits is not None and not 1 <= self.keep_bits <= 22:
            raise ValueError(f"keep_bits must be 1 to 22, not {self.keep_bits}")

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Returns float32 values rounded to the mantissa bits kept, others unchanged.

        Source: rounding half to even of the bits dropped, doi:10.5194/gmd-14-377-2021.
        """
        if self.keep_bits is None or values.dtype != np.float32:
            return values
        bits = np.ascontiguousarray(values).view(np.uint32)
        dropped = 23 - self.keep_bits
        half = np.uint32((1 << (dropped - 1)) - 1)
        tie = (bits >> np.uint32(dropped)) & np.uint32(1)
        mask = np.uint32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
        result = ((bits + half + tie) & mask).view(np.float32)
        return np.where(np.isfinite(values), result, values)

    def round_dataset(self, frames: xarray.Dataset) -> xarray.Dataset:
        """Returns frames with all their variables rounded."""
        if self.keep_bits is None:
            return frames
        return frames.map(
            lambda array: array.copy(data=self.rounded(array.values)), keep_attrs=True
        )


class Storage(abc.ABC):
    """A file of frames in the encoded form of `layout`."""

    @property
    @abc.abstractmethod
    def frames(self) -> int:
        """How many complete frames the file holds."""

    @abc.abstractmethod
    def create(self, first: xarray.Dataset, attrs: Mapping[str, Any]) -> None:
        """Makes the file with its first frames."""

    @abc.abstractmethod
    def append(self, frames: xarray.Dataset) -> None:
        """Adds frames and makes sure that they are in the file."""

    @abc.abstractmethod
    def open(self) -> xarray.Dataset:
        """Opens a file that exists for more frames; returns it without its frames."""

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> xarray.Dataset:
        """Returns the frames from `start` up to `stop`."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Takes the mark of an unfinished file away and closes it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the file as it is; closing twice does nothing."""

    @staticmethod
    @abc.abstractmethod
    def remove(path: pathlib.Path) -> None:
        """Deletes a file of this kind."""


def growing(dataset: xarray.Dataset) -> list[str]:
    """Returns the names of what has a time axis, the axis itself last."""
    names = [str(n) for n, v in dataset.variables.items() if "time" in v.dims]
    return sorted(names, key=lambda name: name == "time")


def chunk_sizes(variable: xarray.Variable, *, small: bool) -> tuple[int, ...]:
    """Returns the chunk of a stored variable: one frame, of as many levels as fit.

    Args:
      variable: Time comes first.
      small: Many frames share a chunk, as for the time axis itself.
    """
    if small:
        return (_TIME_CHUNK, *variable.shape[1:])
    chunk = [1, *variable.shape[1:]]
    for axis in range(1, variable.ndim):
        size = int(np.prod(chunk)) * variable.dtype.itemsize
        chunk[axis] = max(1, chunk[axis] // max(1, -(-size // _CHUNK_BYTES)))
    return tuple(chunk)


def with_coordinates(variables: Mapping[str, xarray.Variable]) -> xarray.Dataset:
    """Returns stored variables as a dataset, axes and times as coordinates."""
    axes = {name for name, variable in variables.items() if variable.dims == (name,)}
    axes |= {layout.REFERENCE_TIME, layout.VALID_TIME} & set(variables)
    return xarray.Dataset(variables).set_coords(sorted(axes))
