"""GRIB files as one dataset with a single time axis."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray

from weatherlib import optional

__all__ = ["open_grib", "with_valid_time"]

# Heights above ground that name a variable rather than a level of it.
_DROPPED = (
    "heightAboveGround",
    "meanSea",
    "surface",
    "number",
    "depthBelowLandLayer",
    "entireAtmosphere",
)


def open_grib(path: pathlib.Path) -> xarray.Dataset:
    """Returns all fields of a GRIB file, frames in the order of their valid time.

    Args:
      path: GRIB of edition 1 or 2, on a latitude-longitude grid.

    Raises:
      ImportError: The packages of the `grib` extra are not installed.
      OSError: The file cannot be decoded.
      ValueError: Its fields do not go together in one dataset.
    """
    # eccodes crashes the interpreter when it is loaded before pyproj.
    optional.require("pyproj", extra="grib")
    cfgrib = optional.require("cfgrib", extra="grib")
    with warnings.catch_warnings():
        # cfgrib merges with defaults of xarray that are about to change.
        warnings.simplefilter("ignore", FutureWarning)
        try:
            # Without an index file: none is left beside the data.
            parts = cfgrib.open_datasets(
                str(path), backend_kwargs={"indexpath": ""}, squeeze=True
            )
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise OSError(f"{path}: cannot be decoded as GRIB ({error})") from error
    if not parts:
        raise OSError(f"{path}: no field could be decoded as GRIB")
    parts = [_without_labels(part) for part in _with_members(parts)]
    return _merge(path, [with_valid_time(part) for part in parts])


def with_valid_time(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns forecasts by start and step as one series by valid time.

    Where several forecasts reach one time, the one of the shortest step is kept.

    Args:
      dataset: Has `time`, `step` and `valid_time`, each as an axis or single. Not
        changed.

    Returns:
      The dataset with the ascending axis `time` of valid times in place of the three.
    """
    if "valid_time" not in dataset.coords:
        return dataset
    valid = dataset["valid_time"]
    dims = [dim for dim in ("time", "step") if dim in dataset.dims]
    flat = dataset.drop_vars(["time", "step", "valid_time"], errors="ignore")
    if len(dims) == 2:
        valid = valid.transpose("time", "step")
        # Short steps first, so that the first of equal times is the freshest.
        flat = flat.transpose("time", "step", ...)
        stacked = flat.map(_flatten, keep_attrs=True)
        moments = valid.values.T.ravel()
    elif dims:
        stacked = flat.rename_dims({dims[0]: "frame"})
        moments = np.atleast_1d(valid.values)
    else:
        stacked = flat.expand_dims("frame")
        moments = np.atleast_1d(valid.values)
    moments = moments.astype("datetime64[ns]")
    _, order = np.unique(moments, return_index=True)
    ordered = stacked.isel(frame=order).rename_dims({"frame": "time"})
    return ordered.assign_coords(time=moments[order])


def _flatten(array: xarray.DataArray) -> xarray.DataArray:
    """Returns the array with the axes of start and step as one, steps outermost."""
    if not {"time", "step"} <= set(array.dims):
        return array
    rest: list[Hashable] = [dim for dim in array.dims if dim not in ("time", "step")]
    turned = array.transpose("step", "time", *rest)
    shape = (-1, *(array.sizes[dim] for dim in rest))
    coords: dict[Any, Any] = {dim: array[dim] for dim in rest if dim in array.coords}
    return xarray.DataArray(
        turned.values.reshape(shape), coords, ("frame", *rest), attrs=array.attrs
    )


def _with_members(parts: list[xarray.Dataset]) -> list[xarray.Dataset]:
    """Returns the parts with control and perturbed members of one field as one."""
    joined: dict[tuple[str, ...], xarray.Dataset] = {}
    for part in parts:
        key = tuple(sorted(map(str, part.data_vars)))
        if key in joined and "number" in part.coords and "number" in joined[key].coords:
            both = [
                p if "number" in p.dims else p.expand_dims("number")
                for p in (joined[key], part)
            ]
            merged = xarray.concat(
                both,
                dim="number",
                data_vars="minimal",
                coords="minimal",
                compat="override",
                join="exact",
                combine_attrs="drop_conflicts",
            )
            joined[key] = merged.sortby("number")
        elif key in joined:
            joined[(*key, str(len(joined)))] = part
        else:
            joined[key] = part
    return list(joined.values())


def _without_labels(part: xarray.Dataset) -> xarray.Dataset:
    """Returns the fields without single coordinates that name their height."""
    single = [name for name in _DROPPED if name in part.coords and not part[name].ndim]
    return part.drop_vars(single)


def _merge(path: pathlib.Path, parts: list[xarray.Dataset]) -> xarray.Dataset:
    """Returns one dataset of parts that share their grid and times."""
    names = [str(name) for part in parts for name in part.data_vars]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{path}: {', '.join(twice)} occur on several kinds of level; split the "
            "file by type of level"
        )
    try:
        return xarray.merge(
            parts, join="exact", compat="no_conflicts", combine_attrs="drop_conflicts"
        )
    except (ValueError, xarray.MergeError) as error:
        raise ValueError(
            f"{path}: its fields are on different grids or times ({error}); split the "
            "file"
        ) from error
