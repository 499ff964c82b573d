"""Writes the folders of NumPy shards that ClimaX and its relatives are trained on.

The layout is that of the published preprocessing for ERA5: `train`, `val` and `test`
with files YEAR_NUMBER.npz of (time, 1, lat, lon), a `climatology.npz` in each, and
`normalize_mean.npz`, `normalize_std.npz`, `lat.npy` and `lon.npy` beside them. A year
has 365 days; the last day of a leap year is left out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, final

import numpy as np
import pandas as pd
import xarray

from weatherlib.data import shard_sources, shard_totals, shards

__all__ = ["ShardConfig", "ShardReport", "write_shards"]

Progress = Callable[[int, int, float], None]

_DAYS = 365
_MANIFEST = "shards.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How an archive is cut into shards.

    Attributes:
      start_train_year: First year of training.
      start_val_year: First year of validation, where training ends.
      start_test_year: First year of the test, where validation ends.
      end_year: First year that is left out again.
      shards_per_year: Files for each year.
      gaps: What to do about frames that the archive lacks: "stop"; "repeat" the frame
        nearest in time; or "nan".
      statistics: Which years the mean and standard deviation are of: "train", all of
        the training; or "published", which for variables on levels is its last year,
        as in the published preprocessing, where each year replaces the one before.

    Raises:
      ValueError: The years are not in order, or a year cannot be cut so.
    """

    start_train_year: int = 1979
    start_val_year: int = 2016
    start_test_year: int = 2017
    end_year: int = 2019
    shards_per_year: int = 8
    gaps: Literal["stop", "repeat", "nan"] = "stop"
    statistics: Literal["train", "published"] = "train"

    def __post_init__(self) -> None:
        years = (
            self.start_train_year,
            self.start_val_year,
            self.start_test_year,
            self.end_year,
        )
        if not years[0] < years[1] < years[2] < years[3]:
            raise ValueError(
                "training, validation and test have to begin one after the other and "
                f"the test to end after that, each at least a year long; found {years}"
            )
        if self.shards_per_year < 1:
            raise ValueError(
                f"shards_per_year must be at least 1, found {self.shards_per_year}"
            )

    @property
    def splits(self) -> dict[str, range]:
        """The years of each part."""
        return {
            "train": range(self.start_train_year, self.start_val_year),
            "val": range(self.start_val_year, self.start_test_year),
            "test": range(self.start_test_year, self.end_year),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What was written.

    Attributes:
      folder: Where to.
      written: New shards.
      kept: Shards that were there already.
      variables: Names in the shards.
      filled: Frames that were not in the archive, by variable.
    """

    folder: pathlib.Path
    written: int
    kept: int
    variables: tuple[str, ...]
    filled: Mapping[str, int]


def write_shards(
    source: shard_sources.ShardSource,
    folder: str | os.PathLike[str],
    config: ShardConfig,
    *,
    progress: Progress | None = None,
) -> ShardReport:
    """Writes shards, statistics and climatologies; goes on where an earlier run ended.

    One variable of one shard is in memory at a time. Each file appears when it is
    complete, the statistics after all shards.

    Args:
      source: The fields.
      folder: Where to.
      config: Years and how they are cut.
      progress: Is told the shards done, those in all, and the seconds.

    Raises:
      ValueError: The archive lacks frames and `gaps` is "stop", a year cannot be cut
        evenly, or the folder holds shards that were made otherwise.
      OSError: The disk is too small, or a file cannot be written.
    """
    folder = pathlib.Path(folder)
    frames = _frames_per_year(source, config)
    planned = _plan(source, config, frames)
    filled = _require_frames(planned, source, config)
    folder.mkdir(parents=True, exist_ok=True)
    _settle(folder, source, config)
    _require_space(folder, source, planned)
    totals = shard_totals.Totals(source, published=config.statistics == "published")
    began, written = time.perf_counter(), 0
    for number, shard in enumerate(planned, start=1):
        path = folder / shard.split / shard.name
        if not _stands(path, source, shard):
            path.parent.mkdir(exist_ok=True)
            shard_totals.write_npz(path, _Blocks(source, shard, config.gaps))
            written += 1
        totals.add(shard.split, shard.year, path)
        if progress is not None:
            progress(number, len(planned), time.perf_counter() - began)
    totals.write(folder)
    return ShardReport(
        folder=folder,
        written=written,
        kept=len(planned) - written,
        variables=(*source.constants, *source.fields),
        filled=filled,
    )


@dataclasses.dataclass(frozen=True)
class _Shard:
    """One file that is to be.

    Attributes:
      split: "train", "val" or "test".
      year: Its year.
      name: Its name.
      dates: Of its frames.
    """

    split: str
    year: int
    name: str
    dates: np.ndarray


def _frames_per_year(source: shard_sources.ShardSource, config: ShardConfig) -> int:
    """Returns the frames of a year of 365 days.

    Raises:
      ValueError: The step or the shards do not divide it.
    """
    year = pd.Timedelta(days=_DAYS)
    frames = int(year // source.step)
    if source.step * frames != year:
        raise ValueError(f"a step of {source.step} does not divide a year of 365 days")
    if frames % config.shards_per_year:
        fitting = [n for n in range(1, 41) if frames % n == 0]
        raise ValueError(
            f"{config.shards_per_year} shards do not divide the {frames} frames of a "
            f"year; {', '.join(map(str, fitting))} would"
        )
    return frames


def _plan(
    source: shard_sources.ShardSource, config: ShardConfig, frames: int
) -> list[_Shard]:
    step = source.step.to_timedelta64()
    length = frames // config.shards_per_year
    planned = []
    for split, years in config.splits.items():
        for year in years:
            dates = np.datetime64(f"{year:04d}-01-01", "ns") + np.arange(frames) * step
            for number in range(config.shards_per_year):
                part = dates[number * length : (number + 1) * length]
                planned.append(_Shard(split, year, f"{year}_{number}.npz", part))
    return planned


def _require_frames(
    planned: list[_Shard], source: shard_sources.ShardSource, config: ShardConfig
) -> dict[str, int]:
    """Returns how many frames each field lacks, before anything is written.

    Raises:
      ValueError: Some are lacking and nothing is to be put in their place, or all are.
    """
    wanted = np.concatenate([shard.dates for shard in planned])
    filled = {}
    for name, field in source.fields.items():
        dates = field["time"].values
        if len(np.unique(dates)) < len(dates):
            raise ValueError(f"{name}: a date occurs twice")
        lacking = wanted[~np.isin(wanted, dates)]
        if not len(lacking):
            continue
        first = str(lacking[0])[:13]
        if config.gaps == "stop" or len(lacking) == len(wanted):
            raise ValueError(
                f"{name}: lacks {len(lacking)} of {len(wanted)} frames, the first at "
                f"{first}; choose other years, or have gaps filled: repeat or nan"
            )
        filled[name] = len(lacking)
    return filled


def _settle(
    folder: pathlib.Path, source: shard_sources.ShardSource, config: ShardConfig
) -> None:
    """Notes how the shards are made, or makes sure that they were made so.

    Raises:
      ValueError: The folder holds others.
    """
    wanted = {
        **dataclasses.asdict(config),
        "variables": [*source.constants, *source.fields],
        "step": str(source.step),
        "grid": [len(source.lat), len(source.lon)],
    }
    path = folder / _MANIFEST
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf8"))
        except ValueError as error:
            raise ValueError(f"{path}: damaged ({error}); delete the folder") from error
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        if differing:
            raise ValueError(
                f"{folder}: holds shards that were made with another "
                f"{', '.join(differing)}; choose another folder, or delete it"
            )
        return
    if any(shards.find_shards(p) for p in folder.iterdir() if p.is_dir()):
        raise ValueError(f"{folder}: holds shards of another program")
    shard_totals.replace(path, json.dumps(wanted, indent=1).encode("utf8"))


def _require_space(
    folder: pathlib.Path, source: shard_sources.ShardSource, planned: list[_Shard]
) -> None:
    names = len(source.constants) + len(source.fields)
    field = 4 * names * len(source.lat) * len(source.lon)
    left = [s for s in planned if not (folder / s.split / s.name).exists()]
    needed = sum(len(shard.dates) for shard in left) * field
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are "
            "free; choose another disk, or fewer years or variables"
        )


@final
class _Blocks(Mapping[str, np.ndarray]):
    """The arrays of a shard, each of which is read when it is its turn."""

    def __init__(
        self, source: shard_sources.ShardSource, shard: _Shard, gaps: str
    ) -> None:
        self._source = source
        self._shard = shard
        self._gaps = gaps

    def __iter__(self) -> Iterator[str]:
        return iter((*self._source.constants, *self._source.fields))

    def __len__(self) -> int:
        return len(self._source.constants) + len(self._source.fields)

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns an array of (time, 1, lat, lon)."""
        if name in self._source.constants:
            constant = self._source.constants[name]
            shape = (len(self._shard.dates), 1, *constant.shape)
            return np.broadcast_to(constant, shape)
        return _block(self._source.fields[name], self._shard.dates, self._gaps)


def _block(field: xarray.DataArray, dates: np.ndarray, gaps: str) -> np.ndarray:
    """Returns the frames of a field at some dates; see `ShardConfig.gaps`."""
    index = pd.DatetimeIndex(field["time"].values)
    order = np.argsort(index.values, kind="stable")
    ordered = index[order]
    near = ordered.get_indexer(pd.DatetimeIndex(dates), method="nearest")
    places = order[near]
    first, last = int(places.min()), int(places.max())
    # One slice is read at once, whatever the order of dates in it.
    values = field.isel(time=slice(first, last + 1)).values.astype(np.float32)
    block = values[places - first][:, np.newaxis]
    if gaps == "nan":
        block[index.values[places] != dates] = np.nan
    return block


def _stands(
    path: pathlib.Path, source: shard_sources.ShardSource, shard: _Shard
) -> bool:
    """Whether a shard is there already, with all that belongs to it."""
    if not path.exists():
        return False
    size = (len(shard.dates), 1, len(source.lat), len(source.lon))
    wanted = dict.fromkeys((*source.constants, *source.fields), size)
    try:
        return shards.shapes(path) == wanted
    except (OSError, ValueError):
        return False
