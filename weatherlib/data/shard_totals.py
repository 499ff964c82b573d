"""What shards have beside them: statistics, climatologies and the grid."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Mapping
from typing import final

import numpy as np

from weatherlib import writing
from weatherlib.checkpoint import npz
from weatherlib.data import shard_sources
from weatherlib.data_utils import moments

__all__ = ["Totals", "replace", "write_npz"]


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a file, which appears only when it is complete."""
    with writing.replacing(path, shared=True) as partial, partial.open("wb") as stream:
        npz.write(stream, arrays)
        stream.flush()
        os.fsync(stream.fileno())


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes bytes to a file, which appears only when it is complete."""
    with writing.replacing(path, shared=True) as partial:
        partial.write_bytes(content)


@final
class Totals:
    """Mean, spread and time means of what the shards hold.

    Args:
      source: The fields.
      published: Begin the statistics of fields on levels anew each year of training.
    """

    def __init__(self, source: shard_sources.ShardSource, *, published: bool) -> None:
        self._source = source
        self._published = published
        self._moments = {name: moments.Moments.empty(1) for name in source.fields}
        self._sums: dict[str, dict[str, np.ndarray]] = {}
        self._counts: dict[str, dict[str, np.ndarray]] = {}
        self._year = -1

    def add(self, split: str, year: int, path: pathlib.Path) -> None:
        """Adds a shard, which is read back one variable at a time.

        Raises:
          OSError: It is damaged.
        """
        if self._published and split == "train" and year != self._year:
            for name in self._source.on_levels:
                self._moments[name] = moments.Moments.empty(1)
            self._year = year
        sums = self._sums.setdefault(split, {})
        counts = self._counts.setdefault(split, {})
        with np.load(path, allow_pickle=False) as held:
            for name in self._source.fields:
                block = held[name]
                known = np.isfinite(block)
                plain = block if known.all() else np.where(known, block, 0)
                sums[name] = sums.get(name, 0) + plain.sum(axis=0, dtype=np.float64)
                counts[name] = counts.get(name, 0) + known.sum(axis=0)
                if split == "train":
                    self._moments[name].merge(_moments(block[known]))

    def write(self, folder: pathlib.Path) -> None:
        """Writes the grid, the climatologies and the statistics."""
        for split, sums in self._sums.items():
            counts = self._counts[split]
            means = {
                name: (total / np.where(counts[name], counts[name], np.nan))
                for name, total in sums.items()
            }
            single = {name: mean.astype(np.float32) for name, mean in means.items()}
            write_npz(folder / split / "climatology.npz", single)
        mean, stddev = {}, {}
        for name, constant in self._source.constants.items():
            mean[name] = np.array([constant.mean(dtype=np.float64)], np.float32)
            stddev[name] = np.array([constant.std(dtype=np.float64)], np.float32)
        for name, found in self._moments.items():
            mean[name] = found.known_mean.astype(np.float32)
            stddev[name] = found.stddev.astype(np.float32)
        for name in ("lat", "lon"):
            content = io.BytesIO()
            np.save(content, getattr(self._source, name))
            replace(folder / f"{name}.npy", content.getvalue())
        write_npz(folder / "normalize_mean.npz", mean)
        write_npz(folder / "normalize_std.npz", stddev)


def _moments(values: np.ndarray) -> moments.Moments:
    """Returns the moments of some values."""
    found = moments.Moments.empty(1)
    if values.size:
        found.weight[:] = found.count[:] = values.size
        found.mean[:] = values.mean(dtype=np.float64)
        found.squares[:] = values.var(dtype=np.float64) * values.size
        found.minimum[:] = values.min()
    return found
