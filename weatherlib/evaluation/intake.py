"""Forecasts and truth of any layout in one form.

Forecasts get the dimensions (init_time, lead_time[, number][, level], lat, lon), truth
(time[, level], lat, lon), rows from south to north and columns from west to east: from
0 to 360 degrees, or from the western edge of a domain that crosses Greenwich. A grid
without degrees, such as that of a radar, keeps its order.
"""

from __future__ import annotations

import numpy as np
import xarray

from weatherlib import variables
from weatherlib.data_utils import lexicon, times, units
from weatherlib.evaluation import periods, regions

__all__ = [
    "as_forecasts",
    "as_truth",
    "canonical",
    "common_units",
    "grid_of",
    "guesses",
    "match_grid",
]

_STARTS = ("init_time", "forecast_reference_time", "time")
_LEADS = ("prediction_timedelta", "lead_time", "step", "forecast_period")
_SLACK = 1e-3
# More hours than this are no lead time; they count something else, such as seconds.
_MOST_HOURS = 100_000


def as_forecasts(dataset: xarray.Dataset, name: str = "forecast") -> xarray.Dataset:
    """Returns forecasts as (init_time, lead_time[, number][, level], lat, lon).

    Understood are hindcast sets as WeatherBench 2 and X have them, forecast files of
    ours, single or with a batch of starts, and series by valid time without lead
    times, such as analyses, whose lead time is taken as zero.

    Args:
      dataset: As opened. Values are not read.
      name: For messages.

    Raises:
      ValueError: The starts or lead times cannot be told.
    """
    dataset = _with_members(_horizontal(dataset, name))
    lead = next((n for n in _LEADS if n in dataset.coords), None)
    if lead is not None:
        return _hindcast(dataset, lead, name)
    if "time" not in dataset.coords:
        raise ValueError(
            f"{name}: there are neither starts and lead times nor valid times; a set "
            "of forecasts has the dimensions time and prediction_timedelta"
        )
    if dataset["time"].dtype.kind == "m":
        return _forecast_file(dataset, name)
    if dataset["time"].dtype.kind == "M":
        found = dataset if "time" in dataset.dims else dataset.expand_dims("time")
        if "datetime" in found.coords:
            found = found.drop_vars("datetime")
        found = _named(found.rename(time="init_time"))
        return found.expand_dims(lead_time=np.zeros(1, "timedelta64[ns]"), axis=1)
    raise ValueError(
        f"{name}: time holds {dataset['time'].dtype}, expected dates or lead times"
    )


def guesses(dataset: xarray.Dataset, name: str = "forecast") -> list[str]:
    """Returns what `as_forecasts` takes for granted about a dataset, for a reader."""
    lead = next((n for n in _LEADS if n in dataset.coords), None)
    if lead is None or dataset[lead].dtype.kind not in "iu":
        return []
    if dataset[lead].attrs.get("units"):
        return []
    return [f"{name}: {lead} has no units; its numbers are taken for hours"]


def as_truth(dataset: xarray.Dataset, name: str = "truth") -> xarray.Dataset:
    """Returns what happened as (time[, level], lat, lon), times ascending.

    Raises:
      ValueError: The dataset has no dates, or one of them twice.
    """
    dataset = _horizontal(dataset, name)
    if "datetime" in dataset.coords:
        dates = dataset["datetime"]
        if "batch" in dataset.dims and dataset.sizes["batch"] > 1:
            raise ValueError(
                f"{name}: {dataset.sizes['batch']} series in a batch; give one"
            )
        dataset = dataset.isel(batch=0, drop=True, missing_dims="ignore")
        dates = dates.isel(batch=0, drop=True, missing_dims="ignore")
        dataset = dataset.drop_vars("datetime").assign_coords(time=dates.values)
    dataset = dataset.isel(batch=0, drop=True, missing_dims="ignore")
    if "time" not in dataset.coords or dataset["time"].dtype.kind != "M":
        raise ValueError(f"{name}: it has no dates; a coordinate time as datetime64")
    if "time" not in dataset.dims:
        dataset = dataset.expand_dims("time")
    order = np.argsort(dataset["time"].values, kind="stable")
    moments = dataset["time"].values[order].astype("datetime64[ns]")
    twice = np.flatnonzero(np.diff(moments) == np.timedelta64(0, "ns"))
    if twice.size:
        stamp = periods.describe_time(moments[twice].min())
        raise ValueError(f"{name}: the time {stamp} occurs more than once")
    if (np.diff(order) != 1).any():
        dataset = dataset.isel(time=order)
    members = [dim for dim in lexicon.MEMBERS if dim in dataset.dims]
    if members:
        raise ValueError(
            f"{name}: has {dataset.sizes[members[0]]} members along {members[0]}; "
            "truth is one, such as the control or the mean"
        )
    named = _named(dataset.assign_coords(time=moments))
    _require_dims(named, ("time", "level", "lat", "lon"), name)
    return named


def canonical(dataset: xarray.Dataset, name: str) -> xarray.Dataset:
    """Returns fields with our names of axes and variables, whatever else they have.

    Raises:
      ValueError: There is no horizontal grid.
    """
    return _named(_horizontal(dataset, name))


def grid_of(dataset: xarray.Dataset) -> regions.Grid:
    """Returns the grid of a dataset in our form."""
    shape = (dataset.sizes["lat"], dataset.sizes["lon"])
    if "lat" not in dataset.coords or "lon" not in dataset.coords:
        return regions.Grid(lat=None, lon=None, shape=shape)
    lat = dataset["lat"].values.astype(np.float64)
    lon = dataset["lon"].values.astype(np.float64)
    return regions.Grid(lat=lat, lon=lon, shape=shape)


def match_grid(
    dataset: xarray.Dataset, grid: regions.Grid, name: str, of: str
) -> xarray.Dataset:
    """Returns a dataset at the points of a grid, all of which it must have.

    Raises:
      ValueError: The grids differ; the message describes both.
    """
    own = grid_of(dataset)
    if grid.lat is None or grid.lon is None or own.lat is None or own.lon is None:
        both_planes = grid.lat is None and own.lat is None
        if not both_planes or own.shape != grid.shape:
            raise _grid_error(own, grid, name, of)
        return dataset
    rows = _places(own.lat, grid.lat, period=None)
    columns = _places(own.lon, grid.lon, period=360.0)
    if rows is None or columns is None:
        raise _grid_error(own, grid, name, of)
    if _moves(rows, own.shape[0]) or _moves(columns, own.shape[1]):
        dataset = dataset.isel(lat=rows, lon=columns)
    # Coordinates of float32 and float64 must not count as different points.
    return dataset.assign_coords(lat=grid.lat, lon=grid.lon)


def common_units(
    forecast: xarray.DataArray,
    truth: xarray.DataArray,
    name: str,
    what: str = "the forecast",
) -> str:
    """Returns the unit of both, empty where it is not known.

    Args:
      forecast: What is compared with the truth.
      truth: What happened.
      name: Of the variable.
      what: What the first is, for messages.

    Raises:
      ValueError: They name different units.
    """
    known = variables.find(name)
    expected = known.units if known else ""
    found = [str(array.attrs.get("units", "")) for array in (forecast, truth)]
    same = [
        expected
        if expected and (way := units.conversion(unit, expected)) and way[1:] == (1, 0)
        else unit.strip()
        for unit in found
    ]
    if all(same) and same[0] != same[1]:
        raise ValueError(
            f"{name}: {what} is in {found[0]}, the truth in {found[1]}; convert one "
            "of them"
        )
    return next((unit for unit in same if unit), expected)


def _horizontal(dataset: xarray.Dataset, name: str) -> xarray.Dataset:
    """Returns the data with our names of axes, sorted by latitude and longitude."""
    dated = "time" in dataset.coords and dataset["time"].dtype.kind == "M"
    if dated and "valid_time" in dataset.coords:
        # It is the sum of start and lead time, which are read by themselves.
        dataset = dataset.drop_vars("valid_time")
    dataset = lexicon.rename(dataset, [])[0]
    if {"y", "x"} <= set(dataset.dims):
        # A plane whose places are no degrees; only its order counts.
        dataset = dataset.drop_vars(["y", "x"], errors="ignore")
        dataset = dataset.rename({"y": "lat", "x": "lon"})
    if not {"lat", "lon"} <= set(dataset.dims):
        raise ValueError(
            f"{name}: there is no horizontal grid, the dimensions are "
            f"{', '.join(map(str, dataset.dims))}; names known are lat, latitude, y "
            "and lon, longitude, x"
        )
    if "level" in dataset.coords:
        levels, _ = lexicon.stored_levels(dataset["level"])
        if "level" in dataset.dims:
            dataset = dataset.assign_coords(level=np.asarray(levels, np.float64))
        else:
            dataset = _on_its_level(dataset.drop_vars("level"), levels[0])
    if not _in_degrees(dataset):
        return dataset.drop_vars(["lat", "lon"], errors="ignore")
    lon = np.asarray(dataset["lon"].values, np.float64) % 360.0
    lon = np.where(360.0 - lon < _SLACK / 10, 0.0, lon)
    _, first = np.unique(np.round(lon / _SLACK), return_index=True)
    lon, first = _from_west(lon, first)
    rows = np.argsort(dataset["lat"].values, kind="stable")
    order = {"lat": rows, "lon": first}
    moved = {k: v for k, v in order.items() if _moves(v, dataset.sizes[k])}
    dataset = dataset.assign_coords(lon=lon)
    return dataset.isel(moved) if moved else dataset


def _on_its_level(dataset: xarray.Dataset, level: float) -> xarray.Dataset:
    """Returns data of a single level with an axis for it.

    Fields that are known to be at the surface have none.
    """
    single = {}
    for name, array in dataset.data_vars.items():
        known = variables.find(str(name))
        on_levels = known is None or known.kind == "atmospheric"
        if on_levels and {"lat", "lon"} <= set(array.dims):
            single[name] = array.expand_dims(level=[level])
    return dataset.assign(single)


def _from_west(lon: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns longitudes and the order of columns that puts neighbours side by side.

    Columns of a domain that crosses Greenwich start behind the widest gap, and those
    west of Greenwich are negative. Circles of latitude start at Greenwich.

    Args:
      lon: Degrees east in [0, 360), shape [lon].
      order: Places in `lon`, eastwards from Greenwich.
    """
    steps = np.diff(lon[order], append=lon[order[:1]] + 360.0)
    # Gaps of an even grid around the globe differ by rounding.
    if len(order) < 2 or steps.max() <= 1.02 * steps[-1]:
        return lon, order
    order = np.roll(order, -1 - int(steps.argmax()))
    return np.where(lon >= lon[order[0]], lon - 360.0, lon), order


def _moves(order: np.ndarray, size: int) -> bool:
    return len(order) != size or bool((np.diff(order) != 1).any())


def _in_degrees(dataset: xarray.Dataset) -> bool:
    """Whether latitude and longitude are there as degrees."""
    for axis, limit in (("lat", 90.0), ("lon", 360.0)):
        if axis not in dataset.coords or dataset[axis].dims != (axis,):
            return False
        if np.abs(dataset[axis].values).max() > limit + _SLACK:
            return False
    return True


def _with_members(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the data with members along `number`."""
    found = [dim for dim in lexicon.MEMBERS if dim in dataset.dims]
    if "number" in dataset.coords and "number" not in dataset.dims:
        dataset = dataset.drop_vars("number")
    if found and "number" not in found:
        dataset = dataset.rename({found[0]: "number"})
    return dataset


def _hindcast(dataset: xarray.Dataset, lead: str, name: str) -> xarray.Dataset:
    """Returns a set of starts and lead times under our names."""
    start = next((n for n in _STARTS if n in dataset.coords and n != lead), None)
    if start is None or dataset[start].dtype.kind != "M":
        raise ValueError(
            f"{name}: {lead} is there, but no starts as dates; they are the coordinate "
            "time"
        )
    leads = dataset[lead]
    if leads.dtype.kind in "iuf" and not leads.attrs.get("units"):
        leads = _whole_hours(leads, name)
    elif leads.dtype.kind != "m":
        leads = times.decode_time(dataset, [lead])[lead]
    for old, new, values in (
        (start, "init_time", dataset[start].values.astype("datetime64[ns]")),
        (lead, "lead_time", leads.values.astype("timedelta64[ns]")),
    ):
        if old not in dataset.dims:
            dataset = dataset.drop_vars(old).expand_dims({new: np.atleast_1d(values)})
        else:
            dataset = dataset.drop_vars(old)
            dataset = dataset if old == new else dataset.rename_dims({old: new})
            dataset = dataset.assign_coords({new: values})
    extra = [n for n in ("valid_time", "datetime", "time") if n in dataset.coords]
    dataset = dataset.drop_vars(extra).isel(batch=0, drop=True, missing_dims="ignore")
    return _sorted(_named(dataset), name)


def _whole_hours(leads: xarray.DataArray, name: str) -> xarray.DataArray:
    """Returns integers without units as hours.

    Raises:
      ValueError: They are fractions, or too many to be hours.
    """
    if leads.dtype.kind == "f" or (abs(leads) > _MOST_HOURS).any():
        raise ValueError(
            f"{name}: {leads.name} holds numbers without units, such as "
            f"{leads.values.ravel()[-1]:g}; give the file some, such as with `ncatted "
            f"-a units,{leads.name},o,c,hours FILE`, or store whole hours"
        )
    return leads.astype("int64").astype("timedelta64[h]")


def _forecast_file(dataset: xarray.Dataset, name: str) -> xarray.Dataset:
    """Returns a file with lead times along `time` and starts along `batch`."""
    if "forecast_reference_time" in dataset.variables:
        starts = np.atleast_1d(dataset["forecast_reference_time"].values)
    elif "datetime" in dataset.coords:
        first = dataset["datetime"] - dataset["time"]
        starts = np.atleast_1d(first.isel(time=0).values)
    else:
        raise ValueError(
            f"{name}: lead times without a start; add the coordinate "
            "forecast_reference_time"
        )
    starts = starts.astype("datetime64[ns]")
    held = dataset.drop_vars(
        ["forecast_reference_time", "datetime", "valid_time", "batch"], errors="ignore"
    ).rename(time="lead_time")
    if "batch" not in held.dims:
        held = held.expand_dims("batch")
    if len(starts) != held.sizes["batch"]:
        starts = np.broadcast_to(starts[:1], held.sizes["batch"])
    if len(starts) > 1 and len(np.unique(starts)) == 1:
        # Members of one start, as an ensemble made along the batch.
        if "number" in held.dims:
            raise ValueError(f"{name}: members along the batch and along number")
        held = held.rename_dims(batch="number").expand_dims(init_time=starts[:1])
    else:
        held = held.rename_dims(batch="init_time").assign_coords(init_time=starts)
    return _sorted(_named(held), name)


def _require_dims(dataset: xarray.Dataset, known: tuple[str, ...], name: str) -> None:
    """Raises a ValueError where a variable has a dimension that is not known."""
    for label, array in dataset.data_vars.items():
        odd = [str(dim) for dim in array.dims if dim not in known]
        if odd:
            raise ValueError(
                f"{name}: {label} has the dimension {odd[0]}, expected none but "
                f"{', '.join(known)}"
            )


def _sorted(dataset: xarray.Dataset, name: str) -> xarray.Dataset:
    """Returns the forecasts in the order of start and lead time.

    Raises:
      ValueError: There is no start or lead time, one occurs twice, or a dimension is
        not known.
    """
    known = ("init_time", "lead_time", "number", "level", "lat", "lon")
    _require_dims(dataset, known, name)
    for dim in ("init_time", "lead_time"):
        values = dataset[dim].values
        if not values.size:
            raise ValueError(f"{name}: {dim} has no value, so there is no forecast")
        order = np.argsort(values, kind="stable")
        if (np.diff(values[order]) == np.timedelta64(0, "ns")).any():
            raise ValueError(f"{name}: a value of {dim} occurs more than once")
        if _moves(order, len(values)):
            dataset = dataset.isel({dim: order})
    return dataset


def _named(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the variables that have a grid, under their long names."""
    keep = {n: a for n, a in dataset.data_vars.items() if {"lat", "lon"} <= set(a.dims)}
    dataset = dataset[list(keep)]
    renamed = {}
    for name in keep:
        known = variables.find(str(name))
        if known is not None and known.name != name and known.name not in keep:
            renamed[name] = known.name
    if len(set(renamed.values())) < len(renamed):
        return dataset
    return dataset.rename(renamed)


def _places(
    held: np.ndarray, wanted: np.ndarray, *, period: float | None
) -> np.ndarray | None:
    """Returns where each wanted value is held, None where one is not."""
    distance = np.abs(held[None, :] - wanted[:, None])
    if period is not None:
        distance = np.minimum(distance % period, -distance % period)
    place = distance.argmin(1)
    near = distance[np.arange(len(wanted)), place] < _SLACK
    return place if near.all() else None


def _grid_error(
    own: regions.Grid, grid: regions.Grid, name: str, of: str
) -> ValueError:
    return ValueError(
        f"{name} is on {_described(own)}, {of} on {_described(grid)}: regrid one of "
        "them to the grid of the other first"
    )


def _described(grid: regions.Grid) -> str:
    rows, columns = grid.shape
    if grid.lat is None or grid.lon is None:
        return f"a plane of {rows} x {columns} points"
    return (
        f"{rows} x {columns} points, latitude {grid.lat[0]:g} to {grid.lat[-1]:g} and "
        f"longitude {grid.lon[0]:g} to {grid.lon[-1]:g}"
    )
