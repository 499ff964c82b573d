"""What other archives call our dimensions and variables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import xarray

from weatherlib import variables
from weatherlib.data_utils import accumulation
from weatherlib.task import TaskConfig

__all__ = [
    "AXES",
    "MEMBERS",
    "axis_names",
    "closest",
    "find_source",
    "rename",
    "stored_levels",
    "task_variables",
]

# Names of axes in ERA5, GRIB, CMIP and other files, ours first.
AXES: Mapping[str, tuple[str, ...]] = {
    "lat": ("lat", "latitude", "nav_lat", "y"),
    "lon": ("lon", "longitude", "nav_lon", "x"),
    "level": (
        "level",
        "isobaricInhPa",
        "isobaricInPa",
        "pressure_level",
        "plev",
        "lev",
        "pressure",
    ),
    "time": ("time", "valid_time"),
    "batch": ("batch",),
}

# Names of the dimension of an ensemble, ours first.
MEMBERS = (
    "sample",
    "number",
    "realization",
    "member",
    "ensemble",
    "ensemble_member",
)

# Axes of map projections, which some files use for degrees.
_PLANE = ("y", "x")

# A quantity that becomes ours by a constant factor, which the units give.
_RELATED = {
    "geopotential": ("geopotential_height",),
    "geopotential_at_surface": ("orography",),
}


def axis_names(dataset: xarray.Dataset) -> dict[str, str]:
    """Returns what the dataset calls each of our axes, under our name.

    An axis that the dataset lacks is left out. A dimension with a coordinate goes
    before a coordinate alone, that before a dimension alone, and our own name before
    others.
    """
    found = {}
    for ours, names in AXES.items():
        theirs = [n for n in names if n not in _PLANE or _in_degrees(dataset, n)]
        held = [name for name in theirs if name in dataset.indexes]
        held += [name for name in theirs if name in dataset.coords]
        held += [name for name in theirs if name in dataset.dims]
        if held:
            found[ours] = held[0]
    return found


def _in_degrees(dataset: xarray.Dataset, name: str) -> bool:
    """Tells whether an axis called y or x holds degrees, not places in a projection."""
    if name not in dataset.coords or dataset[name].dtype.kind not in "iuf":
        return False
    stated = str(dataset[name].attrs.get("units", "")).lower()
    if stated:
        return stated.startswith("deg")
    values = dataset[name].values
    low, high = (-90, 90) if name == "y" else (-180, 360)
    return values.size > 0 and low <= values.min() and values.max() <= high


def rename(
    dataset: xarray.Dataset, names: Sequence[str]
) -> tuple[xarray.Dataset, dict[str, str]]:
    """Returns the data under our names, and what was renamed.

    Args:
      dataset: Not changed.
      names: Long names of the variables wanted.

    Returns:
      The dataset, and the old name of each axis and variable under its new one.
    """
    renamed = {o: t for o, t in axis_names(dataset).items() if o != t}
    in_the_way = [ours for ours in renamed if ours in dataset.variables]
    dataset = dataset.drop_vars(in_the_way)
    for name in names:
        source = None if name in dataset else find_source(name, dataset, names)
        if source is not None and source not in renamed.values():
            renamed[name] = source
    for ours, theirs in renamed.items():
        if theirs in dataset.dims:
            # Renaming a dimension and its coordinate apart makes no index, or keeps the
            # old one in older xarray.
            dataset = dataset.rename_dims({theirs: ours})
            if theirs in dataset.variables:
                dataset = dataset.rename_vars({theirs: ours})
                if dataset[ours].dims == (ours,) and ours not in dataset.xindexes:
                    dataset = dataset.set_xindex(ours)
        else:
            dataset = dataset.rename_vars({theirs: ours})
    # Forecast files carry the dates as CF has them, beside lead times.
    valid = dataset.coords.get("valid_time")
    if valid is not None and "time" in valid.dims and "datetime" not in dataset.coords:
        dataset = dataset.rename_vars(valid_time="datetime")
        renamed["datetime"] = "valid_time"
    return dataset, renamed


def find_source(
    name: str, dataset: xarray.Dataset, wanted: Sequence[str] = ()
) -> str | None:
    """Returns the variable of the dataset that holds the quantity under another name.

    Args:
      name: Long name of the quantity wanted.
      dataset: Looked through for short names, for quantities that differ by a constant
        factor only, such as geopotential height, and for precipitation whose attributes
        tell that it is summed over the same period.
      wanted: Names that stay, as they are wanted themselves.

    Returns:
      None where there is none, or where the name is held as it is.
    """
    candidates = []
    for quantity in (name, *_RELATED.get(name, ())):
        known = variables.VARIABLES.get(quantity)
        candidates += [quantity, *(known.short_names if known else ())]
    if name == "geopotential_at_surface":
        candidates.append("z")
    levels = set(AXES["level"])
    for candidate in candidates:
        if candidate in (name, *wanted) or candidate not in dataset.data_vars:
            continue
        # One level may be a coordinate without being a dimension.
        held = dataset[candidate]
        on_levels = bool(levels & {*map(str, held.dims), *map(str, held.coords)})
        # Surface files call the geopotential of the ground `z`, as level files call
        # that of the air.
        if candidate == "z" and on_levels == (name == "geopotential_at_surface"):
            continue
        return candidate
    hours = accumulation.hours_of_name(name)
    if hours is None:
        return None
    held = accumulation.periods(dataset).items()
    return next((n for n, h in held if h == hours and n not in (name, *wanted)), None)


def task_variables(task: TaskConfig) -> list[str]:
    """Returns every variable of the task once."""
    names = (*task.input_variables, *task.target_variables, *task.forcing_variables)
    return list(dict.fromkeys(names))


def closest(name: str, names: Iterable[str]) -> str | None:
    """Returns the most similar of the names, None where none is similar."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def stored_levels(level: xarray.DataArray) -> tuple[list[float], bool]:
    """Returns levels in hPa, and whether they had to be converted from Pa."""
    values = [float(value) for value in level.values.ravel()]
    units = str(level.attrs.get("units", "")).strip().lower()
    in_pascal = units in ("pa", "pascal") or (
        units not in ("hpa", "mb", "mbar", "millibars")
        and max(values, default=0) > 2000
    )
    return ([value / 100 for value in values], True) if in_pascal else (values, False)
