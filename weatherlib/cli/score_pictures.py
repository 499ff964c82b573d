"""Pictures of scores: curves by lead time, and models compared."""

from __future__ import annotations

import pathlib

import matplotlib.figure
import xarray

from weatherlib import plotting
from weatherlib.cli import verification

__all__ = ["curves", "draw"]

_DRAWN = ("rmse", "acc", "crps_fair", "crps", "spread_skill_ratio", "csi", "fss")
_ERRORS = ("rmse", "crps_fair", "crps")
_MOST = 8
# A scorecard of more levels or panels than these shows the chief levels, and the first
# region only: all of them are a picture that nobody can read.
_MOST_LEVELS = 5
_MOST_PANELS = 4
_CHIEF_LEVELS = (250, 500, 700, 850)
# Differences that chance would make more often are drawn paler.
_CHANCE = 0.05


def draw(found: xarray.Dataset, path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the pictures drawn: a sheet of curves for each of the chief metrics.

    Args:
      found: Scores as `evaluation.evaluate` returns them.
      path: Folder and name of the files, without a suffix.
    """
    if "metric" not in found.dims or found.sizes["lead_time"] < 2:
        return []
    written = []
    for metric in _DRAWN:
        if metric not in found["metric"].values:
            continue
        chosen = curves(found, metric)
        if not chosen.data_vars:
            continue
        region = str(found["region"].values[0]) if "region" in found.dims else ""
        if metric not in _ERRORS:
            chosen = _unnamed(chosen)
        figure = plotting.draw_score_curves(
            chosen, title=f"{metric.upper().replace('_', ' ')} by lead time, {region}"
        )
        target = path.with_name(f"{path.name}_{metric}.png")
        written.append(plotting.save_figure(figure, target))
    if found.sizes["model"] > 1 and "rmse" in found["metric"].values:
        figure = _comparison(found)
        target = path.with_name(f"{path.name}_scorecard.png")
        written.append(plotting.save_figure(figure, target))
    return written


def curves(found: xarray.Dataset, metric: str) -> xarray.Dataset:
    """Returns one metric in the first region as curves of the chief variables.

    Args:
      found: Scores.
      metric: Which.

    Returns:
      Variables named as in `verification` with the dimensions source and time.
    """
    out = {}
    for name, array in found.data_vars.items():
        if "metric" not in array.dims or "." in str(name):
            continue
        chosen = array.sel(metric=metric)
        if "region" in chosen.dims:
            chosen = chosen.isel(region=0, drop=True)
        chosen = chosen.rename(model="source", lead_time="time")
        is_error = metric in _ERRORS
        units = str(array.attrs.get("units", "")) if is_error else ""
        levels = chosen["level"].values.tolist() if "level" in chosen.dims else [None]
        for level in levels:
            label = name if level is None else f"{name}_{level:g}"
            single = chosen if level is None else chosen.sel(level=level, drop=True)
            if single.isnull().all():
                continue
            attrs = {"units": units, "long_name": verification.title(str(name), level)}
            out[label] = single.drop_vars("metric").assign_attrs(attrs)
    dataset = xarray.Dataset(out)
    return verification.headline(dataset) if len(out) > _MOST else dataset


def _comparison(found: xarray.Dataset) -> matplotlib.figure.Figure:
    """Returns the scorecard of all models against the first one, by RMSE."""
    baseline = found.attrs["baseline"]
    others = [name for name in found["model"].values if name != baseline]
    found = _legible(found, len(others))
    relative, significant = {}, {}
    for name, array in found.data_vars.items():
        if "metric" not in array.dims or "." in str(name):
            continue
        rmse = array.sel(metric="rmse", drop=True)
        change = (rmse / rmse.sel(model=baseline, drop=True) - 1).sel(model=others)
        if change.isnull().all():
            continue
        relative[name] = change
        chance = found.get(f"p_value.{name}")
        if chance is not None:
            chance = chance.sel(metric="rmse", drop=True).reindex(model=others)
            significant[name] = chance < _CHANCE
    return plotting.draw_scorecard(
        xarray.Dataset(relative),
        significant=xarray.Dataset(significant) if significant else None,
        title=f"RMSE against {baseline}",
    )


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
