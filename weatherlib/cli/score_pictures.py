"""Pictures of scores: curves by lead time, and models compared."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator

import matplotlib.figure
import numpy as np
import xarray

from weatherlib import plotting
from weatherlib.cli import verification
from weatherlib.evaluation import metrics

__all__ = ["curve_figure", "curves", "draw", "metric_names", "scorecard", "variables"]

_DRAWN = (
    "rmse",
    "acc",
    "crps_fair",
    "crps",
    "spread_skill_ratio",
    "csi",
    "fss",
    "brier_score_fair",
    "brier_score",
)
_MOST = 8
# A scorecard of more levels or panels than these shows the chief levels, and the first
# region only: all of them are a picture that nobody can read.
_MOST_LEVELS = 5
_MOST_PANELS = 4
_CHIEF_LEVELS = (250, 500, 700, 850)
# Differences that chance would make more often are drawn paler.
_CHANCE = 0.05
# Dimensions whose entries are drawn as variables of their own.
_CASES = ("threshold", "neighbourhood")


def draw(
    found: xarray.Dataset, path: pathlib.Path, *, say: Callable[[str], None] = print
) -> list[pathlib.Path]:
    """Returns the pictures drawn: curves of the chief metrics, and a scorecard.

    Args:
      found: Scores as `evaluation.evaluate` returns them.
      path: Folder and name of the files, without a suffix.
      say: Takes a line on each kind of picture that cannot be drawn, and why.
    """
    held = metric_names(found)
    metrics_drawn = [metric for metric in _DRAWN if metric in held] or held
    if not metrics_drawn:
        say("No pictures: none of the scores is a single value by lead time.")
        return []
    written = []
    for metric in metrics_drawn:
        if found.sizes["lead_time"] < 2:
            say("No curves: there is one lead time.")
            break
        if not curves(found, metric).data_vars:
            say(f"No curves of {metric}: all of its scores are missing.")
            continue
        target = path.with_name(f"{path.name}_{metric}.png")
        written.append(plotting.save_figure(curve_figure(found, metric), target))
    judged = [metric for metric in metrics_drawn if metric in _judged()]
    if found.sizes["model"] > 1 and judged:
        target = path.with_name(f"{path.name}_scorecard.png")
        try:
            figure = scorecard(found, judged[0], found.attrs["baseline"])
        except ValueError as error:
            say(f"No scorecard: {error}.")
        else:
            written.append(plotting.save_figure(figure, target))
    return written


def curve_figure(found: xarray.Dataset, metric: str) -> matplotlib.figure.Figure:
    """Returns the curves of one metric in the first region, intervals as bands.

    Args:
      found: Scores.
      metric: Which.
    """
    lines = curves(found, metric)
    bands = [
        curves(found, metric, end)[list(lines)]
        for end in ("lower", "upper")
        if all(f"{end}.{label}" in found for label in _labels(found, metric))
    ]
    region = f", {found['region'].values[0]}" if "region" in found.dims else ""
    if not _has_units(metric):
        lines, *bands = (_unnamed(each) for each in (lines, *bands))
    title = f"{metric.upper().replace('_', ' ')} by lead time{region}"
    return plotting.draw_score_curves(
        lines, title=title, bands=(bands[0], bands[1]) if len(bands) == 2 else None
    )  # fmt: skip


def curves(
    found: xarray.Dataset, metric: str, kind: str | None = None
) -> xarray.Dataset:
    """Returns one metric in the first region as curves of the chief variables.

    Args:
      found: Scores.
      metric: Which.
      kind: Of `results.KINDS`, such as the lower ends of intervals, in place of scores.

    Returns:
      Variables named as in `verification` with the dimensions source and time.
    """
    out = {}
    for name, chosen in variables(found, metric).items():
        values = chosen if kind is None else variables(found, metric, kind).get(name)
        if values is None:
            continue
        if "region" in chosen.dims:
            chosen, values = (x.isel(region=0, drop=True) for x in (chosen, values))
        units = str(chosen.attrs.get("units", "")) if _has_units(metric) else ""
        levels = chosen["level"].values.tolist() if "level" in chosen.dims else [None]
        for level in levels:
            label = name if level is None else f"{name}_{level:g}"
            place = {} if level is None else {"level": level}
            if chosen.sel(place).isnull().all():
                continue
            variable, *case = name.split(", ")
            words = ", ".join([verification.title(variable, level), *case])
            attrs = {"units": units, "long_name": words}
            single = values.sel(place, drop=True).drop_vars("metric", errors="ignore")
            single = single.rename(model="source", lead_time="time")
            out[label] = single.assign_attrs(attrs)
    dataset = xarray.Dataset(out)
    return verification.headline(dataset) if len(out) > _MOST else dataset


def variables(
    found: xarray.Dataset, metric: str, kind: str | None = None
) -> dict[str, xarray.DataArray]:
    """Returns the scores of one metric by variable, each threshold a variable.

    Args:
      found: Scores.
      metric: Which.
      kind: Of `results.KINDS` in place of scores.

    Returns:
      Dimensions (model[, region], lead_time[, level]).
    """
    out: dict[str, xarray.DataArray] = {}
    for label, name in _labels(found, metric).items():
        array = found.get(label if kind is None else f"{kind}.{label}")
        if array is None:
            continue
        if "metric" in array.dims:
            if metric not in array["metric"].values:
                continue
            array = array.sel(metric=metric, drop=True)
        for case, part in _cases(array):
            out[", ".join([name, *case])] = part
    return out


def _labels(found: xarray.Dataset, metric: str) -> dict[str, str]:
    """Returns the variable of each array of a metric that is drawn by lead time."""
    out = {}
    for label in map(str, found.data_vars):
        head, dot, rest = label.partition(".")
        if not dot and "metric" in found[label].dims:
            out[label] = label
        elif dot and head == metric and _is_by_lead(found[label]):
            out[label] = rest
    return out


def _is_by_lead(array: xarray.DataArray) -> bool:
    """Whether lead time is what a picture can show the scores by."""
    known = {"metric", "model", "region", "lead_time", "level", *_CASES}
    return "lead_time" in array.dims and set(map(str, array.dims)) <= known


def _cases(
    array: xarray.DataArray,
) -> Iterator[tuple[list[str], xarray.DataArray]]:
    """Yields each threshold and neighbourhood in words, and its scores."""
    dims = [dim for dim in _CASES if dim in array.dims]
    for values in itertools.product(*(array[dim].values.tolist() for dim in dims)):
        place = dict(zip(dims, values))
        part = array.sel(place, drop=True)
        if not part.isnull().all():
            yield [f"{dim} {value}" for dim, value in place.items()], part


def metric_names(found: xarray.Dataset) -> list[str]:
    """Returns the metrics that can be drawn by lead time."""
    names = [str(m) for m in found["metric"].values] if "metric" in found.dims else []
    for label in map(str, found.data_vars):
        head, dot, _ = label.partition(".")
        if dot and head in metrics.METRICS and _is_by_lead(found[label]):
            names.append(head)
    return list(dict.fromkeys(names))


def scorecard(
    found: xarray.Dataset, metric: str, baseline: str, title: str = ""
) -> matplotlib.figure.Figure:
    """Returns the scorecard of all other models against one of them.

    Scores that should be 0 or 1 are compared by their distance from that.

    Args:
      found: Scores.
      metric: Which.
      baseline: The model that the others are compared with.
      title: Above the tables.

    Raises:
      ValueError: It is not known which values of the metric are good, or there is
        nothing to compare.
    """
    aim = _direction(metric)
    others = [name for name in found["model"].values.tolist() if name != baseline]
    found = _legible(found, len(others))
    chances = variables(found, metric, "p_value")
    relative, significant = {}, {}
    for name, score in variables(found, metric).items():
        if aim in ("zero", "one"):
            score = abs(score - (1 if aim == "one" else 0))
        base = score.sel(model=baseline, drop=True)
        change = ((score - base) / abs(base)).sel(model=others)
        change = change.where(np.isfinite(change))
        if change.isnull().all():
            continue
        relative[name] = change
        if name in chances and baseline == found.attrs.get("baseline"):
            significant[name] = chances[name].reindex(model=others) < _CHANCE
    if not relative:
        raise ValueError(
            f"{metric}: nothing can be compared in per cent; {baseline} has no score "
            "but perfect ones, or none where another model has one"
        )
    title = title or f"{_title(metric)} against {baseline}"
    notes = {"zero": ", by distance from 0", "one": ", by distance from 1"}
    return plotting.draw_scorecard(
        xarray.Dataset(relative),
        significant=xarray.Dataset(significant) if significant else None,
        title=title + notes.get(aim, ""),
        better_is_lower=aim != "higher",
    )


def _judged() -> list[str]:
    """Returns the metrics of which it is known which values are good."""
    return [name for name, each in metrics.METRICS.items() if each.better != "none"]


def _direction(metric: str) -> metrics.Better:
    """Returns which values of a metric are good.

    Raises:
      ValueError: It is not known, or none are.
    """
    known = _judged()
    if metric not in known:
        raise ValueError(
            f"--metric {metric}: no value of it is known to be better than another, as "
            f"a scorecard needs; it is for {', '.join(known)}"
        )
    return metrics.METRICS[metric].better


def _title(metric: str) -> str:
    return metric.upper().replace("_", " ")


def _has_units(metric: str) -> bool:
    """Whether a metric is in the units of its variable."""
    return metric in metrics.METRICS and metrics.METRICS[metric].scale == 1


def _legible(found: xarray.Dataset, models: int) -> xarray.Dataset:
    """Returns as many levels and regions as fit on one page."""
    if found.sizes.get("level", 0) > _MOST_LEVELS:
        there = [level for level in found["level"].values if level in _CHIEF_LEVELS]
        step = -(-found.sizes["level"] // _MOST_LEVELS)
        found = found.sel(level=there or found["level"].values[::step])
    if found.sizes.get("region", 1) * models > _MOST_PANELS:
        found = found.isel(region=slice(1))
    return found


def _unnamed(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns pure numbers under names for which the pictures have no unit."""
    return dataset.rename({name: f"curve_{i}" for i, name in enumerate(dataset)})
