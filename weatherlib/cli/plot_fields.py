"""Fields that `weatherlib plot` draws: opened, chosen and drawn."""

from __future__ import annotations

import math
import pathlib
from typing import TYPE_CHECKING

import matplotlib.figure
import numpy as np
import pandas as pd
import xarray

from weatherlib import plotting, variables
from weatherlib.cli import files, pictures
from weatherlib.data_utils import lexicon, times
from weatherlib.plotting import ensembles, styles, views

if TYPE_CHECKING:
    from weatherlib.cli import plot

__all__ = ["draw", "open_one", "open_truth", "variable", "view_of"]

_LEAD = "prediction_timedelta"
_START = "forecast_reference_time"


def open_one(path: str, options: plot.Options) -> xarray.Dataset:
    """Returns a weather file under our names, cut to the times and member wanted.

    A set of forecasts becomes one of them, with lead times as `time`.

    Raises:
      ValueError: It lacks the start, the time, the lead time or the member.
    """
    dataset = _renamed(files.open_weather(path))
    if _LEAD in dataset.dims:
        dataset = _one_start(dataset, options.init)
    if options.member != "first":
        dataset = _one_member(dataset, options.member)
    if options.lead is not None:
        dataset = _at_lead(dataset, options.lead)
    if options.time is not None:
        stamps = _dates(dataset, path)
        wanted = _date(options.time)
        held = np.flatnonzero(stamps == wanted)
        if not held.size:
            raise ValueError(
                f"--time: {path} has no {options.time}; it has {stamps[0]} to "
                f"{stamps[-1]}, {stamps.size} times"
            )
        dataset = dataset.isel(time=held[:1])
    return dataset


def variable(dataset: xarray.Dataset, options: plot.Options) -> str:
    """Returns the variable to draw, under our name.

    Raises:
      ValueError: None is named, and none has latitudes and longitudes.
    """
    if options.var is not None:
        known = variables.find(options.var)
        return known.name if known and options.var not in dataset else options.var
    if "2m_temperature" in dataset:
        return "2m_temperature"
    on_map = [n for n, a in dataset.data_vars.items() if {"lat", "lon"} <= set(a.dims)]
    if not on_map:
        raise ValueError(
            f"{options.path}: no variable on latitudes and longitudes; it has "
            f"{', '.join(map(str, dataset.data_vars)) or 'none'}"
        )
    return str(on_map[0])


def open_truth(path: str, name: str, forecast: xarray.Dataset) -> xarray.Dataset:
    """Returns what happened at the dates of a forecast.

    Raises:
      ValueError: One of the files has no dates, or the truth lacks one of them.
    """
    truth = _renamed(files.open_weather(path))
    held, wanted = _dates(truth, "the truth"), _dates(forecast, "the forecast")
    missing = wanted[~np.isin(wanted, held)]
    if missing.size:
        raise ValueError(
            f"the truth lacks {missing.size} of the {wanted.size} dates of the "
            f"forecast, the first of them {missing[0]}"
        )
    order = [int(np.flatnonzero(held == date)[0]) for date in wanted]
    return truth.isel(time=order).assign_coords(time=forecast["time"])


def view_of(field: xarray.DataArray, options: plot.Options) -> views.View | None:
    """Returns the map that the options ask for, None for the plain one."""
    if (options.projection, options.region, options.middle) == (
        "plate-carree",
        None,
        None,
    ):
        return None
    middle = None
    if options.middle is not None:
        longitude, latitude = _numbers("--middle", options.middle, 2)
        if abs(longitude) > 360 or abs(latitude) > 90:
            raise ValueError(
                f"--middle {options.middle}: longitudes lie in -360 to 360 and "
                "latitudes in -90 to 90; write LON,LAT"
            )
        middle = (longitude, latitude)
    return plotting.find_view(
        options.projection, field, region=_region(options), middle=middle
    )


def draw(options: plot.Options, out_dir: pathlib.Path) -> pathlib.Path:
    """Returns the picture of one of the kinds that are no plain maps."""
    dataset = open_one(options.path, options)
    name = variable(dataset, options)
    truth = None
    if options.truth is not None:
        truth = open_truth(options.truth, name, dataset)
    level = None if options.kind == "section" else options.level
    field = pictures.select(dataset, name, level, members=True)
    known = None
    if truth is not None:
        known = pictures.select(truth, name, level)
    title = f"{pictures.file_title(field)}_{options.kind}.png"
    figure = _DRAWERS[options.kind](field, known, options)
    return plotting.save_figure(figure, out_dir / title)


def _draw_spaghetti(
    field: xarray.DataArray, truth: xarray.DataArray | None, options: plot.Options
) -> matplotlib.figure.Figure:
    field = _last(field)
    dim = ensembles.member_dim(field)
    view = view_of(field.isel({dim: 0}), options)
    return plotting.draw_spaghetti(field, options.values, view=view)


def _draw_plume(
    field: xarray.DataArray, truth: xarray.DataArray | None, options: plot.Options
) -> matplotlib.figure.Figure:
    series, place = _at_place(field, options)
    known = None if truth is None else _at_place(truth, options)[0]
    return plotting.draw_plume(series, truth=known, place=place)


def _draw_spectrum(
    field: xarray.DataArray, truth: xarray.DataArray | None, options: plot.Options
) -> matplotlib.figure.Figure:
    title = ", ".join(
        filter(
            None,
            [
                styles.label(field),
                styles.valid_label(field),
                "30 to 60 degrees of latitude",
            ],
        )
    )
    spectra = {}
    if truth is not None:
        spectra["truth"] = plotting.zonal_spectrum(truth)
    spectra[pathlib.Path(options.path).stem] = plotting.zonal_spectrum(field)
    dim = next((d for d in ensembles.MEMBERS if d in field.dims), None)
    if dim is not None:
        mean = field.mean(dim, keep_attrs=True)
        spectra["mean of members"] = plotting.zonal_spectrum(mean)
    return plotting.draw_spectra(spectra, title=title)


def _draw_section(
    field: xarray.DataArray, truth: xarray.DataArray | None, options: plot.Options
) -> matplotlib.figure.Figure:
    difference = truth is not None
    if truth is not None:
        field = (field - truth).assign_attrs(field.attrs)
    field = _last(field)
    dim = next((d for d in ensembles.MEMBERS if d in field.dims), None)
    field = field.isel({dim: 0}) if dim else field
    if "lon" in field.dims and options.at is not None:
        _, longitude = _numbers("--at", options.at, 2)
        field = _nearest(field, "lon", longitude)
        where = f"{longitude:g}°E"
    else:
        field = field.mean("lon", keep_attrs=True)
        where = "zonal mean"
    words = [styles.label(field), where]
    words.append(styles.valid_label(field))
    words += ["forecast minus truth"] * difference
    return plotting.draw_section(
        field, difference=difference, title=", ".join(filter(None, words))
    )


_DRAWERS = {
    "spaghetti": _draw_spaghetti,
    "plume": _draw_plume,
    "spectrum": _draw_spectrum,
    "section": _draw_section,
}


def _renamed(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the data under our names of axes and variables."""
    return lexicon.rename(dataset, variables.names())[0]


def _one_start(dataset: xarray.Dataset, init: str | None) -> xarray.Dataset:
    """Returns one forecast of a set, its lead times as `time`."""
    if "time" in dataset.dims:
        number = 0
        if init is not None:
            held = np.flatnonzero(dataset["time"].values == _date(init))
            if not held.size:
                raise ValueError(
                    f"--init: there is no forecast from {init}; the starts are "
                    f"{dataset['time'].values[0]} to {dataset['time'].values[-1]}"
                )
            number = int(held[0])
        dataset = dataset.isel(time=number)
    start = dataset["time"].values if "time" in dataset.coords else None
    dataset = dataset.drop_vars(["time", "valid_time"], errors="ignore")
    dataset = dataset.rename({_LEAD: "time"})
    if start is None:
        return dataset
    valid = ("time", start + dataset["time"].values)
    return dataset.assign_coords({_START: start, "datetime": valid})


def _one_member(dataset: xarray.Dataset, member: str) -> xarray.Dataset:
    """Returns one member of an ensemble, or the mean of all."""
    dim = next((d for d in ensembles.MEMBERS if d in dataset.dims), None)
    if dim is None:
        raise ValueError(
            f"--member: the file has no members; its dimensions are "
            f"{', '.join(map(str, dataset.dims))}"
        )
    if member == "mean":
        return dataset.mean(dim, keep_attrs=True)
    labels = [str(label) for label in dataset[dim].values.tolist()]
    if member not in labels:
        raise ValueError(
            f"--member: there is no member {member!r}; there are {labels[0]} to "
            f"{labels[-1]}, first and mean"
        )
    return dataset.isel({dim: labels.index(member)})


def _at_lead(dataset: xarray.Dataset, lead: str) -> xarray.Dataset:
    """Returns the data at one lead time."""
    wanted = times.as_timedelta(lead)
    if "time" not in dataset.dims or dataset["time"].dtype.kind != "m":
        raise ValueError("--lead: the file has no lead times; choose with --time")
    held = pd.TimedeltaIndex(dataset["time"].values)
    if wanted not in held:
        raise ValueError(
            f"--lead: there is no {lead}; there are {held[0]} to {held[-1]}, "
            f"{len(held)} in all"
        )
    return dataset.isel(time=[held.get_loc(wanted)])


def _dates(dataset: xarray.Dataset, what: str) -> np.ndarray:
    """Returns the date of each time of the data."""
    known = [
        name
        for name in ("datetime", "valid_time", "time")
        if name in dataset.coords and dataset[name].dtype.kind == "M"
    ]
    if not known:
        raise ValueError(f"{what} has no dates, so the two cannot be compared")
    return np.atleast_1d(dataset[known[0]].isel(batch=0, missing_dims="ignore").values)


def _date(text: str) -> np.datetime64:
    """Returns a date from the command line."""
    try:
        return pd.Timestamp(text).tz_localize(None).to_datetime64()
    except ValueError as error:
        raise ValueError(f"{text!r} is no date such as 2026-01-15T06") from error


def _last(field: xarray.DataArray) -> xarray.DataArray:
    """Returns the field at its last time."""
    return field.isel(time=-1) if "time" in field.dims else field


def _region(options: plot.Options) -> str | tuple[float, float, float, float] | None:
    """Returns the region of the options."""
    if options.region is None or options.region in plotting.REGIONS:
        return options.region
    if not any(character.isdigit() for character in options.region):
        return options.region
    west, east, south, north = _numbers("--region", options.region, 4)
    return west, east, south, north


def _numbers(flag: str, text: str, count: int) -> list[float]:
    """Returns numbers parted by commas."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ValueError(f"{flag}: {text!r} is not {count} numbers with commas between")
    return found


def _at_place(
    field: xarray.DataArray, options: plot.Options
) -> tuple[xarray.DataArray, str]:
    """Returns a series at a place or of an area, and what it is called."""
    if options.at is not None:
        latitude, longitude = _numbers("--at", options.at, 2)
        field = _nearest(_nearest(field, "lat", latitude), "lon", longitude)
        return field, f"{latitude:g}°N {longitude:g}°E"
    weights = xarray.DataArray(np.cos(np.deg2rad(field["lat"].variable)))
    weights = weights.assign_coords(lat=field["lat"])
    bounds = _region(options)
    if bounds is None:
        return field.weighted(weights).mean(("lat", "lon"), keep_attrs=True), "mean"
    name = bounds if isinstance(bounds, str) else "mean of the region"
    if isinstance(bounds, str):
        if bounds not in plotting.REGIONS:
            known = ", ".join(plotting.REGIONS)
            raise ValueError(f"--region: there is no {bounds!r}; there are {known}")
        bounds = plotting.REGIONS[bounds]
    west, east, south, north = bounds
    width = (east - west) % 360.0 or 360.0
    inside = np.mod(field["lon"] - west, 360.0) <= width
    rows = (field["lat"] >= south) & (field["lat"] <= north)
    part = field.sel(lat=rows, lon=inside)
    if not part.size:
        raise ValueError(f"--region: the data have no point in {options.region}")
    return part.weighted(weights).mean(("lat", "lon"), keep_attrs=True), name


def _nearest(field: xarray.DataArray, dim: str, value: float) -> xarray.DataArray:
    """Returns the row or column nearest to a value in degrees."""
    distance = np.abs(field[dim].values - value)
    if dim == "lon":
        distance = np.abs((field[dim].values - value + 180.0) % 360.0 - 180.0)
    step = np.abs(np.diff(np.sort(field[dim].values))).max(initial=1.0)
    if distance.min() > step:
        ends = field[dim].values.min(), field[dim].values.max()
        raise ValueError(
            f"--at: {value:g} lies outside the data, whose {dim} goes from "
            f"{ends[0]:g} to {ends[1]:g}"
        )
    return field.isel({dim: int(distance.argmin())})
