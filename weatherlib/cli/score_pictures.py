"""Pictures of scores: curves by lead time, and models compared."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator

import matplotlib.figure
import numpy as np
import xarray

from weatherlib import plotting
from weatherlib import variables as vocabulary
from weatherlib.cli import verification
from weatherlib.evaluation import metrics
from weatherlib.plotting import styles

__all__ = [
    "curve_figures",
    "curves",
    "draw",
    "metric_names",
    "scorecard",
    "title",
    "variables",
]

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
_ACRONYMS = (
    "rmse", "mse", "mae", "acc", "crps", "csi", "pod", "far", "hss", "fss", "sevir",
)  # fmt: skip
_MOST = 8
# Panels of one sheet of events, none of which is the chief one.
_MOST_CASES = 12
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

    The latter is of the first metric that several models have.

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
        for number, figure in enumerate(curve_figures(found, metric), start=1):
            sheet = "" if number == 1 else f"_{number}"
            target = path.with_name(f"{path.name}_{metric}{sheet}.png")
            written.append(plotting.save_figure(figure, target))
    judged = [metric for metric in metrics_drawn if metric in _judged()]
    reasons = []
    for metric in judged if found.sizes["model"] > 1 else []:
        try:
            figure = scorecard(found, metric, found.attrs["baseline"])
        except ValueError as error:
            reasons.append(f"No scorecard: {error}.")
        else:
            target = path.with_name(f"{path.name}_scorecard.png")
            return [*written, plotting.save_figure(figure, target)]
    for reason in reasons[:1]:
        say(reason)
    return written


def curve_figures(found: xarray.Dataset, metric: str) -> list[matplotlib.figure.Figure]:
    """Returns the curves of one metric in the first region, intervals as bands.

    Of many fields the chief ones are drawn, and the title says how many there are.
    Scores of events are all drawn, on several sheets if they are many.

    Args:
      found: Scores.
      metric: Which.
    """
    lines = curves(found, metric)
    bands = [
        curves(found, metric, end)
        for end in ("lower", "upper")
        if all(f"{end}.{label}" in found for label in _labels(found, metric))
    ]
    region = f", {found['region'].values[0]}" if "region" in found.dims else ""
    heading = f"{title(metric)} by lead time{region}"
    sheets = _sheets(lines)
    shown = sum(map(len, sheets))
    if shown < len(lines):
        heading += f", {shown} of {len(lines)} fields"
    known = metrics.METRICS.get(metric)
    scale = known.scale if known else 0
    figures = []
    for number, names in enumerate(sheets, start=1):
        drawn = [_on_paper(each[names], scale) for each in (lines, *bands)]
        sheet = f", sheet {number} of {len(sheets)}" if len(sheets) > 1 else ""
        figure = plotting.draw_score_curves(
            drawn[0],
            title=heading + sheet,
            bands=(drawn[1], drawn[2]) if len(bands) == 2 else None,
            aim={"zero": 0.0, "one": 1.0}.get(known.better) if known else None,
        )
        figures.append(figure)
    return figures


def _sheets(lines: xarray.Dataset) -> list[list[str]]:
    """Returns the names of the curves on each sheet."""
    names = list(map(str, lines))
    if not any(", " in name for name in names):
        chosen = verification.headline(lines) if len(names) > _MOST else lines
        return [list(map(str, chosen))]
    sheets: list[list[str]] = []
    for _, group in itertools.groupby(names, lambda name: name.split(", ")[0]):
        for part in _batched(list(group), _MOST_CASES):
            if sheets and len(sheets[-1]) + len(part) <= _MOST_CASES:
                sheets[-1] += part
            else:
                sheets.append(part)
    return sheets


def _batched(names: list[str], most: int) -> Iterator[list[str]]:
    for first in range(0, len(names), most):
        yield names[first : first + most]


def curves(
    found: xarray.Dataset, metric: str, kind: str | None = None
) -> xarray.Dataset:
    """Returns one metric in the first region as curves, one for each field.

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
        units = str(chosen.attrs.get("units", "")) if _scale(metric) else ""
        levels = chosen["level"].values.tolist() if "level" in chosen.dims else [None]
        for level in levels:
            label = name if level is None else f"{name}_{level:g}"
            place = {} if level is None else {"level": level}
            if chosen.sel(place).isnull().all():
                continue
            variable, *case = name.split(", ")
            words = "\n".join(
                filter(None, [verification.title(variable, level), ", ".join(case)])
            )
            attrs = {"units": units, "long_name": words}
            single = values.sel(place, drop=True).drop_vars("metric", errors="ignore")
            single = single.rename(model="source", lead_time="time")
            out[label] = single.assign_attrs(attrs)
    return xarray.Dataset(out)


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
    found: xarray.Dataset, metric: str, baseline: str, heading: str = ""
) -> matplotlib.figure.Figure:
    """Returns the scorecard of all other models against one of them.

    Scores that should be 0 or 1 are compared by their distance from that.

    Args:
      found: Scores.
      metric: Which.
      baseline: The model that the others are compared with.
      heading: Above the tables.

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
    heading = heading or f"{title(metric)} against {baseline}"
    notes = {"zero": ", by distance from 0", "one": ", by distance from 1"}
    return plotting.draw_scorecard(
        _in_order(xarray.Dataset(relative)),
        significant=xarray.Dataset(significant) if significant else None,
        title=heading + notes.get(aim, ""),
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


def title(metric: str) -> str:
    """Returns the name of a metric for people, such as "CRPS (fair)"."""
    if metric == "spread_skill_ratio":
        return "Spread/skill ratio"
    stem = metric.removesuffix("_fair")
    words = [w.upper() if w in _ACRONYMS else w for w in stem.split("_")]
    name = " ".join(words)
    return name[:1].upper() + name[1:] + (" (fair)" if stem != metric else "")


def _scale(metric: str) -> int:
    """Returns the power of the variable's unit that a metric has."""
    return metrics.METRICS[metric].scale if metric in metrics.METRICS else 0


def _in_order(dataset: xarray.Dataset) -> xarray.Dataset:
    """Returns the variables in the order of the vocabulary, others last."""
    order = {name: number for number, name in enumerate(vocabulary.names())}
    names = map(str, dataset)
    return dataset[
        sorted(names, key=lambda name: order.get(name.split(", ")[0], len(order)))
    ]


def _legible(found: xarray.Dataset, models: int) -> xarray.Dataset:
    """Returns as many levels and regions as fit on one page."""
    if found.sizes.get("level", 0) > _MOST_LEVELS:
        there = [level for level in found["level"].values if level in _CHIEF_LEVELS]
        step = -(-found.sizes["level"] // _MOST_LEVELS)
        found = found.sel(level=there or found["level"].values[::step])
    if found.sizes.get("region", 1) * models > _MOST_PANELS:
        found = found.isel(region=slice(1))
    return found


def _on_paper(dataset: xarray.Dataset, scale: int) -> xarray.Dataset:
    """Returns curves that the pictures show in the right units.

    Those of pure numbers, and of squares, which are converted here, get names for
    which the pictures have no unit.
    """
    if scale == 1:
        return dataset
    out = {}
    for number, values in enumerate(dataset.data_vars.values()):
        style = styles.find(values)
        factor = style.factor**2 if scale == 2 else 1.0
        shown = style.show(values, difference=True).attrs["units"]
        units = styles.squared(shown) if scale == 2 else ""
        out[f"curve_{number}"] = (values * factor).assign_attrs(
            values.attrs | {"units": units}
        )
    return xarray.Dataset(out)
