"""The fields of an archive under the names that ClimaX shards have for them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray

from weatherlib import task
from weatherlib.data import open as opening
from weatherlib.data_utils import lexicon, times

__all__ = ["CONSTANTS", "ShardSource", "open_source"]

CONSTANTS = ("land_sea_mask", "orography", "lattitude")
"""Fields without time, which every shard repeats; spelled as published."""

_CONSTANT_FILES = ("constants.nc", "constants")
_NAME_AND_LEVEL = re.compile(r"(.+?)_(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSource:
    """What shards are made of.

    Attributes:
      lat: Degrees north, shape [lat], in the order of the archive.
      lon: Degrees east, shape [lon].
      constants: Fields without time by name, shape [lat, lon].
      fields: Fields of (time, lat, lon) by name, of which nothing is read yet. A level
        is part of the name, such as `geopotential_500`.
      step: Time between frames.
      on_levels: Names of fields that are levels of one variable.
    """

    lat: np.ndarray
    lon: np.ndarray
    constants: Mapping[str, np.ndarray]
    fields: Mapping[str, xarray.DataArray]
    step: pd.Timedelta
    on_levels: frozenset[str] = frozenset()


def open_source(
    source: str | os.PathLike[str],
    *,
    variables: Sequence[str] = (),
    levels: Sequence[int] = task.PRESSURE_LEVELS_WEATHERBENCH_13,
    step: str | None = None,
) -> ShardSource:
    """Returns the fields of an archive.

    Args:
      source: A folder of WeatherBench with a folder of NetCDF files for each variable
        and `constants.nc`, or anything that `open_dataset` takes.
      variables: Names wanted; all by default.
      levels: Levels taken of those there are, hPa.
      step: Time between frames; that of the first variable by default.

    Raises:
      FileNotFoundError: There is nothing of that name, or a variable is missing.
      ValueError: Variables do not lie on one grid, or what is there is not understood.
      OSError: A file is damaged.
    """
    folder = pathlib.Path(source)
    if _is_by_variable(folder):
        parts = _by_variable(folder, variables)
    else:
        dataset = _with_dates(opening.open_dataset(source), str(source))
        parts = _of_dataset(dataset, str(source), variables)
    first = next(iter(parts.values()))
    fields: dict[str, xarray.DataArray] = {}
    constants: dict[str, np.ndarray] = {}
    on_levels: set[str] = set()
    for name, array in parts.items():
        _require_grid(name, array, first)
        if "time" not in array.dims:
            constants[name] = array.transpose("lat", "lon").values.astype(np.float32)
        else:
            found = _by_level(name, array, levels)
            fields |= found
            on_levels |= set(found) - {name}
    if not fields:
        raise ValueError(f"{source}: nothing in it has a time; shards need that")
    return ShardSource(
        lat=first["lat"].values,
        lon=first["lon"].values,
        constants=constants,
        fields=fields,
        step=times.as_timedelta(step) if step else _step_of(fields),
        on_levels=frozenset(on_levels),
    )


def _is_by_variable(folder: pathlib.Path) -> bool:
    """Whether a folder holds folders of NetCDF files."""
    return folder.is_dir() and any(
        path.is_dir() and any(path.glob("*.nc")) for path in folder.iterdir()
    )


def _by_variable(
    folder: pathlib.Path, variables: Sequence[str]
) -> dict[str, xarray.DataArray]:
    """Returns the variables of a WeatherBench folder, constants first."""
    held = {p.name: p for p in sorted(folder.iterdir()) if any(p.glob("*.nc"))}
    held.pop("constants", None)
    parts: dict[str, xarray.DataArray] = {}
    for name in _CONSTANT_FILES:
        if (folder / name).exists():
            constants = opening.open_dataset(folder / name)
            parts = {n: constants[n] for n in CONSTANTS if n in constants}
            break
    missing = [n for n in variables if n not in held and n not in parts]
    if missing:
        raise FileNotFoundError(
            f"{folder}: there is no folder for {', '.join(missing)}; there are "
            f"{', '.join(held)}"
        )
    parts = {n: a for n, a in parts.items() if not variables or n in variables}
    for name in variables or held:
        if name not in parts:
            parts[name] = _variable(held[name])
    return parts


def _variable(folder: pathlib.Path) -> xarray.DataArray:
    """Returns the variable of a folder that bears its name, perhaps with a level.

    Raises:
      ValueError: It is not among those in the files.
    """
    dataset = opening.open_dataset(folder, canonical=False)
    match = _NAME_AND_LEVEL.fullmatch(folder.name)
    names = [folder.name, *([match[1]] if match else [])]
    dataset, _ = lexicon.rename(dataset, names)
    held = [name for name in names if name in dataset]
    if not held and len(dataset.data_vars) == 1:
        held = [str(name) for name in dataset.data_vars]
    if not held:
        raise ValueError(
            f"{folder}: holds no {folder.name} but {', '.join(map(str, dataset))}"
        )
    array = dataset[held[0]]
    return (
        array.squeeze("level", drop=True) if _is_on_one_level(array, match) else array
    )


def _is_on_one_level(array: xarray.DataArray, match: re.Match[str] | None) -> bool:
    return match is not None and array.sizes.get("level") == 1


def _with_dates(dataset: xarray.Dataset, source: str) -> xarray.Dataset:
    """Returns the frames of the only member, with the dates of `datetime` as time.

    Raises:
      ValueError: There are several members.
    """
    if dataset.sizes.get("batch", 1) != 1:
        raise ValueError(
            f"{source}: holds {dataset.sizes['batch']} batch members; shards are made "
            "of one, choose it first"
        )
    if "datetime" in dataset.coords:
        dates = times.valid_times(dataset)
        dataset = dataset.drop_vars("datetime").assign_coords(
            time=("time", dates.values.reshape(-1))
        )
    return dataset.squeeze("batch", drop=True) if "batch" in dataset.dims else dataset


def _of_dataset(
    dataset: xarray.Dataset, source: str, variables: Sequence[str]
) -> dict[str, xarray.DataArray]:
    """Returns the variables of one dataset, constants first."""
    if "lattitude" not in dataset and {"lat", "lon"} <= set(dataset.coords):
        shape = (dataset.sizes["lat"], dataset.sizes["lon"])
        rows = np.broadcast_to(dataset["lat"].values[:, np.newaxis], shape)
        dataset = dataset.assign(lattitude=(("lat", "lon"), rows))
    names = [str(name) for name in dataset.data_vars]
    missing = [name for name in variables if name not in names]
    if missing:
        raise FileNotFoundError(
            f"{source}: there is no {', '.join(missing)}; there are {', '.join(names)}"
        )
    chosen = [
        name
        for name in (variables or names)
        if {"lat", "lon"} <= set(dataset[name].dims)
    ]
    chosen.sort(key=lambda name: "time" in dataset[name].dims)
    return {name: dataset[name] for name in chosen}


def _require_grid(name: str, array: xarray.DataArray, first: xarray.DataArray) -> None:
    """Checks that a variable lies on the grid of the others, and has no more axes.

    Raises:
      ValueError: It does not.
    """
    strange = set(map(str, array.dims)) - {"time", "level", "lat", "lon"}
    if strange or not {"lat", "lon"} <= set(array.dims):
        raise ValueError(
            f"{name}: has the dimensions {tuple(array.dims)}; time, level, lat and lon "
            "are needed"
        )
    for axis in ("lat", "lon"):
        ours, theirs = array[axis].values, first[axis].values
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, atol=1e-4):
            raise ValueError(
                f"{name}: its {axis} differs from that of {first.name}; regrid one of "
                "them"
            )


def _by_level(
    name: str, array: xarray.DataArray, levels: Sequence[int]
) -> dict[str, xarray.DataArray]:
    """Returns a variable level by level, or whole where it has none."""
    if "level" not in array.dims:
        return {name: array.transpose("time", "lat", "lon")}
    found, _ = lexicon.stored_levels(array["level"])
    places = {round(level): place for place, level in enumerate(found)}
    chosen = [level for level in sorted(places) if level in levels]
    if not chosen:
        raise ValueError(
            f"{name}: lies on {', '.join(map(str, sorted(places)))} hPa, none of which "
            f"is wanted ({', '.join(map(str, levels))})"
        )
    plain = array.transpose("time", "level", "lat", "lon")
    return {f"{name}_{v}": plain.isel(level=places[v], drop=True) for v in chosen}


def _step_of(fields: Mapping[str, xarray.DataArray]) -> pd.Timedelta:
    """Returns the usual time between frames of the first field.

    Raises:
      ValueError: There is one frame only, or the calendar is not the usual one.
    """
    name, array = next(iter(fields.items()))
    dates = array["time"].values
    if len(dates) < 2 or dates.dtype.kind != "M":
        raise ValueError(
            f"{name}: at least two dates of the usual calendar are needed, found "
            f"{len(dates)} of type {dates.dtype}"
        )
    found, counts = np.unique(np.diff(dates), return_counts=True)
    return times.as_timedelta(found[counts.argmax()])
