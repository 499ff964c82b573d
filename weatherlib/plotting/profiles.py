"""Power spectra and vertical sections."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.figure
import matplotlib.ticker
import numpy as np
import xarray

from weatherlib.plotting import grid, styles

__all__ = ["draw_section", "draw_spectra", "zonal_spectrum"]

_LOOKS = (
    {"color": "black", "linewidth": 1.8},
    {"color": "#1f5fa8", "linewidth": 1.6},
    {"color": "#c0392b", "linewidth": 1.4},
    {"color": "#3a7d44", "linewidth": 1.4},
    {"color": "#8e44ad", "linewidth": 1.4},
)


def zonal_spectrum(
    field: xarray.DataArray, *, south: float = 30.0, north: float = 60.0
) -> xarray.DataArray:
    """Returns the variance by zonal wavenumber, mean over a band of both hemispheres.

    The sum over all wavenumbers is the variance along the parallels. Further
    dimensions, such as time and members, are averaged.

    Args:
      field: Dimensions `lat` and `lon`, once around the globe.
      south: Lower border of the band, degrees of latitude north and south.
      north: Upper border.

    Returns:
      Dimension `wavenumber`, from 1, in the field's units squared.

    Raises:
      ValueError: The field does not go around the globe, has no row in the band, or
        has missing values there.
    """
    field = grid.named(field)
    lon = np.sort(np.mod(field["lon"].values, 360.0))
    gaps = np.diff(lon, append=lon[0] + 360.0)
    if len(lon) < 4 or gaps.max() > 1.5 * np.median(gaps):
        raise ValueError(
            "a spectrum needs columns once around the globe; the field covers "
            f"{field['lon'].min():g} to {field['lon'].max():g} degrees east"
        )
    distance = np.abs(field["lat"])
    band = field.sel(lat=(distance >= south) & (distance <= north))
    if not band.sizes["lat"]:
        raise ValueError(f"no row lies between {south:g} and {north:g} degrees")
    values = band.sortby("lon").transpose(..., "lat", "lon").values.astype(np.float64)
    if np.isnan(values).any():
        raise ValueError("a spectrum needs fields without missing values")
    amplitude = np.fft.rfft(values, axis=-1) / len(lon)
    power = 2 * np.abs(amplitude[..., 1:]) ** 2
    if len(lon) % 2 == 0:
        # The shortest wave has no partner of negative wavenumber.
        power[..., -1] /= 2
    power = power.reshape(-1, *power.shape[-2:]).mean(axis=0)
    weights = np.cos(np.deg2rad(band["lat"].values))
    mean = (weights[:, np.newaxis] * power).sum(axis=0) / weights.sum()
    number = np.arange(1, len(mean) + 1)
    return xarray.DataArray(
        mean, {"wavenumber": number}, ("wavenumber",), str(field.name), field.attrs
    )


def draw_spectra(
    spectra: Mapping[str, xarray.DataArray], *, title: str = ""
) -> matplotlib.figure.Figure:
    """Returns a figure of power against wavenumber, one line each, both logarithmic.

    Args:
      spectra: Label and values of one dimension with a coordinate of wavenumbers. SI
        units squared.
      title: Default: name and level of the first.

    Raises:
      ValueError: There is no spectrum, or one has other dimensions.
    """
    if not spectra:
        raise ValueError("there is no spectrum to draw")
    figure = matplotlib.figure.Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for (name, spectrum), look in zip(spectra.items(), _LOOKS * len(spectra)):
        if spectrum.ndim != 1:
            raise ValueError(
                f"{name}: a spectrum has one dimension, not {spectrum.dims}"
            )
        number = spectrum[spectrum.dims[0]].values
        shown = (number > 0) & (spectrum.values > 0)
        axes.loglog(number[shown], spectrum.values[shown], label=name, **look)
    first = next(iter(spectra.values()))
    units = styles.squared(str(first.attrs.get("units", "")))
    axes.set_xlabel(str(first.dims[0]).replace("_", " "))
    axes.set_ylabel(f"power ({units})" if units else "power")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.grid(alpha=0.25, lw=0.5, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(title or styles.label(first), fontsize=11)
    return figure


def draw_section(
    field: xarray.DataArray, *, title: str = "", difference: bool = False
) -> matplotlib.figure.Figure:
    """Returns a section from the ground to the top, pressure on a logarithmic axis.

    Args:
      field: Dimensions `level` and `lat`, or `level` and `lon`; others must have size
        1. SI units.
      title: Default: name and valid time.
      difference: Whether the values are differences, shown symmetric about zero.

    Raises:
      ValueError: There are fewer than two levels, or more than one other dimension.
    """
    field = grid.named(field)
    field = field.squeeze([d for d in field.dims if field.sizes[d] == 1])
    across = [str(dim) for dim in field.dims if dim != "level"]
    if field.sizes.get("level", 0) < 2 or across not in (["lat"], ["lon"]):
        raise ValueError(
            "a section needs two or more levels, and lat or lon; found "
            f"{dict(field.sizes)}"
        )
    style = styles.find(field)
    shown = style.show(field, difference=difference)
    shown = shown.transpose("level", across[0]).sortby("level").sortby(across[0])
    norm = styles.normalize([shown], style, difference=difference, robust=False)
    colormap = styles.DIFFERENCE_COLORMAP if difference else style.colormap
    figure = matplotlib.figure.Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.subplots()
    levels_between = norm.vmin or 0.0, norm.vmax or 0.0
    levels = matplotlib.ticker.MaxNLocator(24).tick_values(*levels_between)
    mesh = (shown[across[0]].values, shown["level"].values, shown.values)
    filled = axes.contourf(*mesh, levels=levels, cmap=colormap, norm=norm)
    # Not every third of the levels: those would rarely be round, or have zero.
    round_numbers = matplotlib.ticker.MaxNLocator(8, steps=[1, 2, 5, 10])
    marked = round_numbers.tick_values(*levels_between)
    lines = axes.contour(*mesh, levels=marked, colors="0.2", linewidths=0.5)
    axes.clabel(lines, fontsize=7, fmt="%g")
    axes.set_yscale("log")
    axes.invert_yaxis()
    ticks = [1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 850, 1000]
    low, high = float(shown["level"].min()), float(shown["level"].max())
    ticks = [p for p in ticks if low <= p <= high]
    axes.set_yticks(ticks, [str(p) for p in ticks])
    axes.minorticks_off()
    axes.set_ylabel("pressure (hPa)")
    names = {"lat": "latitude (°N)", "lon": "longitude (°E)"}
    axes.set_xlabel(names[across[0]])
    bar = figure.colorbar(filled, ax=axes, pad=0.02)
    bar.set_ticks([v for v in marked if levels[0] <= v <= levels[-1]])
    bar.set_label(str(shown.attrs.get("units", "")))
    heading = [styles.label(field), styles.valid_label(field)]
    axes.set_title(title or ", ".join(filter(None, heading)), fontsize=11)
    return figure
