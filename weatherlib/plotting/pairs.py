"""Sheets of maps that compare fields with what was made of them, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import xarray

from weatherlib.plotting import maps, sheets, styles, views

__all__ = ["draw_pairs"]

Pair = tuple[xarray.DataArray, xarray.DataArray]


def draw_pairs(
    pairs: Sequence[Pair],
    labels: Sequence[str],
    *,
    names: tuple[str, str, str] = ("Truth", "Forecast", "Forecast minus truth"),
    title: str = "",
    view: views.View | None = None,
) -> matplotlib.figure.Figure:
    """Returns a figure with a row for each pair: the two, and their difference.

    Neighbouring rows of one variable and level have a scale in common.

    Args:
      pairs: A true field and what was made of it, each with dimensions `lat` and `lon`,
        on one grid, in SI units.
      labels: Of each row.
      names: Of the columns.
      title: Of the whole.
      view: The map, as for `draw_field`.

    Raises:
      ValueError: As `draw_field`; there is no pair, or not a label for each; or the
        fields of a pair lie on different grids.
    """
    if not pairs or len(pairs) != len(labels):
        raise ValueError(
            f"a sheet needs pairs and a label for each, found {len(pairs)} and "
            f"{len(labels)}"
        )
    pairs = [(truth, maps.on_grid_of(truth, made)) for truth, made in pairs]
    figure, panels = sheets.panel_figure(
        len(pairs), 3, pairs[0][0], width=4.2, view=view
    )
    grid = np.reshape(np.asarray(panels, object), (len(pairs), 3))
    for begin, end in _groups([truth for truth, _ in pairs]):
        _draw_group(figure, grid[begin:end], pairs[begin:end], view)
    for axes, name in zip(grid[0], names):
        axes.set_title(name, fontsize=11)
    for axes, label in zip(grid[:, 0], labels):
        axes.set_ylabel(label, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _draw_group(
    figure: matplotlib.figure.Figure,
    grid: np.ndarray,
    pairs: Sequence[Pair],
    view: views.View | None,
) -> None:
    """Draws rows that have their scales in common."""
    style = styles.find(pairs[0][0])
    shown = [tuple(style.show(f, difference=False) for f in pair) for pair in pairs]
    errors = []
    for truth, made in pairs:
        error = style.show(made - truth, difference=True)
        error.attrs = style.show(truth, difference=True).attrs
        errors.append(error)
    both = [views.visible(field, view) for pair in shown for field in pair]
    norm = styles.normalize(both, style)
    differences = [views.visible(error, view) for error in errors]
    spread = styles.normalize(differences, style, difference=True)
    options = {"colormap": style.colormap, "contours": style.contours, "view": view}
    for row, pair, error in zip(grid, shown, errors):
        for axes, field in zip(row, pair):
            mappable = maps.draw_field(axes, field, norm=norm, **options)
        differing = maps.draw_field(
            row[2], error, norm=spread, colormap=styles.DIFFERENCE_COLORMAP, view=view
        )
    sheets.add_colorbar(figure, mappable, [*grid[:, 0], *grid[:, 1]], shown[0][0])
    sheets.add_colorbar(figure, differing, list(grid[:, 2]), errors[0])


def _groups(fields: Sequence[xarray.DataArray]) -> list[tuple[int, int]]:
    """Returns first and last places of neighbouring fields of one kind."""
    kinds = [styles.label(field) for field in fields]
    starts = [i for i in range(len(kinds)) if i == 0 or kinds[i] != kinds[i - 1]]
    return list(zip(starts, [*starts[1:], len(kinds)]))
