"""Folders of NumPy shards, as ClimaX and its relatives are trained on."""

from __future__ import annotations

import pathlib
import re
import warnings
import zipfile
from typing import Any, NamedTuple, final

import numpy as np
import pandas as pd
import xarray
from xarray import backends
from xarray.core import indexing

from weatherlib.data import archive
from weatherlib.data_utils import times

__all__ = ["find_shards", "open_shards", "shapes"]

# 2000_3.npz of WeatherBench, 185001010600-185501010000_3.npz of CMIP6.
_SHARD = re.compile(r"(?:(\d{4})|(\d{12})-(\d{12}))_(\d+)\.npz")
# Shards hold no dates: a year of them covers this, leap days left out.
_HOURS_OF_YEAR = 8760
# Leap days are a share of 0.0007 of the time.
_LEAP_SHARE = 0.002
_LIKELY_STEPS = (1, 2, 3, 6, 12, 24)


class _Member(NamedTuple):
    """One array in a shard.

    Attributes:
      shape: Its shape.
      dtype: Of its numbers.
      offset: Where they begin, in bytes from the start of the member.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


def find_shards(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns files such as 2000_0.npz in a folder, by year and number."""
    found = [path for path in folder.iterdir() if _SHARD.fullmatch(path.name)]
    return sorted(found, key=_read_name)


def shapes(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each array in a shard, of which only headers are read.

    Raises:
      OSError: It is damaged.
      ValueError: It holds something else than plain arrays.
    """
    return {name: member.shape for name, member in _members(path).items()}


def open_shards(
    paths: list[pathlib.Path],
    *,
    time_step: Any = None,
    time_step_if_unknown: Any = None,
    skipped: dict[str, str] | None = None,
) -> tuple[xarray.Dataset, dict[str, xarray.Dataset]]:
    """Returns the data of shards along time, and nothing of their values is read.

    Args:
      paths: Files named YEAR_NUMBER.npz, or FIRST-LAST_NUMBER.npz as those of CMIP6,
        each with arrays of (time, 1, lat, lon). `lat.npy` and `lon.npy` lie beside them
        or one folder up.
      time_step: Between frames, such as "6h". Where it is None, the shards of the first
        year are taken to be all of it; with shards left out, those of the first year
        that none is missing from.
      time_step_if_unknown: Between frames where they are not all of a year, or would
        lie further apart if they were.
      skipped: Leave out damaged shards, with one warning that counts and names them,
        and take their names and what is wrong with them. The time of the others follows
        from their numbers.

    Returns:
      An empty dataset with the grid, and the data of each shard under its file name.

    Raises:
      FileNotFoundError: The grid is missing.
      ValueError: The step cannot be told, or a shard holds something else.
      OSError: A shard is damaged.
    """
    grid = _grid(paths[0].parent)
    members = _all_members(paths, skipped=skipped)
    frames = {path: _frames(path, held) for path, held in members.items()}
    usual = max(frames.values())
    step = _step(paths, frames, time_step, time_step_if_unknown)
    _require_room(frames, usual, step)
    parts = {}
    for path in members:
        label = _read_name(path)
        first = label.number * usual
        dates = label.begin + (first + np.arange(frames[path])) * step.to_timedelta64()
        fields = {
            name: _field(path, name, member, grid)
            for name, member in members[path].items()
        }
        parts[str(path)] = xarray.Dataset(
            fields, coords={**grid.coords, "time": dates.astype("datetime64[ns]")}
        )
    return grid, parts


class _Name(NamedTuple):
    """What the name of a shard says.

    Attributes:
      begin: First time of the year, or of the years, that the shard is a part of.
      number: Of the part.
      hours: How long they are; leap days are left out of single years.
    """

    begin: np.datetime64
    number: int
    hours: float


def _read_name(path: pathlib.Path) -> _Name:
    match = _SHARD.fullmatch(path.name)
    if match is None:
        raise ValueError(
            f"{path}: shards are named YEAR_NUMBER.npz, as 2000_0.npz, or "
            "FIRST-LAST_NUMBER.npz, as 185001010600-185501010000_0.npz"
        )
    year, first, last, number = match.groups()
    if year is not None:
        begin = np.datetime64(f"{year}-01-01", "ns")
        return _Name(begin, int(number), _HOURS_OF_YEAR)
    begin, end = (_date(text, path) for text in (first, last))
    return _Name(begin, int(number), (end - begin) / np.timedelta64(1, "h"))


def _date(text: str, path: pathlib.Path) -> np.datetime64:
    try:
        date = f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:]}"
        return np.datetime64(date, "ns")
    except ValueError as error:
        raise ValueError(f"{path}: {text} is no date ({error})") from error


def _grid(folder: pathlib.Path) -> xarray.Dataset:
    """Returns latitude and longitude of the shards of a folder."""
    for place in (folder, folder.parent):
        lat, lon = place / "lat.npy", place / "lon.npy"
        if lat.exists() and lon.exists():
            try:
                axes = {
                    "lat": np.load(lat, allow_pickle=False),
                    "lon": np.load(lon, allow_pickle=False),
                }
            except (OSError, ValueError, EOFError) as error:
                raise OSError(f"{lat}, {lon}: damaged ({error})") from error
            return xarray.Dataset(coords={n: v.ravel() for n, v in axes.items()})
    raise FileNotFoundError(
        f"{folder}: shards need lat.npy and lon.npy beside them or one folder up"
    )


def _all_members(
    paths: list[pathlib.Path], *, skipped: dict[str, str] | None
) -> dict[pathlib.Path, dict[str, _Member]]:
    """Returns the arrays of each shard."""
    members, failed = {}, {}
    for path in paths:
        try:
            members[path] = _members(path)
        except OSError as error:
            if skipped is None:
                if len(paths) > 1:
                    error.add_note(f"one of {len(paths)} shards; {archive.SKIP_HINT}")
                raise
            failed[str(path)] = str(error)
    reasons = list(failed.values())
    if not members:
        raise OSError(f"none of the {len(paths)} shards can be read: {reasons[0]}")
    if failed:
        assert skipped is not None, "without it the first damaged shard is an error"
        skipped.update(failed)
        warnings.warn(
            f"skipped {len(failed)} of {len(paths)} shards: {'; '.join(reasons[:3])}",
            stacklevel=3,
        )
    return members


def _members(path: pathlib.Path) -> dict[str, _Member]:
    """Returns the arrays of a shard, of which only the headers are read."""
    members = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    if version == (1, 0):
                        header = np.lib.format.read_array_header_1_0(file)
                    else:
                        header = np.lib.format.read_array_header_2_0(file)
                    shape, in_columns, dtype = header
                    members[name.removesuffix(".npy")] = _Member(
                        shape, dtype, file.tell()
                    )
                    if dtype.hasobject or in_columns:
                        raise TypeError(name)
    except TypeError as error:
        raise ValueError(
            f"{path}: {error} holds Python objects (a pickle) or columns first, which "
            "are not read; save plain arrays"
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise OSError(f"{path}: damaged or cut short ({error})") from error
    return members


def _frames(path: pathlib.Path, members: dict[str, _Member]) -> int:
    """Returns how many frames a shard has."""
    lengths = {m.shape[0] for m in members.values() if len(m.shape) in (3, 4)}
    if len(lengths) != 1:
        raise ValueError(
            f"{path}: arrays of (time, 1, lat, lon) with one length are needed, found "
            f"{ {name: m.shape for name, m in members.items()} }"
        )
    return lengths.pop()


def _step(
    paths: list[pathlib.Path],
    frames: dict[pathlib.Path, int],
    time_step: Any,
    otherwise: Any,
) -> pd.Timedelta:
    """Returns the time between frames."""
    if time_step is not None:
        return times.as_timedelta(time_step)
    broken = {_read_name(path).begin for path in paths if path not in frames}
    whole = [path for path in paths if _read_name(path).begin not in broken]
    name = _read_name((whole or paths)[0])
    count = sum(n for path, n in frames.items() if _read_name(path).begin == name.begin)
    found = _step_of_whole(name, count) if whole else None
    if otherwise is not None:
        given = times.as_timedelta(otherwise)
        # Half a year of 6-hourly frames has as many as a year of 12-hourly ones.
        if found is None or given < found:
            return given
    if found is not None:
        return found
    lacks = "" if whole else ", because damaged ones are left out,"
    raise ValueError(
        f"{paths[0].parent}: shards hold no dates, and the {count} frames from "
        f"{str(name.begin)[:10]} on are{lacks} not a whole year, or not all years that "
        "the names say; give the step, such as time_step='6h' (data.time_step=6h of "
        "train, --step 6h of stats)"
    )


def _step_of_whole(name: _Name, count: int) -> pd.Timedelta | None:
    """Returns the step with which so many frames fill the time of a name, if any."""
    # Several years of the published data lack their leap days, and a frame.
    slack = 0 if name.hours == _HOURS_OF_YEAR else _LEAP_SHARE * name.hours
    for hours in _LIKELY_STEPS:
        if abs(count * hours - name.hours) <= slack:
            return times.as_timedelta(f"{hours}h")
    return None


def _require_room(
    frames: dict[pathlib.Path, int], usual: int, step: pd.Timedelta
) -> None:
    """Checks that frames so far apart lie in the year that their names say.

    Raises:
      ValueError: They reach beyond it.
    """
    hours_apart = step.total_seconds() / 3600
    for path, count in frames.items():
        name = _read_name(path)
        hours = (name.number * usual + count - 1) * hours_apart
        # A leap year is a day longer.
        if hours >= name.hours + 24:
            raise ValueError(
                f"{path}: at a step of {step} its {count} frames would reach "
                f"{hours / 24:.4g} days beyond {str(name.begin)[:10]}, and its name "
                f"says {name.hours / 24:.4g} days; give the step they are stored at"
            )


def _field(
    path: pathlib.Path, name: str, member: _Member, grid: xarray.Dataset
) -> xarray.Variable:
    """Returns one array of a shard as a lazy field."""
    size = (grid.sizes["lat"], grid.sizes["lon"])
    if member.shape[-2:] != size:
        raise ValueError(
            f"{path}: {name} has the shape {member.shape}, the grid {size[0]} x "
            f"{size[1]}"
        )
    data = indexing.LazilyIndexedArray(_Rows(path, name, member))
    dims = ("time", "channel", "lat", "lon")
    dims = dims if len(member.shape) == 4 else ("time", "lat", "lon")
    field = xarray.Variable(dims, data)
    return field.isel(channel=0) if "channel" in dims else field


@final
class _Rows(backends.BackendArray):
    """An array in a shard, of which the wanted rows are read."""

    def __init__(self, path: pathlib.Path, name: str, member: _Member) -> None:
        self._path = path
        self._name = name
        self._offset = member.offset
        self.shape = member.shape
        self.dtype = member.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Returns one outer index of the array."""
        places = np.atleast_1d(np.arange(self.shape[0])[key[0]])
        first, last = (places.min(), places.max()) if places.size else (0, -1)
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        try:
            content = self._content(int(first) * row, int(last - first + 1) * row)
        except zipfile.BadZipFile as error:
            raise OSError(f"{self._path}: damaged ({error})") from error
        count = int(last - first + 1)
        if len(content) < count * row:
            raise OSError(f"{self._path}: {self._name} is cut short")
        rows = np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        picked = rows[places - first]
        for axis in range(1, picked.ndim):
            index = key[axis]
            kept = slice(index, index + 1) if isinstance(index, int) else index
            picked = picked[(slice(None),) * axis + (kept,)]
        single = tuple(0 if isinstance(k, int) else slice(None) for k in key)
        return picked[single].copy()

    def _content(self, start: int, length: int) -> bytes:
        """Returns bytes of the numbers."""
        with (
            zipfile.ZipFile(self._path) as archive,
            archive.open(f"{self._name}.npy") as file,
        ):
            file.seek(self._offset + start)
            return file.read(length)
