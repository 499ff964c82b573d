"""Figures with several maps: their size and their colour bars."""

from __future__ import annotations

import math
from typing import Literal

import matplotlib.axes
import matplotlib.cm
import matplotlib.figure
import matplotlib.layout_engine
import numpy as np
import xarray

from weatherlib.plotting import grid, views

__all__ = ["add_colorbar", "panel_figure"]

# Room for the title of a row of panels, inches.
_ROW_GAP = 0.4


def panel_figure(
    rows: int,
    columns: int,
    field: xarray.DataArray,
    *,
    width: float,
    view: views.View | None = None,
) -> tuple[matplotlib.figure.Figure, list[matplotlib.axes.Axes]]:
    """Returns a figure of map panels shaped like the field, and the panels by row.

    Args:
      rows: Panels from top to bottom.
      columns: Panels side by side.
      field: With coordinates `lat` and `lon` it gives the panels the shape of its
        window of the globe, else that of its last two dimensions.
      width: Width of one panel. Inches.
      view: The map, where it is not all of the field.
    """
    shape = _shape(field) if view is None else view.shape
    if view is not None:
        # As much paper for a square map as for one twice as wide.
        width *= min(1.0, math.sqrt(0.55 / shape))
    height = width * float(np.clip(shape, 0.1, 2.0))
    figure = matplotlib.figure.Figure(
        figsize=(columns * width + 0.3, rows * (height + _ROW_GAP) + 0.85),
        # Titles of a row would touch the panels above with the usual distance.
        layout=matplotlib.layout_engine.ConstrainedLayoutEngine(
            h_pad=_ROW_GAP / 4 if rows > 1 else None
        ),
    )
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _open_ends(mappable: matplotlib.cm.ScalarMappable) -> Literal["both", "max"]:
    """Returns on which sides values may lie beyond a colour scale."""
    return "max" if mappable.norm.vmin == 0.0 else "both"


def _shape(field: xarray.DataArray) -> float:
    """Returns the height of a panel divided by its width."""
    if not {"lat", "lon"} <= set(field.coords):
        return field.shape[-2] / field.shape[-1]
    one = field.isel({d: 0 for d in field.dims if d not in ("lat", "lon")})
    west, east, south, north = grid.flatten(one).extent
    return (north - south) / (east - west)


def add_colorbar(
    figure: matplotlib.figure.Figure,
    mappable: matplotlib.cm.ScalarMappable,
    panels: list[matplotlib.axes.Axes],
    field: xarray.DataArray,
    *,
    open_ends: bool = True,
) -> None:
    """Adds one horizontal colour bar below the panels, labelled with the units.

    Args:
      figure: Holds the panels.
      mappable: What `draw_field` returned.
      panels: Maps with this colour scale.
      field: Its attribute `units` is the label.
      open_ends: Whether values may lie beyond the ends of the scale.
    """
    bar = figure.colorbar(
        mappable,
        ax=panels,
        orientation="horizontal",
        extend=_open_ends(mappable) if open_ends else "neither",
        fraction=0.05,
        pad=0.03,
        aspect=50,
        shrink=0.6 if len(panels) > 1 else 0.8,
    )
    bar.set_label(str(field.attrs.get("units", "")), fontsize=9)
    bar.ax.tick_params(labelsize=8)
