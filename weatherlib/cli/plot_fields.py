"""Fields that `weatherlib plot` draws: opened, chosen and drawn."""

from __future__ import annotations

import math
import pathlib
import re
from typing import TYPE_CHECKING

import matplotlib.figure
import numpy as np
import xarray

from weatherlib import plotting
from weatherlib.cli import pictures, plot_files
from weatherlib.plotting import ensembles, styles, views

if TYPE_CHECKING:
    from weatherlib.cli import plot

__all__ = ["draw", "moment", "variant", "view_of"]


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


def variant(options: plot.Options) -> str:
    """Returns what the name of a picture says of options that are not the default.

    So that the next picture, of another region or member, does not replace it.
    """
    words = []
    if options.init is not None:
        words.append(f"from_{options.init}")
    if options.member != "first":
        is_mean = options.member == "mean"
        words.append("mean" if is_mean else f"member_{options.member}")
    if options.projection != "plate-carree":
        words.append(options.projection)
    words += [word for word in (options.region,) if word is not None]
    for name in ("middle", "at"):
        value = getattr(options, name)
        words += [f"{name}_{value}"] * (value is not None)
    text = "".join(f"_{word.strip()}" for word in words)
    return re.sub(r"[^\w.+-]+", "_", text.replace(":", ""))


def moment(options: plot.Options) -> str:
    """Returns what the name of a picture says of the time that is asked for."""
    if options.lead is not None:
        return f"_lead_{options.lead.replace(' ', '')}"
    if options.time is not None:
        return f"_{options.time.replace(':', '').replace(' ', 'T')}"
    return ""


def draw(options: plot.Options, out_dir: pathlib.Path) -> pathlib.Path:
    """Returns the picture of one of the kinds that are no plain maps."""
    dataset = plot_files.open_one(options.path, options)
    name = plot_files.variable(dataset, options)
    truth = None
    if options.truth is not None:
        truth = plot_files.open_truth(options.truth, name, dataset)
    level = None if options.kind == "section" else options.level
    field = pictures.select(dataset, name, level, members=True)
    known = None
    if truth is not None:
        known = pictures.select(truth, name, level)
    words = f"{variant(options)}{moment(options)}_{options.kind}"
    title = f"{pictures.file_title(field)}{words}.png"
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
    field = _last(field)
    title = ", ".join(filter(None, [styles.label(field), styles.valid_label(field)]))
    title += "\n30 to 60 degrees of latitude"
    spectra = {}
    if truth is not None:
        spectra["truth"] = plotting.zonal_spectrum(_last(truth))
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
        where = _meridian(longitude)
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
        pole = "N" if latitude >= 0 else "S"
        return field, f"{abs(latitude):g}°{pole} {_meridian(longitude)}"
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


def _meridian(longitude: float) -> str:
    """Returns a longitude as people write it, such as 20°W."""
    longitude = (longitude + 180.0) % 360.0 - 180.0
    return f"{abs(longitude):g}°{'W' if longitude < 0 else 'E'}"


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
