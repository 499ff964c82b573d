"""A forecast kept in memory, under the protocol of the file writers."""

from __future__ import annotations

from typing import final

import numpy as np
import xarray

from weatherlib.data import continuity

__all__ = ["MemoryWriter"]


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
        continuity.require_order(chunk, last)
        self._chunks.append(chunk.map(_on_host, keep_attrs=True))

    def last_frames(self, n: int) -> xarray.Dataset:
        """Returns the last n frames.

        Raises:
          ValueError: There are fewer.
        """
        continuity.require_frames(n, self.frames_written)
        return self.dataset.isel(time=slice(self.frames_written - n, None))

    def close(self) -> None:
        """Ends the forecast; what was written stays."""
        self._closed = True

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _on_host(array: xarray.DataArray) -> xarray.DataArray:
    """Returns the array with its values in host memory."""
    return array.copy(data=np.asarray(array.values))
