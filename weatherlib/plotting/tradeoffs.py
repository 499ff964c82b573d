"""What models reach, and what that costs, in one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np
import xarray

from weatherlib.plotting import powers, styles

__all__ = ["draw_skill_and_cost", "relative_error"]

_COLOURS = [matplotlib.colormaps["tab20"](i) for i in range(20)]
_MARKERS = "osD^vP*X<>ph"
_REFERENCES = ("#555555", "#999999", "#bbbbbb", "#777777")
_DASHES = ("--", ":", "-.", (0, (5, 1)))
# More panels of variables than this are a picture that nobody can read.
_MOST = 4


def relative_error(
    errors: xarray.Dataset, lead: np.timedelta64, *, baseline: str = "persistence"
) -> xarray.DataArray:
    """Returns errors as shares of those of a reference, averaged over variables.

    The average is geometric, so that it does not matter which of two models is the
    reference. Variables without an error of every source are left out.

    Args:
      errors: Each variable has dimensions `source` and `time`, the lead time.
      lead: At which lead time.
      baseline: The reference, an entry of `source`.

    Returns:
      One number for each source; 1 is as good as the reference.

    Raises:
      ValueError: There is no such reference or lead time, or no variable is left.
    """
    if baseline not in errors["source"].values:
        raise ValueError(
            f"there is no source {baseline!r} to compare with; found "
            f"{', '.join(map(str, errors['source'].values))}"
        )
    if lead not in errors["time"].values:
        raise ValueError(f"there are no errors at {_hours(lead):g} h")
    logs = []
    for array in errors.data_vars.values():
        found = array.sel(time=lead, drop=True)
        share = found / found.sel(source=baseline, drop=True)
        if bool(np.isfinite(share).all()) and bool((share > 0).all()):
            logs.append(np.log(share))
    if not logs:
        raise ValueError("no variable has an error above 0 of every source")
    return np.exp(sum(logs) / len(logs)).rename("relative_error")


def draw_skill_and_cost(
    errors: xarray.Dataset,
    costs: xarray.Dataset,
    *,
    lead: np.timedelta64 | None = None,
    baseline: str = "persistence",
    title: str = "",
) -> matplotlib.figure.Figure:
    """Returns a figure of errors by lead time, and of errors against what they cost.

    The upper panels show the error of each of the first variables by lead time, the
    lower ones the mean error as a share of that of a reference against each cost, on a
    logarithmic axis. Sources without costs, such as persistence, are lines.

    Args:
      errors: Each variable has dimensions `source` and `time`, the lead time, and is an
        error in SI units.
      costs: Each variable has the dimension `source`, holds positive numbers, and has
        the attributes `long_name` and `units`.
      lead: Lead time of the lower panels; the last by default.
      baseline: What errors are divided by there.
      title: Above all panels.

    Raises:
      ValueError: There is nothing to draw, a dimension is missing, or the reference or
        lead time is not there.
    """
    if not errors.data_vars or not costs.data_vars:
        raise ValueError("errors and costs need a variable each")
    if set(errors.dims) != {"source", "time"} or set(costs.dims) != {"source"}:
        raise ValueError(
            "errors need the dimensions 'source' and 'time', costs 'source'; found "
            f"{list(errors.dims)} and {list(costs.dims)}"
        )
    shown_lead = errors["time"].values[-1] if lead is None else lead
    share = relative_error(errors, shown_lead, baseline=baseline)
    looks = _looks([str(n) for n in errors["source"].values], costs["source"].values)
    shown = list(errors.data_vars)[:_MOST]
    columns = max(len(shown), len(costs.data_vars))
    figure = matplotlib.figure.Figure(
        figsize=(3.1 * columns + 0.4, 6.6), layout="constrained"
    )
    above, below = np.ravel(figure.subfigures(2, 1))
    upper = above.subplots(1, len(shown), squeeze=False)[0]
    lower = below.subplots(1, len(costs.data_vars), sharey=True, squeeze=False)[0]
    for axes, name in zip(upper, shown):
        _draw_curves(axes, errors[name], looks)
    for axes, cost in zip(lower, costs.data_vars.values()):
        _draw_cost(axes, share, cost, looks)
    lower[0].set_ylabel(f"RMSE / {baseline} at {_hours(shown_lead):g} h", fontsize=8)
    handles, labels = upper[0].get_legend_handles_labels()
    rows = math.ceil(len(labels) / (2 * columns))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=math.ceil(len(labels) / rows),
        frameon=False,
        fontsize=8,
    )
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _looks(sources: list[str], priced: Any) -> dict[str, dict[str, Any]]:
    """Returns how each source is drawn: references grey, models in colour."""
    found, models, references = {}, 0, 0
    for source in sources:
        if source in priced:
            found[source] = {
                "color": _COLOURS[(2 * models + models // 10) % len(_COLOURS)],
                "marker": _MARKERS[models % len(_MARKERS)],
                "linewidth": 1.3,
                "markersize": 5,
            }
            models += 1
        else:
            found[source] = {
                "color": _REFERENCES[references % len(_REFERENCES)],
                "linestyle": _DASHES[references % len(_DASHES)],
                "linewidth": 1.5,
            }
            references += 1
    return found


def _draw_curves(
    axes: matplotlib.axes.Axes,
    error: xarray.DataArray,
    looks: Mapping[str, dict[str, Any]],
) -> None:
    shown = styles.find(error).show(error, difference=True)
    hours = _hours(error["time"].values)
    for source, look in looks.items():
        axes.plot(hours, shown.sel(source=source).values, label=source, **look)
    axes.set_title(styles.label(error), fontsize=9)
    axes.set_xlabel("lead time (hours)", fontsize=8)
    axes.set_ylabel(f"RMSE ({shown.attrs.get('units', '')})", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 3, 6]))
    _tidy(axes)


def _draw_cost(
    axes: matplotlib.axes.Axes,
    share: xarray.DataArray,
    cost: xarray.DataArray,
    looks: Mapping[str, dict[str, Any]],
) -> None:
    for source, look in looks.items():
        y = float(share.sel(source=source))
        if source not in cost["source"].values:
            axes.axhline(y, **look)
            continue
        x = float(cost.sel(source=source))
        if x > 0:
            axes.plot([x], [y], **{**look, "linestyle": "none", "markersize": 7})
    axes.set_xscale("log")
    powers.label_powers(axes.xaxis, cost.values)
    units = cost.attrs.get("units", "")
    name = str(cost.attrs.get("long_name", cost.name))
    axes.set_xlabel(f"{name} ({units})" if units else name, fontsize=8)
    _tidy(axes)


def _tidy(axes: matplotlib.axes.Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _hours(lead: Any) -> Any:
    return lead / np.timedelta64(1, "h")
