"""Error of a forecast against lead time, beside that of persistence."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np
import xarray

from weatherlib.plotting import styles

__all__ = ["draw_score_curves"]

_LOOKS = {
    "forecast": {"color": "#1f5fa8", "linewidth": 1.8, "marker": "o"},
    "persistence": {"color": "#c0392b", "linewidth": 1.3, "linestyle": "--"},
}
# No red, which is that of persistence.
_COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf",
)  # fmt: skip
_DAY = 24.0
_HEADROOM = 1.05


def draw_score_curves(
    scores: xarray.Dataset,
    *,
    columns: int = 0,
    title: str = "RMSE by lead time",
    bands: tuple[xarray.Dataset, xarray.Dataset] | None = None,
    aim: float | None = None,
) -> matplotlib.figure.Figure:
    """Returns a figure with one panel per variable, and one line per forecast in it.

    Args:
      scores: Each variable has dimensions `source` and `time` and is an error in SI
        units. The coordinate `source` names the lines, such as "forecast" and
        "persistence"; `time` is the lead time.
      columns: Panels side by side. Default: as near to a square as fills the rows.
      title: Above all panels.
      bands: Lower and upper ends of the intervals around the lines, drawn as bands;
        of the same form, variables without an interval left out.
      aim: The value of a perfect forecast, drawn as a thin line. Default: none.

    Raises:
      ValueError: There is nothing to draw, or a dimension is missing.
    """
    if not scores.data_vars or not {"source", "time"} <= set(scores.dims):
        raise ValueError(
            "score curves need variables with dimensions 'source' and 'time', found "
            f"{list(scores.data_vars)} with {dict(scores.sizes)}"
        )
    count = len(scores.data_vars)
    columns = columns or min(count, 4, max(1, round(math.sqrt(1.6 * count))))
    rows = math.ceil(count / columns)
    figure = matplotlib.figure.Figure(
        figsize=(3.3 * columns + 0.3, 2.3 * rows + 0.8), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    hours = scores["time"].values / np.timedelta64(1, "h")
    divisor, unit = (_DAY, "days") if hours[-1] > 3 * _DAY else (1.0, "hours")
    ticks = matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 3, 6, 10], integer=True)
    if unit == "hours":
        ticks = matplotlib.ticker.MultipleLocator(6.0 if hours[-1] <= 36 else 12.0)
    for axes, (name, values) in zip(panels, scores.data_vars.items()):
        style = styles.find(values)
        shown = style.show(values, difference=True)
        ends = [
            style.show(band[name], difference=True).transpose("source", "time")
            for band in bands or ()
            if name in band
        ]
        _draw_lines(axes, hours / divisor, shown, ends)
        axes.set_title(styles.label(values.rename(name)), fontsize=9)
        axes.set_ylabel(str(shown.attrs.get("units", "")), fontsize=8)
        axes.set_xlabel(f"lead time ({unit})", fontsize=8)
        _limit(axes, [shown, *ends], aim)
        axes.xaxis.set_major_locator(copy.copy(ticks))
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[count:]:
        axes.remove()
    _add_legend(figure)
    figure.suptitle(title, fontsize=12)
    return figure


def _limit(
    axes: matplotlib.axes.Axes, drawn: Sequence[xarray.DataArray], aim: float | None
) -> None:
    """Ends a panel at 0 where nothing lies below, with room above what is drawn."""
    axes.set_xlim(left=0)
    if aim is not None:
        axes.axhline(aim, color="0.4", linewidth=0.8, linestyle=":", zorder=1)
    values = np.concatenate([np.ravel(each.values) for each in drawn])
    highest = max(values[np.isfinite(values)].max(initial=0.0), aim or 0.0)
    if not (values < 0).any() and highest > 0:
        axes.set_ylim(0, _HEADROOM * highest)


def _add_legend(figure: matplotlib.figure.Figure) -> None:
    """Names the lines below the panels, those that have no point left out."""
    named = {
        str(line.get_label()): line
        for axes in reversed(figure.axes)
        for line in reversed(axes.get_lines())
        if not str(line.get_label()).startswith("_")
    }
    figure.legend(
        list(reversed(named.values())),
        list(reversed(named)),
        loc="outside lower center",
        ncols=max(1, min(len(named), int(figure.get_figwidth() / 1.6))),
        frameon=False,
    )


def _draw_lines(
    axes: matplotlib.axes.Axes,
    lead: np.ndarray,
    shown: xarray.DataArray,
    ends: Sequence[xarray.DataArray],
) -> None:
    """Draws one line per source through the lead times it has, and its band."""
    colours = itertools.cycle(_COLOURS)
    for number, source in enumerate(shown["source"].values.tolist()):
        values = shown.transpose("source", "time").values[number]
        # A source has one colour in all panels, also where another has no scores.
        look: dict[str, Any] = dict(
            _LOOKS.get(source) or {"linewidth": 1.3, "color": next(colours)}
        )
        # Sources may have lead times of their own.
        held = np.isfinite(values)
        if not held.any():
            continue
        if held.sum() == 1:
            look["marker"] = "o"
        (line,) = axes.plot(
            lead[held],
            values[held],
            label=source,
            markersize=3 if len(lead) < 30 else 0,
            **look,
        )
        if ends:
            low, high = (end.values[number][held] for end in ends)
            axes.fill_between(
                lead[held], low, high, color=line.get_color(), alpha=0.15, linewidth=0
            )
