"""The scorecard: how much better or worse one forecast is than another, at a glance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence

import matplotlib.axes
import matplotlib.cm
import matplotlib.colors
import matplotlib.figure
import numpy as np
import xarray

from weatherlib import variables

__all__ = ["draw_scorecard", "lead_dim", "lead_hours"]

LEADS = ("lead_time", "prediction_timedelta", "time", "step")
_COLOURS = matplotlib.colors.LinearSegmentedColormap.from_list(
    "weatherlib_scorecard",
    ["#14427a", "#3f7fbf", "#a9cbe6", "#f7f7f5", "#f3b8a6", "#cf5c4a", "#8a1c22"],
)
_CELL = 0.42
_ROW = 0.26
_MOST_LIMIT = 0.5  # Beyond, even a model twice as good has no colour left.
_NUMBERED = 16  # Lead times up to which each cell says its number.


def lead_dim(scores: xarray.Dataset | xarray.DataArray) -> str:
    """Returns the dimension of lead times.

    Raises:
      ValueError: There is none.
    """
    for name in LEADS:
        if name in scores.dims:
            return name
    raise ValueError(
        f"scores need a dimension of lead times ({', '.join(LEADS)}); these have "
        f"{', '.join(map(str, scores.dims)) or 'none'}"
    )


def lead_hours(lead: xarray.DataArray) -> np.ndarray:
    """Returns lead times in hours; plain numbers are taken for days without `units`."""
    if lead.dtype.kind == "m":
        return lead.values / np.timedelta64(1, "h")
    hours = str(lead.attrs.get("units", "days")).lower().startswith(("h", "hour"))
    return lead.values.astype(float) * (1.0 if hours else 24.0)


def draw_scorecard(
    relative: xarray.Dataset | xarray.DataArray,
    *,
    significant: xarray.Dataset | xarray.DataArray | None = None,
    limit: float | None = None,
    title: str = "",
    better_is_lower: bool = True,
) -> matplotlib.figure.Figure:
    """Returns a table of coloured cells: blue is better, red is worse.

    Rows are variables, one below the other for each level; columns are lead times.
    Each further dimension, such as region or metric, gives a table of its own.

    Args:
      relative: Change against the reference as a fraction, such as RMSE of the model
        by RMSE of the reference less 1. Dimensions: lead times (see `LEADS`), `level`
        if there are levels, any others. A DataArray is one variable, or one row for
        each entry of its dimension `variable`.
      significant: Of the same shape, true where the change is no accident; cells that
        are not are paler.
      limit: Fraction at which the colours end. Default: a round number that holds 95 %
        of all values, 0.5 at most: a poor reference would take the colours from models
        that resemble one another.
      title: Above all tables.
      better_is_lower: Whether a negative change is the better one.

    Raises:
      ValueError: There is no lead time, or nothing to show.
    """
    relative = _dataset(relative)
    marks = None if significant is None else _dataset(significant)
    lead = lead_dim(relative)
    hours = lead_hours(relative[lead])
    values = [array for array in relative.data_vars.values() if lead in array.dims]
    sizes = _magnitudes(values)
    rows = _rows(relative)
    limit = limit or min(_round_up(float(np.percentile(sizes, 95))), _MOST_LIMIT)
    others = {d for array in values for d in array.dims} - {lead, "level"}
    panels = _panels(relative, sorted(others, key=str))
    figure, grid = _figure(rows, len(hours), len(panels))
    norm = matplotlib.colors.Normalize(-100 * limit, 100 * limit)
    colours = _COLOURS if better_is_lower else _COLOURS.reversed()
    across = grid.shape[1]
    for number, axes in enumerate(grid.ravel()):
        if number >= len(panels):
            axes.remove()
            continue
        where, heading = panels[number]
        table = 100 * _table(relative, rows, where, lead)
        faint = None if marks is None else ~(_table(marks, rows, where, lead) > 0)
        _draw_table(axes, table, faint, norm, colours)
        _label(axes, rows, hours, first=number % across == 0)
        axes.set_title(heading, fontsize=10)
    _add_colour_bar(figure, matplotlib.cm.ScalarMappable(norm, colours))
    figure.suptitle(title, fontsize=12)
    return figure


def _magnitudes(values: Sequence[xarray.DataArray]) -> np.ndarray:
    """Returns the absolute values of all that is finite.

    Raises:
      ValueError: None of them is finite.
    """
    finite = np.concatenate([np.ravel(array.values) for array in values] or [[]])
    finite = np.abs(finite[np.isfinite(finite)])
    if not finite.size:
        raise ValueError("the scorecard has no value to show")
    return finite


def _figure(
    rows: list[tuple[str, float | None, str]], leads: int, panels: int
) -> tuple[matplotlib.figure.Figure, np.ndarray]:
    """Returns a figure with room for tables, and their axes, [down, across]."""
    width = leads * _CELL + 0.25
    across = max(1, min(panels, math.floor(15.0 / (width + 0.4))))
    down = math.ceil(panels / across)
    label_width = 0.085 * max(len(label) for _, _, label in rows) + 0.1
    figure = matplotlib.figure.Figure(
        figsize=(
            max(across * width + label_width, 5.5),
            down * (len(rows) * _ROW + 0.75) + 0.95,
        ),
        layout="constrained",
    )
    return figure, figure.subplots(down, across, squeeze=False, sharey=True)


def _add_colour_bar(
    figure: matplotlib.figure.Figure, colours: matplotlib.cm.ScalarMappable
) -> None:
    """Adds the scale of all tables below them."""
    bar = figure.colorbar(
        colours,
        ax=list(figure.axes),
        orientation="horizontal",
        extend="both",
        shrink=0.5,
        aspect=40,
        pad=0.02,
    )
    bar.set_label("change against the reference (%), blue is better", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _dataset(scores: xarray.Dataset | xarray.DataArray) -> xarray.Dataset:
    """Returns scores as a dataset, one variable a row or a group of rows."""
    if isinstance(scores, xarray.Dataset):
        return scores
    if "variable" in scores.dims:
        return scores.to_dataset("variable")
    return scores.to_dataset(name=str(scores.name or "score"))


def _rows(scores: xarray.Dataset) -> list[tuple[str, float | None, str]]:
    """Returns variable, level and label of each row that has a value."""
    rows: list[tuple[str, float | None, str]] = []
    for name, array in scores.data_vars.items():
        known = variables.find(str(name))
        label = known.display_name if known else str(name).replace("_", " ")
        if "level" not in array.dims:
            if not array.isnull().all():
                rows.append((str(name), None, label))
            continue
        for level in array["level"].values.tolist():
            if not array.sel(level=level).isnull().all():
                rows.append((str(name), level, f"{label} {level:g} hPa"))
    return rows


def _panels(
    scores: xarray.Dataset, others: Sequence[Hashable]
) -> list[tuple[dict[Hashable, int], str]]:
    """Returns the place of each table along the other dimensions, and its title."""
    panels: list[tuple[dict[Hashable, int], str]] = [({}, "")]
    for dim in others:
        names = [str(n) for n in scores[dim].values]
        panels = [
            ({**where, dim: i}, ", ".join(filter(None, [heading, name])))
            for where, heading in panels
            for i, name in enumerate(names)
        ]
    return panels


def _table(
    scores: xarray.Dataset,
    rows: list[tuple[str, float | None, str]],
    where: dict[Hashable, int],
    lead: str,
) -> np.ndarray:
    """Returns the values of one table, shape [row, lead]."""
    lines = []
    for name, level, _ in rows:
        line = scores[name].isel(where, missing_dims="ignore")
        if level is not None:
            line = line.sel(level=level)
        lines.append(np.broadcast_to(line.values.astype(float), scores.sizes[lead]))
    return np.stack(lines)


def _draw_table(
    axes: matplotlib.axes.Axes,
    table: np.ndarray,
    faint: np.ndarray | None,
    norm: matplotlib.colors.Normalize,
    colours: matplotlib.colors.Colormap,
) -> None:
    """Draws cells, and numbers where there is room."""
    held = np.isfinite(table)
    edges = (np.arange(n + 1) - 0.5 for n in table.shape[::-1])
    alpha = 1.0 if faint is None else np.where(faint & held, 0.35, 1.0)
    axes.pcolormesh(
        *edges,
        np.ma.masked_invalid(table),
        norm=norm,
        # The ground is white, so that pale cells look pale and not muddy.
        cmap=colours.with_extremes(bad="0.9"),
        alpha=alpha,  # type: ignore[arg-type]
        edgecolor="white",
        linewidth=0.8,
    )
    # Not turned round: panels that share the axis would turn one another back.
    axes.set_ylim(len(table) - 0.5, -0.5)
    if table.shape[1] > _NUMBERED:
        return
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = abs(value) > 0.55 * (norm.vmax or 1.0)
            pale = faint is not None and faint[row, column]
            axes.text(
                column,
                row,
                f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.1f}",
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if dark and not pale else "0.25",
            )


def _label(
    axes: matplotlib.axes.Axes,
    rows: list[tuple[str, float | None, str]],
    hours: np.ndarray,
    *,
    first: bool,
) -> None:
    """Labels rows and lead times, and parts variables of many levels by a line."""
    axes.set_yticks(range(len(rows)), [label for _, _, label in rows], fontsize=8)
    axes.tick_params(length=0, labelleft=first)
    days = bool(hours[-1] >= 48)
    every = max(1, math.ceil(len(hours) / 12))
    ticks = range(0, len(hours), every)
    axes.set_xticks(
        ticks, [f"{hours[i] / (24 if days else 1):g}" for i in ticks], fontsize=7
    )
    axes.set_xlabel(f"lead time ({'days' if days else 'hours'})", fontsize=8)
    names = [name for name, _, _ in rows]
    for row, pair in enumerate(itertools.pairwise(names), start=1):
        if pair[0] != pair[1] and max(map(names.count, pair)) > 1:
            axes.axhline(row - 0.5, color="0.2", lw=0.8)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _round_up(value: float) -> float:
    """Returns the next larger of 1, 2 or 5 times a power of ten."""
    value = max(value, 1e-4)
    power = 10.0 ** math.floor(math.log10(value))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= value * 0.999)
