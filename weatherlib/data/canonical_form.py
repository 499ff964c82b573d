"""One form for the data of every archive: names, units, axes and their order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data import axes, fields, lazy
from weatherlib.data_utils import date_forms, lexicon, recognise, times

__all__ = ["canonical", "sort_times", "with_time_axis"]

_Step = Callable[[xarray.Dataset], tuple[xarray.Dataset, list[str]]]

# The codes of a mask that tells more than land from sea, in the title of its file.
_MASK_CODES = re.compile(r"0=ocean, 1=land, 2=lake, 3=small island, 4=ice shelf", re.I)


def canonical(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Returns the data under our names, in our units and order, and what was changed.

    Nothing is lost but repeated columns and coordinates of a single entry, and no more
    values are read than decide what a variable is. Quantities that are not known keep
    their names. Units are converted where the attribute states them.

    Args:
      dataset: As a file of ERA5, WeatherBench, the Climate Data Store, GRIB, CMIP or
        another archive holds it. Not changed.

    Returns:
      The dataset with dimensions ([batch,] time, level, lat, lon): `time` as dates or
      lead times, as they were; `level` in hPa, lowest first; south first; longitudes
      from 0 to 360, or below 0 for a window across Greenwich. And one line for each
      change.
    """
    changes: list[str] = []
    for step in _STEPS:
        dataset, made = step(dataset)
        changes += made
    return dataset, changes


def _axis_names(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Gives axes our names."""
    dataset, renamed = lexicon.rename(dataset, ())
    new_names = {old: new for new, old in renamed.items()}
    for name in dataset.variables:
        encoding = dataset[name].encoding
        if "preferred_chunks" in encoding:
            stored = encoding["preferred_chunks"]
            encoding["preferred_chunks"] = {
                new_names.get(dim, dim): length for dim, length in stored.items()
            }
    return dataset, [f"renamed {old} to {new}" for new, old in renamed.items()]


def _names(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Gives variables our names, where it is known what they are."""
    found: dict[str, list[str]] = {}
    for name, array in dataset.data_vars.items():
        ours = recognise.quantity(str(name), array)
        if ours is not None and ours != name:
            found.setdefault(ours, []).append(str(name))
    renamed = {
        sources[0]: ours
        for ours, sources in found.items()
        # Of two under one name neither can be told to be the right one.
        if len(sources) == 1 and ours not in dataset.variables
    }
    return dataset.rename_vars(renamed), [
        f"renamed {old} to {new}" for old, new in renamed.items()
    ]


def _mask_codes(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Turns a mask with codes for lakes and ice shelves into the share of land."""
    is_coded = _MASK_CODES.search(str(dataset.attrs.get("title", "")))
    if "LSMASK" not in dataset.data_vars or not is_coded:
        return dataset, []
    codes = dataset["LSMASK"].variable
    attrs = {**codes.attrs, "units": "1"}
    land = lazy.apply(_land, [codes], codes.sizes, np.float32, attrs=attrs)
    dataset = dataset.drop_vars("LSMASK").assign(land_sea_mask=land)
    return dataset, ["made land_sea_mask of LSMASK: islands and ice shelves are land"]


def _land(codes: xarray.Variable) -> xarray.Variable:
    """Returns 1 where there is land."""
    return xarray.Variable(codes.dims, np.isin(codes.values, (1, 3, 4)))


def _versions(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Combines final and preliminary data, each NaN where the other is."""
    if dataset.sizes.get("expver", 1) < 2:
        return dataset, []
    if "expver" in dataset.coords:
        numbers = [int(str(value)) for value in dataset["expver"].values]
        dataset = axes.pick(dataset, "expver", np.argsort(numbers))
    combined = {}
    for name, array in dataset.data_vars.items():
        if "expver" not in array.dims:
            continue
        best = array.isel(expver=0, drop=True).variable
        for place in range(1, array.sizes["expver"]):
            other = array.isel(expver=place, drop=True).variable
            best = fields.fill_from(best, other)
        combined[name] = best
    dataset = dataset.drop_vars([*combined, "expver"], errors="ignore")
    return dataset.assign(combined), [
        "combined the versions along expver, final before preliminary"
    ]


def _bounds(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Leaves out times that the archive says it has no data for."""
    attrs = dataset.attrs
    start = attrs.get("valid_time_start")
    stop = attrs.get("valid_time_stop_era5t") or attrs.get("valid_time_stop")
    if "time" not in dataset.indexes or dataset["time"].dtype.kind != "M":
        return dataset, []
    if start is None and stop is None:
        return dataset, []
    frames = dataset.sizes["time"]
    try:
        dataset = dataset.sel(time=slice(start, stop))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"valid_time_start {start!r} and valid_time_stop {stop!r} do not bound the "
            f"times of the data ({error})"
        ) from error
    lost = frames - dataset.sizes["time"]
    if not lost:
        return dataset, []
    return dataset, [f"left out {lost} times outside of {start} to {stop}: no data"]


def _stack_levels(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Stacks variables of one level each, such as `z500` or `geopotential_500`."""
    held: dict[str, dict[int, str]] = {}
    for name in dataset.data_vars:
        split = recognise.split_level(str(name))
        if split is not None:
            held.setdefault(split[0], {}).setdefault(split[1], str(name))
    held = {name: by for name, by in held.items() if name not in dataset.variables}
    if not held:
        return dataset, []
    shared = {tuple(sorted(by)) for by in held.values()}
    if len(shared) > 1 or "level" in dataset.variables:
        # On levels of their own they cannot share an axis.
        renamed = {
            old: f"{name}_{level}"
            for name, by in held.items()
            for level, old in by.items()
        }
        renamed = {old: new for old, new in renamed.items() if old != new}
        return dataset.rename_vars(renamed), [
            f"renamed {old} to {new}" for old, new in renamed.items()
        ]
    levels = shared.pop()
    stacked = {}
    for name, by in held.items():
        pieces = []
        for level in levels:
            piece = dataset[by[level]].variable
            sizes = {
                dim: piece.sizes.get(dim, 1)
                for dim in axes.ORDER
                if dim in piece.dims or dim == "level"
            }
            sizes |= {dim: piece.sizes[dim] for dim in piece.dims}
            pieces.append(fields.expand(piece, sizes))
        joined = lazy.join(pieces, "level")
        attrs = {k: v for k, v in joined.attrs.items() if "level" not in k.lower()}
        joined.attrs = attrs
        stacked[name] = joined
    spent = [old for by in held.values() for old in by.values()]
    dataset = dataset.drop_vars(spent).assign(stacked)
    dataset = dataset.assign_coords(level=np.asarray(levels, np.int32))
    return dataset, [
        f"stacked {', '.join(held)} of {len(levels)} levels, each a variable before"
    ]


def _labels(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Drops axes and coordinates of a single entry."""
    return axes.drop_single(dataset, set())


def _times(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Makes `time` an ascending axis of dates or lead times."""
    if "time" not in dataset.coords:
        return dataset, []
    dataset, changes = date_forms.read_dates(dataset)
    if dataset["time"].dtype.kind in "iuf":
        if not dataset["time"].attrs.get("units"):
            return dataset, []
        dataset = times.decode_time(dataset)
        changes.append("decoded time by its units")
    dataset, made = with_time_axis(dataset)
    changes += made
    dataset, made = sort_times(dataset)
    return dataset, changes + made


def with_time_axis(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Gives a single time an axis, and that to all but fields that do not change."""
    if "time" in dataset.dims or dataset["time"].ndim:
        return dataset, []
    moment = dataset["time"].variable
    expanded: dict[Any, xarray.Variable] = {}
    for name, array in dataset.data_vars.items():
        known = variables.VARIABLES.get(str(name))
        is_static = known is not None and known.kind == "static"
        if is_static or (known is None and "lat" not in array.dims):
            continue
        place = 1 if array.dims[:1] == ("batch",) else 0
        dims = list(array.dims)
        dims.insert(place, "time")
        sizes = {dim: array.sizes.get(dim, 1) for dim in dims}
        expanded[name] = fields.expand(array.variable, sizes)
    dataset = dataset.drop_vars(["time", *expanded]).assign(expanded)
    axis = xarray.Variable("time", moment.values[None], moment.attrs)
    dataset = dataset.assign_coords(time=axis)
    if "datetime" in dataset.coords and "time" not in dataset["datetime"].dims:
        dated = dataset["datetime"].variable
        dataset = dataset.assign_coords(
            datetime=dated.set_dims({**dated.sizes, "time": 1})
        )
    return dataset, ["gave time an axis"]


def sort_times(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Puts frames into the order of their times, where no time occurs twice."""
    index = dataset.indexes.get("time")
    # The order of text is that of letters.
    if index is None or dataset["time"].dtype.kind not in "mMiuf":
        return dataset, []
    if index.is_monotonic_increasing or not index.is_unique:
        return dataset, []
    dataset = axes.pick(dataset, "time", np.argsort(dataset["time"].values))
    return dataset, ["sorted the frames by time"]


def _units(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Converts values to our units where an attribute states theirs."""
    return fields.convert(dataset, guess=False)


def _grid(dataset: xarray.Dataset) -> tuple[xarray.Dataset, list[str]]:
    """Puts south first and counts longitudes from 0 to 360."""
    return axes.sort_grid(dataset, windows=True)


_STEPS: tuple[_Step, ...] = (
    _axis_names,
    _bounds,
    _versions,
    fields.unpack,
    _mask_codes,
    _names,
    _stack_levels,
    axes.convert_levels,
    axes.sort_levels,
    _labels,
    _times,
    fields.drop_idle_axes,
    _units,
    _grid,
    axes.order_dims,
)
