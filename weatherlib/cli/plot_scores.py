"""Scores that `weatherlib plot` draws: curves by lead time, and scorecards."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import matplotlib.figure
import numpy as np
import xarray

from weatherlib import plotting
from weatherlib.cli import files
from weatherlib.plotting import scorecards

if TYPE_CHECKING:
    from weatherlib.cli import plot

__all__ = ["draw"]


def draw(options: plot.Options, out_dir: pathlib.Path) -> pathlib.Path:
    """Returns the picture of one or two score files.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: A file is damaged, or the picture cannot be written.
      ValueError: A scorecard lacks its reference, or a file holds no scores of the
        metric.
    """
    if options.kind == "scorecard" and options.reference is None:
        raise ValueError("a scorecard compares with --reference FILE")
    scores = _scores(options.path, options)
    name = pathlib.Path(options.path).stem
    if options.kind == "scorecard" and options.reference is not None:
        reference = _scores(options.reference, options)
        figure = _scorecard(scores, reference, options)
        return plotting.save_figure(figure, out_dir / f"{name}_scorecard.png")
    sources = {name: scores}
    if options.reference is not None:
        sources[pathlib.Path(options.reference).stem] = _scores(
            options.reference, options
        )
    figure = plotting.draw_score_curves(
        _by_source(sources, options),
        title=f"{options.metric.upper()} by lead time",
    )
    return plotting.save_figure(figure, out_dir / f"{name}_{options.metric}.png")


def _scores(path: str, options: plot.Options) -> xarray.Dataset:
    """Returns the scores of one metric.

    Raises:
      ValueError: The file has no lead times, or lacks the metric or the variable.
    """
    scores = files.open_weather(path)
    if "metric" in scores.dims:
        held = [str(name) for name in scores["metric"].values]
        if options.metric not in held:
            raise ValueError(
                f"--metric: {path} has no {options.metric!r}; it has {', '.join(held)}"
            )
        scores = scores.isel(metric=held.index(options.metric), drop=True)
    lead = scorecards.lead_dim(scores)
    if {"lat", "latitude"} & set(scores.dims) or (lead != "time" and "time" in scores):
        raise ValueError(
            f"{path}: holds fields or single starts, not scores by lead time; make "
            "those with `weatherlib evaluate`"
        )
    names = [str(name) for name, a in scores.data_vars.items() if lead in a.dims]
    if options.var is not None:
        if options.var not in names:
            raise ValueError(f"{path}: no {options.var!r}; it has {', '.join(names)}")
        names = [options.var]
    hours = scorecards.lead_hours(scores[lead])
    scores = scores[names].rename({lead: "time"}).drop_vars("time")
    return scores.assign_coords(time=(hours * 3600e9).astype("timedelta64[ns]"))


def _scorecard(
    scores: xarray.Dataset, reference: xarray.Dataset, options: plot.Options
) -> matplotlib.figure.Figure:
    """Returns the scorecard of what both files have."""
    common = [name for name in scores.data_vars if name in reference]
    if not common:
        raise ValueError(
            f"{options.path} and {options.reference} have no variable in common: "
            f"{', '.join(map(str, scores))} and {', '.join(map(str, reference))}"
        )
    one, two = xarray.align(scores[common], reference[common], join="inner")
    if not one.sizes["time"]:
        raise ValueError("the two score files have no lead time in common")
    relative = (one - two) / np.abs(two)
    title = (
        f"{options.metric.upper()}: {pathlib.Path(options.path).stem} against "
        f"{pathlib.Path(str(options.reference)).stem}"
    )
    higher = options.metric.lower() in ("acc", "anomaly_correlation", "fss", "csi")
    return plotting.draw_scorecard(relative, title=title, better_is_lower=not higher)


def _by_source(
    sources: dict[str, xarray.Dataset], options: plot.Options
) -> xarray.Dataset:
    """Returns scores with the dimension `source`, at the level wanted."""
    parts = []
    for scores in sources.values():
        if "level" in scores.dims:
            held = scores["level"].values
            if options.level not in held:
                known = ", ".join(f"{value:g}" for value in held)
                raise ValueError(f"--level: no {options.level} hPa; there are {known}")
            scores = scores.sel(level=options.level)
        rest = {d: 0 for d in scores.dims if d not in ("time", "source")}
        parts.append(scores.isel(rest, drop=True).drop_vars("level", errors="ignore"))
    if "source" in parts[0].dims and len(parts) == 1:
        return parts[0]
    names = [name for name in parts[0].data_vars if all(name in p for p in parts)]
    joined = xarray.concat([part[names] for part in parts], "source", join="inner")
    return joined.assign_coords(source=list(sources))
