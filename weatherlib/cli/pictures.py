"""Pictures of a forecast: one per step or day, all leads on one sheet, an animation."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import numpy as np
import xarray

from weatherlib import plotting
from weatherlib.plotting import ensembles, views

__all__ = [
    "draw_animation",
    "draw_sheet",
    "draw_steps",
    "file_title",
    "save_comparison",
    "select",
    "step_suffixes",
]

_USUAL, _USUAL_LEVEL = "2m_temperature", 500

StepDrawer = Callable[
    [xarray.Dataset | None, xarray.Dataset, str, pathlib.Path], pathlib.Path
]
"""Takes truth (or None), forecast, suffix of the title and folder; returns the file."""


def select(
    dataset: xarray.Dataset,
    variable: str | None,
    level: float | None = None,
    *,
    members: bool = False,
) -> xarray.DataArray:
    """Returns one variable of the first batch member, at one level where it has levels.

    Args:
      dataset: Weather.
      variable: Name; None for 2m_temperature, or the first there is.
      level: Pressure level, hPa. Ignored for a variable without levels. Where no
        variable is named, the one nearest to 500 stands for 500.
      members: Whether to keep all members of an ensemble, and not the first alone.

    Raises:
      ValueError: The dataset lacks the variable or the level; the message names what it
        has.
    """
    named = variable is not None
    if variable is None:
        names = map(str, dataset)
        variable = _USUAL if _USUAL in dataset else next(names, _USUAL)
    if variable not in dataset:
        names = ", ".join(sorted(map(str, dataset.data_vars)))
        raise ValueError(f"there is no variable {variable!r} to draw; there is {names}")
    field = dataset[variable]
    for dim in ("batch", *ensembles.MEMBERS):
        if dim in field.dims and not (members and dim != "batch"):
            field = field.isel({dim: 0})
    if level is not None and "level" in field.coords:
        held = np.atleast_1d(field["level"].values)
        if not named and level == _USUAL_LEVEL:
            level = held[np.abs(held - level).argmin()]
        if level not in held:
            known = ", ".join(f"{value:g}" for value in held)
            raise ValueError(
                f"{variable} has no level {level:g} hPa to draw; it has {known}"
            )
        if "level" in field.dims:
            field = field.sel(level=level)
    return field


def file_title(field: xarray.DataArray) -> str:
    """Returns the name of a picture: the variable, and its level where it has one."""
    if "level" not in field.coords or field["level"].size != 1:
        return str(field.name)
    return f"{field.name}_at_{float(field['level'].squeeze()):g}_hPa"


def step_suffixes(
    steps: int, time_step: np.timedelta64, *, daily: bool
) -> dict[int, str]:
    """Returns the steps to draw, counted from 0, and what their file names end in.

    Args:
      steps: Steps of the forecast. A single one has no suffix.
      time_step: Time between steps.
      daily: Whether to draw only whole days, where there is one.
    """
    if steps == 1:
        return {0: ""}
    width = max(2, len(str(steps)))
    found = {step: f"_step{step + 1:0{width}d}" for step in range(steps)}
    day = np.timedelta64(1, "D")
    whole = {
        step: name
        for step, name in found.items()
        if ((step + 1) * time_step) % day == np.timedelta64(0, "ns")
    }
    return whole if daily and whole else found


def draw_steps(
    targets: xarray.Dataset | None,
    predictions: xarray.Dataset,
    suffixes: dict[int, str],
    draw: StepDrawer,
    out_dir: pathlib.Path,
) -> list[pathlib.Path]:
    """Returns the pictures of the chosen steps, each drawn with its truth if there is.

    Args:
      targets: Truth at the first times of the forecast.
      predictions: The forecast.
      suffixes: From `step_suffixes`.
      draw: Draws one time.
      out_dir: Folder of the pictures.
    """
    known = targets.sizes["time"] if targets is not None else 0
    paths = []
    for step, suffix in suffixes.items():
        truth = None
        if targets is not None and step < known:
            truth = targets.isel(time=[step])
        paths.append(draw(truth, predictions.isel(time=[step]), suffix, out_dir))
    return paths


def save_comparison(
    variable: str | None,
    level: float | None,
    view: views.View | None = None,
    variant: str = "",
) -> StepDrawer:
    """Returns a function that draws one time beside its truth, where there is one.

    Args:
      variable: As for `select`.
      level: As for `select`.
      view: The map.
      variant: What the names of the files say after the variable.
    """

    def draw(
        truth: xarray.Dataset | None,
        forecast: xarray.Dataset,
        suffix: str,
        out_dir: pathlib.Path,
    ) -> pathlib.Path:
        field = select(forecast, variable, level).isel(time=0)
        if truth is None:
            figure = plotting.draw_map(field, view=view)
        else:
            target = select(truth, variable, level).isel(time=0)
            figure = plotting.draw_comparison(target, field, view=view)
        return plotting.save_figure(
            figure, out_dir / f"{file_title(field)}{variant}{suffix}.png"
        )

    return draw


def draw_sheet(
    field: xarray.DataArray,
    out_dir: pathlib.Path,
    view: views.View | None = None,
    variant: str = "",
) -> pathlib.Path:
    """Returns the picture with the times of a forecast or series on one sheet."""
    kind = "all_leads" if field["time"].dtype.kind == "m" else "times"
    path = out_dir / f"{file_title(field)}{variant}_{kind}.png"
    return plotting.save_figure(plotting.draw_leads(field, view=view), path)


def draw_animation(
    field: xarray.DataArray,
    truth: xarray.DataArray | None,
    path: str | os.PathLike[str],
    view: views.View | None = None,
) -> pathlib.Path:
    """Returns the animation of a forecast, beside the truth if that covers it."""
    panels = {"Forecast": field}
    if truth is not None and truth.sizes["time"] == field.sizes["time"]:
        panels = {"Truth": truth, "Forecast": field}
    return plotting.save_animation(path, panels, view=view)
