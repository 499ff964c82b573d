"""What the members of an ensemble say: spaghetti on a map, plumes along time."""

from __future__ import annotations

import matplotlib.axes
import matplotlib.dates
import matplotlib.figure
import matplotlib.lines
import numpy as np
import xarray

from weatherlib.data_utils import lexicon
from weatherlib.plotting import grid, sheets, styles, views

__all__ = ["MEMBERS", "draw_plume", "draw_spaghetti", "member_dim"]

# Names of the dimension of an ensemble, those that scores know too.
MEMBERS = lexicon.MEMBERS

_COLOURS = ("#1f5fa8", "#c0392b", "#3a7d44", "#8e44ad", "#d68910")
_BLUE = "#1f5fa8"
# Percentiles of each band of a plume, and how dark it is.
_BANDS = ((0.0, 100.0, 0.13), (10.0, 90.0, 0.22), (25.0, 75.0, 0.38))
_PIXELS = 420


def member_dim(field: xarray.DataArray) -> str:
    """Returns the dimension that counts members.

    Raises:
      ValueError: There is none.
    """
    for name in MEMBERS:
        if name in field.dims:
            return name
    raise ValueError(
        f"an ensemble has a dimension {', '.join(MEMBERS[:-1])} or {MEMBERS[-1]}; "
        f"{field.name} has {', '.join(map(str, field.dims))}"
    )


def draw_spaghetti(
    field: xarray.DataArray,
    values: tuple[float, ...] = (),
    *,
    view: views.View | None = None,
    title: str = "",
) -> matplotlib.figure.Figure:
    """Returns a map with one line per member where the field has a value.

    Args:
      field: Dimensions of members (see `MEMBERS`), `lat` and `lon`; others must have
        size 1. SI units.
      values: Of the lines, in the units of the picture. Default: two round numbers
        between the extremes of the mean.
      view: The map; plate carrée of the field's own part of the globe by default.
      title: Default: name, level and valid time.

    Raises:
      ValueError: There are no members or no grid, or no member has any of the values.
    """
    field = grid.named(field)
    dim = member_dim(field)
    style = styles.find(field)
    shown = style.show(field, difference=False)
    mean = shown.mean(dim, keep_attrs=True)
    view = view or views.find("plate-carree", mean)
    values = values or _round_values(views.visible(mean, view))
    figure, (axes,) = sheets.panel_figure(1, 1, mean, width=8.0, view=view)
    border = views.prepare(axes, view, ground="white")
    drawn = False
    for member in range(shown.sizes[dim] + 1):
        last = member == shown.sizes[dim]
        one = mean if last else shown.isel({dim: member})
        x, y, sampled = views.sample(one, view, pixels=_PIXELS)
        for value, colour in zip(values, _COLOURS * len(values)):
            with_line = np.nanmin(sampled) <= value <= np.nanmax(sampled)
            if not with_line:
                continue
            drawn = True
            lines = axes.contour(
                x,
                y,
                np.ma.masked_invalid(sampled),
                levels=[value],
                colors="black" if last else colour,
                linewidths=1.6 if last else 0.6,
                alpha=1.0 if last else 0.75,
                linestyles="solid",
                zorder=5 if last else 4,
            )
            lines.set_clip_path(border)
    if not drawn:
        raise _without_lines(values, views.visible(shown, view))
    left, right, low, high = view.extent
    axes.set(xlim=(left, right), ylim=(low, high))
    units = str(shown.attrs.get("units", ""))
    handles = [
        matplotlib.lines.Line2D([], [], color=colour, label=f"{value:g} {units}")
        for value, colour in zip(values, _COLOURS * len(values))
    ]
    handles.append(
        matplotlib.lines.Line2D([], [], color="black", lw=1.6, label="mean of members")
    )
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    heading = [styles.label(field), styles.valid_label(field)]
    heading.append(f"{field.sizes[dim]} members")
    axes.set_title(title or ", ".join(filter(None, heading)), fontsize=11)
    return figure


def _without_lines(values: tuple[float, ...], field: xarray.DataArray) -> ValueError:
    """Returns the error for lines at values that no member reaches."""
    low, high = float(field.min()), float(field.max())
    units = str(field.attrs.get("units", ""))
    asked = ", ".join(f"{value:g}" for value in values)
    return ValueError(
        f"values: no member has {asked} {units}; on this map they have {low:.4g} to "
        f"{high:.4g} {units}"
    )


def draw_plume(
    series: xarray.DataArray,
    *,
    truth: xarray.DataArray | None = None,
    place: str = "",
    title: str = "",
) -> matplotlib.figure.Figure:
    """Returns a figure of the members along time: bands of percentiles and the median.

    Args:
      series: Dimensions of members (see `MEMBERS`) and `time`; others must have size
        1. SI units, at one point or of one area.
      truth: What happened, dimension `time`, on the same axis.
      place: Goes into the title.
      title: Default: name, level and place.

    Raises:
      ValueError: There are no members or no times.
    """
    dim = member_dim(series)
    if not series.sizes.get("time"):
        raise ValueError(f"a plume needs times; found {dict(series.sizes)}")
    style = styles.find(series)
    shown = style.show(series, difference=False).squeeze(drop=True)
    if "time" not in shown.dims:
        shown = shown.expand_dims("time")
    members = shown.transpose(dim, "time").values
    x, name = _axis(series)
    figure = matplotlib.figure.Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.subplots()
    few = series.sizes["time"] == 1
    across = _around(x) if few else x
    for low, high, alpha in _BANDS:
        label = "all members" if high == 100.0 else f"{low:g} to {high:g} %"
        ends = np.nanpercentile(members, [low, high], axis=0)
        ends = np.repeat(ends, 2, axis=1) if few else ends
        axes.fill_between(across, *ends, color=_BLUE, alpha=alpha, lw=0, label=label)
    axes.plot(x, members.T, color=_BLUE, lw=0.4, alpha=0.5, marker="_" if few else "")
    middle = np.nanmedian(members, axis=0)
    axes.plot(x, middle, color="#0b2d5b", lw=2.0, label="median", marker="o" * few)
    if truth is not None:
        known = style.show(truth, difference=False).squeeze(drop=True)
        axes.plot(
            _axis(truth)[0] if truth.sizes.get("time") else x,
            np.atleast_1d(known.values),
            color="black",
            lw=1.6,
            ls="--",
            label="truth",
        )
    axes.set_ylabel(str(shown.attrs.get("units", "")))
    axes.set_xlabel(name)
    _scale(axes, x, series)
    axes.grid(alpha=0.25, lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    heading = [styles.label(series), place]
    heading += [styles.valid_label(series)] * few
    heading.append(f"{series.sizes[dim]} members")
    axes.set_title(title or ", ".join(filter(None, heading)), fontsize=11)
    return figure


def _scale(axes: matplotlib.axes.Axes, x: np.ndarray, series: xarray.DataArray) -> None:
    """Labels the axis of time, around a single time by itself."""
    axes.margins(x=0.0)
    dates = x.dtype.kind == "M"
    if len(x) == 1:
        # Matplotlib would end the axis years away from one date.
        left, right = _around(x)
        axes.set_xlim(left - 4 * (x[0] - left), right + 4 * (right - x[0]))
        day = np.datetime_as_string(x[0], unit="m").replace("T", " ") if dates else ""
        axes.set_xticks(x, [day] if dates else None)
    elif dates:
        locator = matplotlib.dates.AutoDateLocator(maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))


def _around(x: np.ndarray) -> np.ndarray:
    """Returns places a little before and after a single time."""
    half = np.timedelta64(2, "h") if x.dtype.kind == "M" else 0.1
    return np.array([x[0] - half, x[0] + half])


def _axis(series: xarray.DataArray) -> tuple[np.ndarray, str]:
    """Returns what to draw a series against: dates if known, else days of lead time."""
    for name in ("datetime", "valid_time", "time"):
        if name in series.coords and series[name].dtype.kind == "M":
            return np.atleast_1d(series[name].values), "UTC"
    if "time" in series.coords and series["time"].dtype.kind == "m":
        return series["time"].values / np.timedelta64(1, "D"), "lead time (days)"
    return np.arange(series.sizes["time"]), "frame"


def _round_values(mean: xarray.DataArray) -> tuple[float, ...]:
    """Returns two round numbers within the range of a field."""
    low, high = np.nanpercentile(mean.values, [2.0, 98.0])
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-30)))
    step *= next((f for f in (1.0, 0.5, 0.2) if (high - low) / (f * step) >= 4), 0.1)
    wanted = low + (high - low) * np.array([0.3, 0.7])
    return tuple(dict.fromkeys(float(np.round(v / step) * step) for v in wanted))
