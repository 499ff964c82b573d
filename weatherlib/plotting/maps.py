"""Maps of latitude-longitude fields: single, side by side, and by lead time.

Figures are made without pyplot, so nothing global changes, no window opens, and maps
can be drawn in threads. Save them with `save_figure`.
"""

from __future__ import annotations

import io
import math
import os
import pathlib

import matplotlib.axes
import matplotlib.cm
import matplotlib.colors
import matplotlib.figure
import numpy as np
import xarray

from weatherlib import writing
from weatherlib.plotting import coastline, grid, sheets, styles, views

__all__ = [
    "draw_comparison",
    "draw_field",
    "draw_leads",
    "draw_map",
    "on_grid_of",
    "save_figure",
]

_SMOOTH_BELOW = 180  # Rows; a coarser field is drawn with interpolation between cells.
_CONTOURS = 12
_GROUND = "0.85"  # Where there is no value.


def draw_field(
    axes: matplotlib.axes.Axes,
    field: xarray.DataArray,
    *,
    norm: matplotlib.colors.Normalize,
    colormap: str | matplotlib.colors.Colormap,
    contours: str = "",
    smooth: bool | None = None,
    view: views.View | None = None,
) -> matplotlib.cm.ScalarMappable:
    """Draws a field with coastlines, one degree as long up as across.

    Args:
      axes: Empty axes.
      field: Dimensions `lat` and `lon` in any order, latitude order and longitude
        convention; others must have size 1. Values in the units of `norm`.
      norm: Colour scale.
      colormap: Colours.
      contours: Colour of thin lines of equal value; none by default.
      smooth: Whether to interpolate between cells. Default: for evenly spaced fields
        with fewer than 180 rows. Cells without a value are left out whole.
      view: The map, from `views.find`. Default: longitude and latitude as lengths,
        all that the field covers.

    Returns:
      What a colour bar needs.

    Raises:
      ValueError: The field has no latitude or longitude, or more than one entry along
        another dimension.
    """
    if view is not None:
        levels = np.linspace(norm.vmin or 0.0, norm.vmax or 1.0, _CONTOURS)
        return views.draw(
            axes,
            field,
            view,
            norm=norm,
            colormap=colormap,
            contours=levels if contours else None,
            contour_color=contours,
        )
    flat = grid.flatten(field)
    west, east, south, north = flat.extent
    if smooth is None:
        smooth = len(flat.latitude) < _SMOOTH_BELOW
    if smooth and flat.even and np.isfinite(flat.values).any():
        mappable = _draw_smooth(axes, flat, norm, colormap)
    else:
        mappable = axes.pcolormesh(
            flat.longitude_edges,
            flat.latitude_edges,
            np.ma.masked_invalid(flat.values),
            norm=norm,
            cmap=colormap,
            rasterized=True,
        )
    axes.set(xlim=(west, east), ylim=(south, north))
    axes.set_aspect("equal")
    axes.set_facecolor(_GROUND)
    if contours and min(flat.values.shape) > 1:
        longitude, latitude, values = flat.refined()
        axes.contour(
            longitude,
            latitude,
            values,
            levels=np.linspace(norm.vmin or 0.0, norm.vmax or 1.0, _CONTOURS),
            colors=contours,
            linewidths=0.5,
            alpha=0.7,
        )
    _draw_reference_lines(axes, coasts=coastline.draw(axes))
    return mappable


def draw_map(
    field: xarray.DataArray,
    *,
    title: str = "",
    difference: bool = False,
    view: views.View | None = None,
) -> matplotlib.figure.Figure:
    """Returns a figure with one map in the colours and units of its kind.

    Args:
      field: One field in SI units, as for `draw_field`.
      title: Default: name, level and valid time.
      difference: Whether the values are differences, shown symmetric about zero.
      view: The map, as for `draw_field`.

    Raises:
      ValueError: As `draw_field`.
    """
    field = grid.named(field)
    style = styles.find(field)
    shown = style.show(field, difference=difference)
    seen = views.visible(shown, view)
    norm = styles.normalize([seen], style, difference=difference)
    figure, maps = sheets.panel_figure(1, 1, shown, width=8.0, view=view)
    colormap = styles.DIFFERENCE_COLORMAP if difference else style.colormap
    mappable = draw_field(
        maps[0],
        shown,
        norm=norm,
        colormap=colormap,
        contours="" if difference else style.contours,
        view=view,
    )
    heading = ", ".join(filter(None, [styles.label(field), styles.valid_label(field)]))
    maps[0].set_title(title or heading, fontsize=11)
    if seen.notnull().any():
        sheets.add_colorbar(figure, mappable, maps, shown)
    else:
        maps[0].text(
            0.5, 0.5, "all values are missing", transform=maps[0].transAxes,
            ha="center", va="center", fontsize=12,
        )  # fmt: skip
    return figure


def draw_comparison(
    target: xarray.DataArray,
    prediction: xarray.DataArray,
    *,
    title: str = "",
    view: views.View | None = None,
) -> matplotlib.figure.Figure:
    """Returns a figure of truth and forecast on one scale, and forecast minus truth.

    Args:
      target: What happened; one field in SI units.
      prediction: What was forecast, on the same grid.
      title: Default: name, level and valid time of the target.
      view: The map, as for `draw_field`.

    Raises:
      ValueError: As `draw_field`, or the two lie on different grids.
    """
    target, prediction = grid.named(target), grid.named(prediction)
    prediction = on_grid_of(target, prediction)
    style = styles.find(target)
    shown = [style.show(f, difference=False) for f in (target, prediction)]
    error = style.show(prediction - target, difference=True)
    error.attrs = style.show(target, difference=True).attrs
    norm = styles.normalize([views.visible(f, view) for f in shown], style)
    figure, maps = sheets.panel_figure(1, 3, target, width=5.2, view=view)
    for axes, field, name in zip(maps, shown, ("Truth", "Forecast")):
        mappable = draw_field(
            axes,
            field,
            norm=norm,
            colormap=style.colormap,
            contours=style.contours,
            view=view,
        )
        axes.set_title(name, fontsize=10)
    sheets.add_colorbar(figure, mappable, maps[:2], shown[0])
    mappable = draw_field(
        maps[2],
        error,
        norm=styles.normalize([views.visible(error, view)], style, difference=True),
        colormap=styles.DIFFERENCE_COLORMAP,
        view=view,
    )
    maps[2].set_title("Forecast minus truth", fontsize=10)
    sheets.add_colorbar(figure, mappable, maps[2:], error)
    heading = ", ".join(
        filter(None, [styles.label(target), styles.valid_label(prediction)])
    )
    figure.suptitle(title or heading, fontsize=12)
    return figure


def draw_leads(
    field: xarray.DataArray,
    *,
    columns: int = 0,
    most: int = 12,
    title: str = "",
    view: views.View | None = None,
) -> matplotlib.figure.Figure:
    """Returns a figure with one map per time on a common scale.

    Args:
      field: Dimensions `time`, `lat` and `lon`; others must have size 1. SI units.
      columns: Maps side by side. Default: two up to four maps, else three or four,
        whichever fills the rows.
      most: Largest number of maps; longer forecasts are thinned evenly and keep the
        last time.
      title: Default: name and level, and how many of the times are shown.
      view: The map, as for `draw_field`.

    Raises:
      ValueError: As `draw_field`, or there is no time.
    """
    field = grid.named(field)
    if not field.sizes.get("time"):
        raise ValueError(f"maps by lead time need times; found {dict(field.sizes)}")
    every = math.ceil(field.sizes["time"] / most)
    last = field.sizes["time"] - 1
    field = field.isel(time=[i for i in range(last + 1) if (last - i) % every == 0])
    style = styles.find(field)
    shown = style.show(field, difference=False)
    norm = styles.normalize([views.visible(shown, view)], style)
    count = field.sizes["time"]
    few = min(count, 2) if count <= 4 else min((3, 4), key=lambda c: -count % c)
    columns = columns or few
    figure, maps = sheets.panel_figure(
        math.ceil(count / columns), columns, field, width=4.4, view=view
    )
    for index, axes in enumerate(maps[:count]):
        one = shown.isel(time=index)
        mappable = draw_field(
            axes,
            one,
            norm=norm,
            colormap=style.colormap,
            contours=style.contours,
            view=view,
        )
        axes.set_title(styles.valid_label(one), fontsize=9)
    for axes in maps[count:]:
        axes.remove()
    sheets.add_colorbar(figure, mappable, maps[:count], shown)
    heading = styles.label(field)
    if count <= last:
        heading += f", {count} of {last + 1} times"
    figure.suptitle(title or heading, fontsize=12)
    return figure


def save_figure(
    figure: matplotlib.figure.Figure, path: str | os.PathLike[str], *, dpi: int = 130
) -> pathlib.Path:
    """Writes a picture, in the format of its suffix, whole or not at all.

    Args:
      figure: Any matplotlib figure.
      path: Where to; its folder must exist.
      dpi: Pixels per inch.

    Returns:
      The path.

    Raises:
      OSError: The folder is missing or not writable, or the disk is full. A file of
        that name from before is left as it was.
    """
    path = pathlib.Path(path)
    picture = io.BytesIO()
    kind = path.suffix.lstrip(".") or "png"
    figure.savefig(picture, dpi=dpi, format=kind, bbox_inches="tight")
    with writing.replacing(path) as partial:
        partial.write_bytes(picture.getvalue())
    return path


def _draw_smooth(
    axes: matplotlib.axes.Axes,
    flat: grid.FlatField,
    norm: matplotlib.colors.Normalize,
    colormap: str | matplotlib.colors.Colormap,
) -> matplotlib.cm.ScalarMappable:
    """Draws an even field interpolated between cells, also across the map's edges."""
    step_lat = np.diff(flat.latitude).mean() if len(flat.latitude) > 1 else 1.0
    step_lon = np.diff(flat.longitude).mean() if len(flat.longitude) > 1 else 1.0
    padded = np.pad(flat.filled, ((0, 0), (1, 1)), "wrap" if flat.wraps else "edge")
    padded = np.pad(padded, ((1, 1), (0, 0)), "edge")
    west, south = flat.longitude[0] - 1.5 * step_lon, flat.latitude[0] - 1.5 * step_lat
    east = flat.longitude[-1] + 1.5 * step_lon
    north = flat.latitude[-1] + 1.5 * step_lat
    gaps = ~np.isfinite(flat.values)
    if gaps.any():
        axes.pcolormesh(
            flat.longitude_edges,
            flat.latitude_edges,
            np.ma.masked_array(gaps, ~gaps),
            cmap=matplotlib.colors.ListedColormap([_GROUND]),
            rasterized=True,
        )
    return axes.imshow(
        padded,
        origin="lower",
        extent=(west, east, south, north),
        interpolation="catrom",
        norm=norm,
        cmap=colormap,
    )


def _draw_reference_lines(axes: matplotlib.axes.Axes, *, coasts: bool) -> None:
    """Draws parallels and meridians, stronger and labelled where coasts are missing."""
    west, east, south, north = axes.axis()
    step = _grid_step(east - west, north - south)
    axes.set_xticks(np.arange(math.ceil(west / step) * step, east + 1e-6, step))
    axes.set_yticks(np.arange(math.ceil(south / step) * step, north + 1e-6, step))
    axes.grid(color="0.3", linewidth=0.3, alpha=0.35 if coasts else 0.9)
    axes.tick_params(
        length=0, labelsize=7, labelbottom=not coasts, labelleft=not coasts
    )
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color="0.3")


def _grid_step(width: float, height: float) -> float:
    """Returns the distance between grid lines that gives at most six across."""
    for step in (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0):
        if max(width, height) / step <= 6:
            return step
    return 60.0


def on_grid_of(
    target: xarray.DataArray, prediction: xarray.DataArray
) -> xarray.DataArray:
    """Returns the prediction with the rows and columns in the target's order.

    Raises:
      ValueError: The two lie on different grids.
    """
    for name in ("lat", "lon"):
        if not (name in target.coords and name in prediction.coords):
            raise ValueError(f"a comparison needs coordinate {name!r} in both fields")
        if sorted(target[name].values) != sorted(prediction[name].values):
            raise ValueError(
                f"target and prediction lie on different grids: {name!r} has "
                f"{target.sizes[name]} and {prediction.sizes[name]} values"
            )
    return prediction.sel(lat=target["lat"], lon=target["lon"])
