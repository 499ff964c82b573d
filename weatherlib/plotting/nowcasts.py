"""Nowcasts as pictures: rows of frames, moving pictures, scores by lead, spectra.

Radar pictures are planes of cells, drawn as they are, without a map. Their colours are
those of SEVIR: each is a range of pixels, so that a threshold can be seen.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import matplotlib.axes
import matplotlib.cm
import matplotlib.colors
import matplotlib.figure
import numpy as np
import xarray

from weatherlib.plotting import animation, powers

__all__ = [
    "VIL_COLORS",
    "VIL_LEVELS",
    "draw_nowcast",
    "draw_nowcast_scores",
    "draw_radial_spectra",
    "save_nowcast_animation",
    "vil_colormap",
]

VIL_LEVELS = (0, 16, 31, 59, 74, 100, 133, 160, 181, 219, 255)
"""Pixels at which one colour ends and the next begins."""

# As published with SEVIR, display/display.py of the NeurIPS 2020 code.
VIL_COLORS = (
    "#4d4d4d", "#28be28", "#199619", "#0a690a", "#0a4b0a",
    "#f5f500", "#edac00", "#f06e00", "#a00000", "#e700ff",
)  # fmt: skip
"""Colours of the ranges between `VIL_LEVELS`."""

_MISSING = "#000000"
_MEMBERS_SHOWN = 3
_SIDE = 1.5
_LOOKS: dict[str, dict[str, object]] = {
    "persistence": {"color": "#7f7f7f", "linestyle": "--"},
    "extrapolation": {"color": "#3a7d44", "linestyle": "-."},
}
_LINES = ("#1f5fa8", "#c0392b", "#8e44ad", "#d68910", "#148f77", "#5d6d7e")


def vil_colormap() -> tuple[matplotlib.colors.Colormap, matplotlib.colors.BoundaryNorm]:
    """Returns the colours of SEVIR and the ranges of pixels that they stand for.

    Missing pixels are black, as published.
    """
    colormap = matplotlib.colors.ListedColormap(VIL_COLORS, name="sevir_vil")
    colormap = colormap.with_extremes(
        bad=_MISSING, under=VIL_COLORS[0], over=VIL_COLORS[-1]
    )
    norm = matplotlib.colors.BoundaryNorm(VIL_LEVELS, len(VIL_COLORS))
    return colormap, norm


def draw_nowcast(
    context: np.ndarray,
    target: np.ndarray | None,
    forecasts: Mapping[str, np.ndarray],
    *,
    step_minutes: float = 5.0,
    members: int = _MEMBERS_SHOWN,
    columns: int = 7,
    title: str = "",
) -> matplotlib.figure.Figure:
    """Returns a figure with one row of frames for each: context, truth, forecasts.

    Of an ensemble the mean and some members are shown, each in a row of its own.

    Args:
      context: Known frames, pixels on the scale of SEVIR, shape [time, row, column].
      target: What followed, or None.
      forecasts: By name: pixels [lead, row, column], or [member, lead, row, column].
      step_minutes: Time between frames.
      members: Of each ensemble that are shown.
      columns: Most frames of a row; more are thinned evenly and the last one kept.
      title: Above all.

    Raises:
      ValueError: There is nothing to draw, or frames have other sizes.
    """
    rows = _rows(context, target, forecasts, members)
    longest = max(len(frames) for _, frames, _ in rows)
    columns = min(columns, longest)
    shape = np.asarray(context).shape[-2:]
    height = _SIDE * float(np.clip(shape[0] / shape[1], 0.3, 3.0))
    figure = matplotlib.figure.Figure(
        figsize=(_SIDE * columns + 1.2, (height + 0.12) * len(rows) + 0.9),
        layout="constrained",
    )
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, frames, first) in zip(panels, rows):
        shown = _thinned(len(frames), columns)
        for place, axes in enumerate(line):
            if place >= len(shown):
                axes.set_axis_off()
                continue
            number = shown[place]
            image = _draw_frame(axes, frames[number])
            when = _minutes((first + number) * step_minutes)
            axes.set_title(when, fontsize=6.5, pad=2)
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    _add_bar(figure, image, panels.ravel().tolist())
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def save_nowcast_animation(
    path: str | os.PathLike[str],
    context: np.ndarray,
    target: np.ndarray | None,
    forecasts: Mapping[str, np.ndarray],
    *,
    step_minutes: float = 5.0,
    frames_per_second: float = 4.0,
    title: str = "",
) -> pathlib.Path:
    """Writes moving pictures side by side: the context, then truth and forecasts.

    During the context all of them show what is known.

    Args:
      path: Ends in `.gif`, or in `.mp4`, which needs the `mp4` extra.
      context: As for `draw_nowcast`.
      target: As for `draw_nowcast`.
      forecasts: As for `draw_nowcast`; of ensembles the mean and the first member.
      step_minutes: Time between frames.
      frames_per_second: Speed. The last frame stays for a second.
      title: Above all.

    Raises:
      ValueError: As for `draw_nowcast`, or the suffix is another.
      ImportError: MP4 without its package.
      OSError: The file cannot be written.
    """
    known = np.asarray(context)
    rows = _rows(context, target, forecasts, 1)[1:]
    if not rows:
        raise ValueError("there is neither truth nor a forecast to show after context")
    lengths = {name: len(frames) for name, frames, _ in rows}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"moving pictures need as many frames each, found {lengths}")
    films = {name: np.concatenate([known, frames]) for name, frames, _ in rows}
    return animation.save_frames(
        path,
        _animated(films, len(known), step_minutes, title),
        frames_per_second=frames_per_second,
    )


def draw_nowcast_scores(
    scores: xarray.DataArray, *, title: str = "", models: Sequence[str] | None = None
) -> matplotlib.figure.Figure:
    """Returns a figure of a score by lead time, one line for each model.

    Args:
      scores: Such as `evaluate_nowcasts(...)["csi"].sel(pool=1)`: dimensions `model`
        and `lead_time`, and with `threshold` one panel for each and their mean.
      title: Default: the name of the score.
      models: Which, in their order; all by default.

    Raises:
      ValueError: A dimension is missing, or there is one more.
    """
    known = {"model", "lead_time", "threshold"}
    if not {"model", "lead_time"} <= set(scores.dims) or set(scores.dims) - known:
        raise ValueError(
            "score curves need the dimensions model and lead_time, and perhaps "
            f"threshold, found {', '.join(map(str, scores.dims)) or 'none'}"
        )
    panels = {"": scores}
    if "threshold" in scores.dims:
        panels = {
            f"pixels ≥ {float(limit):g}": scores.sel(threshold=limit)
            for limit in scores["threshold"].values
        }
        if len(panels) > 1:
            panels["mean"] = scores.mean("threshold")
    across = min(len(panels), 4)
    down = -(-len(panels) // across)
    figure = matplotlib.figure.Figure(
        figsize=(3.1 * across + 0.4, 2.4 * down + 0.8), layout="constrained"
    )
    axes = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
    names = list(models or scores["model"].values.tolist())
    for one, (label, part) in zip(axes, panels.items()):
        x, unit = _leads(part["lead_time"].values)
        for number, name in enumerate(names):
            line = part.sel(model=name).transpose("lead_time").values
            one.plot(x, line, label=name, **_look(name, number), marker="o", ms=2.5)
        one.set_title(label, fontsize=9)
        one.set_xlabel(f"lead time ({unit})", fontsize=8)
        if not float(part.min()) < 0:
            one.set_ylim(bottom=0)
        _tidy(one)
    for one in axes[len(panels) :]:
        one.remove()
    axes[0].set_ylabel(str(scores.name or ""), fontsize=8)
    _legend(figure, axes[0])
    figure.suptitle(
        title or str(scores.attrs.get("long_name") or scores.name), fontsize=11
    )
    return figure


def draw_radial_spectra(
    scores: xarray.Dataset, *, lead: int = -1, title: str = ""
) -> matplotlib.figure.Figure:
    """Returns a figure of power by wavelength: the truth, each model, and their means.

    A line that falls below that of the truth at short waves is blur. Of an ensemble the
    spectrum of its members is drawn whole, that of its mean dotted.

    Args:
      scores: From `evaluate_nowcasts`.
      lead: Place of the lead time, the last by default.
      title: Default: the lead time.

    Raises:
      ValueError: There are no spectra.
    """
    names = [f"{of}_radial_spectrum" for of in ("truth", "forecast", "mean")]
    if not set(names) <= set(scores):
        raise ValueError(
            f"spectra are {', '.join(names)}, found {', '.join(map(str, scores))}"
        )
    at = scores.isel(lead_time=lead) if "lead_time" in scores.dims else scores
    length = at["wavelength_km"].values
    figure = matplotlib.figure.Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    truth = at[names[0]].isel(model=0).values
    axes.loglog(length, truth, color="black", lw=2.0, label="truth")
    shown = [name for name in at["model"].values if not name.endswith(" (members)")]
    for number, name in enumerate(shown):
        one = at.sel(model=name)
        look = _look(name, number)
        axes.loglog(length, one[names[1]].values, label=name, **look)
        if int(one.coords.get("members", 1)) > 1:
            look = {**look, "linestyle": ":"}
            axes.loglog(length, one[names[2]].values, label=f"{name}, mean", **look)
    axes.invert_xaxis()
    powers.label_powers(axes.xaxis, length)
    axes.set_xlabel("wavelength (km)")
    axes.set_ylabel("power (pixels²)")
    axes.legend(frameon=False, fontsize=8)
    _tidy(axes)
    if not title and "lead_time" in at.coords:
        x, unit = _leads(np.atleast_1d(at["lead_time"].values))
        title = f"Power by wavelength at {x[0]:g} {unit}"
    axes.set_title(title, fontsize=11)
    return figure


_Row = tuple[str, np.ndarray, int]


def _rows(
    context: np.ndarray,
    target: np.ndarray | None,
    forecasts: Mapping[str, np.ndarray],
    members: int,
) -> list[_Row]:
    """Returns name, frames and number of the first frame from now of each row.

    Raises:
      ValueError: Frames are missing or have other sizes.
    """
    known = np.asarray(context, np.float64)
    rows: list[_Row] = [("context", known, 1 - len(known))]
    if target is not None:
        rows.append(("truth", np.asarray(target, np.float64), 1))
    for name, given in forecasts.items():
        frames = np.asarray(given, np.float64)
        if frames.ndim == 4 and len(frames) == 1:
            frames = frames[0]
        if frames.ndim == 3:
            rows.append((name, frames, 1))
            continue
        if frames.ndim != 4:
            raise ValueError(
                f"{name}: expected frames [lead, row, column], or with members before "
                f"them, found {frames.shape}"
            )
        rows.append((f"{name}, mean", frames.mean(0), 1))
        rows += [
            (f"{name}, member {number + 1}", frames[number], 1)
            for number in range(min(members, len(frames)))
        ]
    for name, frames, _ in rows:
        if frames.ndim != 3 or not len(frames) or frames.shape[1:] != known.shape[1:]:
            raise ValueError(
                f"{name}: expected frames [time, row, column] as those of the context, "
                f"found {frames.shape} and {known.shape}"
            )
    return rows


def _draw_frame(
    axes: matplotlib.axes.Axes, frame: np.ndarray
) -> matplotlib.cm.ScalarMappable:
    colormap, norm = vil_colormap()
    axes.set(xticks=[], yticks=[])
    return axes.imshow(
        np.ma.masked_invalid(frame), cmap=colormap, norm=norm, interpolation="nearest"
    )


def _add_bar(
    figure: matplotlib.figure.Figure,
    image: matplotlib.cm.ScalarMappable,
    panels: list[matplotlib.axes.Axes],
) -> None:
    bar = figure.colorbar(
        image,
        ax=panels,
        orientation="horizontal",
        fraction=0.03,
        pad=0.02,
        aspect=45,
        shrink=0.8,
        ticks=VIL_LEVELS,
        spacing="uniform",
    )
    bar.set_label("pixels, scale of SEVIR", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _animated(
    films: Mapping[str, np.ndarray], known: int, step_minutes: float, title: str
) -> Iterator[matplotlib.figure.Figure]:
    """Yields the figure of each frame, the same one with other contents."""
    first = next(iter(films.values()))
    ratio = float(np.clip(first.shape[1] / first.shape[2], 0.3, 3.0))
    figure = matplotlib.figure.Figure(
        figsize=(2.6 * len(films) + 0.4, 2.6 * ratio + 1.3), layout="constrained"
    )
    panels = figure.subplots(1, len(films), squeeze=False)[0]
    images = [_draw_frame(axes, film[0]) for axes, film in zip(panels, films.values())]
    _add_bar(figure, images[0], panels.tolist())
    for number in range(len(first)):
        for axes, image, (name, film) in zip(panels, images, films.items()):
            image.set_array(np.ma.masked_invalid(film[number]))
            axes.set_title(name if number >= known else "context", fontsize=9)
        when = _minutes((number - known + 1) * step_minutes)
        figure.suptitle(", ".join(filter(None, [title, when])), fontsize=10)
        yield figure
        # It was laid out for the first frame, and takes its time for each.
        figure.set_layout_engine("none")


def _minutes(minutes: float) -> str:
    return f"{minutes:+g} min" if minutes else "now"


def _thinned(count: int, most: int) -> list[int]:
    """Returns places, evenly spaced, the last one among them."""
    if count <= most:
        return list(range(count))
    return np.rint(np.linspace(0, count - 1, most)).astype(int).tolist()


def _leads(values: np.ndarray) -> tuple[np.ndarray, str]:
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "m"), "min"
    return values, "frames"


def _look(name: str, number: int) -> dict[str, object]:
    plain = {"color": _LINES[number % len(_LINES)], "linestyle": "-"}
    return {"linewidth": 1.5, **_LOOKS.get(name, plain)}


def _tidy(axes: matplotlib.axes.Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: matplotlib.figure.Figure, axes: matplotlib.axes.Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 4),
        frameon=False,
        fontsize=8,
    )
