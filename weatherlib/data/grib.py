"""GRIB files as one dataset with a single time axis."""

from __future__ import annotations

import pathlib
import sys
import warnings

import numpy as np
import xarray

from weatherlib import optional
from weatherlib.data import fields, lazy, windows

__all__ = ["open_grib", "with_lead_time", "with_valid_time"]

_LEAD = "prediction_timedelta"

_HEIGHT = "heightAboveGround"
_PRESSURE = "isobaricInhPa"
# Single coordinates that name a variable rather than a level of it.
_DROPPED = (
    _HEIGHT,
    "meanSea",
    "surface",
    "number",
    "depthBelowLandLayer",
    "entireAtmosphere",
)

# What a quantity is called where it lies at a height above ground, in metres.
_AT_HEIGHT = {
    ("r", 2.0): "2m_relative_humidity",
    ("t", 2.0): "2m_temperature",
    ("ws", 10.0): "10m_wind_speed",
    ("u", 10.0): "10m_u_component_of_wind",
    ("v", 10.0): "10m_v_component_of_wind",
    ("u", 100.0): "100m_u_component_of_wind",
    ("v", 100.0): "100m_v_component_of_wind",
}


def open_grib(path: pathlib.Path, *, by_start: bool = False) -> xarray.Dataset:
    """Returns all fields of a GRIB file, frames in the order of their valid time.

    Args:
      path: GRIB of edition 1 or 2, on a latitude-longitude grid.
      by_start: Whether forecasts stay by start and lead time, as `with_lead_time` has
        them.

    Raises:
      ImportError: The packages of the `grib` extra are not installed.
      OSError: The file is damaged or cut short.
      ValueError: Its fields do not go together in one dataset.
    """
    # With both in one process, pyproj must come first, or the interpreter crashes when
    # it ends. xarray loads eccodes with the first file of any kind.
    if "eccodes" not in sys.modules:
        optional.require("pyproj", extra="grib")
    cfgrib = optional.require("cfgrib", extra="grib")
    eccodes = optional.require("eccodes", extra="grib")
    with warnings.catch_warnings():
        # cfgrib merges with defaults of xarray that are about to change.
        warnings.simplefilter("ignore", FutureWarning)
        try:
            # Without an index file: none is left beside the data. What is damaged is
            # skipped, with a traceback on the terminal, unless it is to raise.
            parts = cfgrib.open_datasets(
                str(path),
                backend_kwargs={"indexpath": "", "errors": "raise"},
                squeeze=True,
            )
        except eccodes.GribInternalError as error:
            raise OSError(
                f"{path}: cannot be decoded as GRIB, damaged or cut short ({error}); "
                "fetch or write it again"
            ) from error
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise OSError(f"{path}: cannot be decoded as GRIB ({error})") from error
    if not parts:
        raise OSError(f"{path}: no field could be decoded as GRIB")
    parts = [by_height for part in _with_members(parts) for by_height in _heights(part)]
    parts = _unambiguous(path, [_without_labels(part) for part in parts])
    timed = with_lead_time if by_start else with_valid_time
    merged = _merge(path, [timed(part) for part in parts])
    return windows.with_windows(path, merged)


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
        # Short steps first, so that the first of equal times is the freshest.
        moments = valid.transpose("time", "step").values.T.ravel()
    else:
        moments = np.atleast_1d(valid.values)
    moments = moments.astype("datetime64[ns]")
    _, order = np.unique(moments, return_index=True)
    if len(dims) == 2:
        steps, starts = np.unravel_index(order, valid.transpose("step", "time").shape)
        series = {
            name: _series(array.variable, steps, starts)
            for name, array in flat.data_vars.items()
            if set(dims) & set(array.dims)
        }
        ordered = flat.drop_vars(list(series)).assign(series)
    else:
        frames = (
            flat.rename_dims({dims[0]: "frame"})
            if dims
            else (flat.expand_dims("frame"))
        )
        is_whole = (np.diff(order) == 1).all() and order.size == frames.sizes["frame"]
        frames = frames if is_whole else frames.isel(frame=order)
        ordered = frames.rename_dims({"frame": "time"})
    return ordered.assign_coords(time=moments[order])


def with_lead_time(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns forecasts by start and step as a set with the axes that ours have.

    Args:
      dataset: Has `time`, `step` and `valid_time`, each as an axis or single. Not
        changed.

    Returns:
      The dataset with the axes `time` of starts and `prediction_timedelta` of lead
      times in place of the three.
    """
    if not {"time", "step", "valid_time"} <= set(dataset.coords):
        return dataset
    coords = {}
    for old, new in (("time", "time"), ("step", _LEAD)):
        found = dataset[old].variable
        coords[new] = (new, np.atleast_1d(found.values), found.attrs)
    flat = dataset.drop_vars(["time", "step", "valid_time"])
    flat = flat.rename_dims({"step": _LEAD} if "step" in flat.dims else {})
    single = {dim: 1 for dim in ("time", _LEAD) if dim not in flat.dims}
    # Beside what has one of the axes, what has neither does not change.
    held = {"time", _LEAD} & set(flat.dims)
    expanded = {
        name: fields.expand(array.variable, {**single, **array.sizes})
        for name, array in flat.data_vars.items()
        if not held or held & set(array.dims)
    }
    return flat.drop_vars(list(expanded)).assign(expanded).assign_coords(coords)


def _series(
    variable: xarray.Variable, steps: np.ndarray, starts: np.ndarray
) -> xarray.Variable:
    """Returns the frames of given steps and starts as one time axis, lazily."""
    rest = {d: n for d, n in variable.sizes.items() if d not in ("time", "step")}
    frames = []
    for step, start in zip(steps, starts, strict=True):
        place = {"step": int(step), "time": int(start)}
        frame = variable.isel({d: i for d, i in place.items() if d in variable.dims})
        frames.append(fields.expand(frame, {"time": 1, **rest}))
    return lazy.join(frames, "time")


def _with_members(parts: list[xarray.Dataset]) -> list[xarray.Dataset]:
    """Returns the parts with control and perturbed members of one field as one."""
    joined: dict[tuple[str, ...], xarray.Dataset] = {}
    for part in parts:
        key = (
            *sorted(map(str, part.data_vars)),
            *sorted(map(_level_type, part.values())),
        )
        if key in joined and "number" in part.coords and "number" in joined[key].coords:
            joined[key] = _join_members(joined[key], part)
        elif key in joined:
            joined[(*key, str(len(joined)))] = part
        else:
            joined[key] = part
    return list(joined.values())


def _join_members(first: xarray.Dataset, second: xarray.Dataset) -> xarray.Dataset:
    """Returns two sets of members as one, in the order of their numbers."""
    both = [
        p if "number" in p.dims else p.expand_dims("number") for p in (first, second)
    ]
    members = np.concatenate([part["number"].values for part in both])
    joined = {
        name: lazy.join(
            [part[name].variable.transpose("number", ...) for part in both], "number"
        )
        for name in both[0].data_vars
    }
    whole = both[0].drop_dims("number").assign(joined).assign_coords(number=members)
    order = np.argsort(members, kind="stable")
    return whole if (np.diff(order) == 1).all() else whole.isel(number=order)


def _without_labels(part: xarray.Dataset) -> xarray.Dataset:
    """Returns the fields without single coordinates that name their height.

    Where the height makes another quantity of a variable, the name says so.
    """
    height = part.coords.get("heightAboveGround")
    if height is not None and not height.ndim:
        at_height = {
            name: ours
            for (name, metres), ours in _AT_HEIGHT.items()
            if name in part and metres == float(height)
        }
        part = part.rename_vars(at_height)
    labels = {*_DROPPED, *map(_level_type, part.values())} - {_PRESSURE, "isobaricInPa"}
    return part.drop_vars(
        [name for name in labels if name in part.coords and not part[name].ndim]
    )


def _level_type(array: xarray.DataArray) -> str:
    """Returns what GRIB calls the kind of level that a field lies on."""
    return str(array.attrs.get("GRIB_typeOfLevel", "unknown"))


def _heights(part: xarray.Dataset) -> list[xarray.Dataset]:
    """Returns fields at several heights, each of those that name a variable alone."""
    if _HEIGHT not in part.dims:
        return [part]
    found = []
    metres = part[_HEIGHT].values.tolist()
    for place, height in enumerate(metres):
        named = [name for name in part.data_vars if (name, height) in _AT_HEIGHT]
        if named:
            found.append(part[named].isel({_HEIGHT: place}))
    for name in part.data_vars:
        rest = [
            i for i, height in enumerate(metres) if (name, height) not in _AT_HEIGHT
        ]
        if rest:
            found.append(part[[name]].isel({_HEIGHT: rest}))
    return found


def _unambiguous(
    path: pathlib.Path, parts: list[xarray.Dataset]
) -> list[xarray.Dataset]:
    """Returns the parts without what has the name of a variable on pressure levels.

    Of a name on several kinds of level the fields on pressure levels are kept; of
    these, variables that are not on all of the levels are left out too. A warning
    names what is left out.

    Raises:
      ValueError: Nothing is left, or fields of one name are twice on pressure levels.
    """
    holders: dict[str, list[int]] = {}
    for place, part in enumerate(parts):
        for name in part.data_vars:
            holders.setdefault(str(name), []).append(place)
    dropped: dict[str, list[int]] = {}
    for name, places in holders.items():
        kept = [i for i in places if _level_type(parts[i][name]) == _PRESSURE]
        if len(kept) > 1:
            raise ValueError(
                f"{path}: {name} occurs more than once on pressure levels; split the "
                "file by type of level or step"
            )
        if len(places) > 1:
            dropped[name] = [i for i in places if i not in kept]
    if dropped and all(len(dropped.get(n, [])) == len(p) for n, p in holders.items()):
        raise ValueError(
            f"{path}: {', '.join(sorted(dropped))} occur on several kinds of level; "
            "split the file by type of level"
        )
    notes = [
        f"{name} on {', '.join(_level_type(parts[i][name]) for i in places)}"
        for name, places in dropped.items()
    ]
    fullest = max((_levels(part) for part in parts), key=len)
    for name, places in holders.items():
        for place in set(places) - set(dropped.get(name, [])):
            levels = _levels(parts[place])
            if levels and levels < fullest:
                dropped.setdefault(name, []).append(place)
                notes.append(f"{name} on {len(levels)} of {len(fullest)} levels")
    if notes:
        warnings.warn(
            f"{path}: left out {'; '.join(notes)}, which do not go together with the "
            "rest; split the file by type of level to read them",
            stacklevel=4,
        )
    left = [
        part.drop_vars([n for n, places in dropped.items() if place in places])
        for place, part in enumerate(parts)
    ]
    return [part for part in left if part.data_vars]


def _levels(part: xarray.Dataset) -> set[float]:
    """Returns the pressure levels of a part, none where it lies on others."""
    if _PRESSURE not in part.coords:
        return set()
    return set(np.atleast_1d(part[_PRESSURE].values).tolist())


def _merge(path: pathlib.Path, parts: list[xarray.Dataset]) -> xarray.Dataset:
    """Returns one dataset of parts that share their grid and times."""
    try:
        return xarray.merge(
            parts, join="exact", compat="no_conflicts", combine_attrs="drop_conflicts"
        )
    except (ValueError, xarray.MergeError) as error:
        raise ValueError(
            f"{path}: its fields are on different grids or times ({error}); split the "
            "file"
        ) from error
