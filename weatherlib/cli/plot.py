"""Draw maps, a sheet of all times, or an animation of a weather file.

The file may be a forecast of ours or any weather file that `weatherlib info` reads.
With --truth, the forecast is drawn beside what happened, on one colour scale, and its
error.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    import xarray

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib plot forecast.nc",
    "weatherlib plot forecast.zarr --var geopotential --level 500 --animate",
    "weatherlib plot forecast.nc --truth era5.nc --steps 4 8 12",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Forecast or weather file."""

    var: str = "2m_temperature"
    """Variable to draw."""

    level: int = 500
    """Pressure level to draw, hPa."""

    steps: tuple[int, ...] = ()
    """Times to draw one by one, counted from 1. Default: all of them on one sheet."""

    truth: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """What happened, at the same dates; drawn beside the forecast."""

    animate: bool = False
    """Draw an animation of all times instead."""

    animation_format: Literal["gif", "mp4"] = "gif"
    """Format of the animation; mp4 needs the `plot` extra."""

    out_dir: str = "."
    """Folder for the pictures, made if it is missing."""


def run(options: Options) -> None:
    """Draws what the options ask for and prints the names of the pictures.

    Raises:
      ValueError: The file lacks the variable, the level, a time or a grid.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged or a picture cannot be written.
    """
    from weatherlib.cli import files

    out_dir = files.writable_folder(options.out_dir)
    forecast = _open(options.path, options.var)
    truth = None
    if options.truth is not None:
        truth = _same_times(_open(options.truth, options.var), forecast)
    for path in _draw(options, forecast, truth, out_dir):
        print(path)


def _open(path: str, variable: str) -> xarray.Dataset:
    """Returns a weather file with its axes and one variable under our names."""
    from weatherlib.cli import files
    from weatherlib.data_utils import lexicon

    return lexicon.rename(files.open_weather(path), [variable])[0]


def _draw(
    options: Options,
    forecast: xarray.Dataset,
    truth: xarray.Dataset | None,
    out_dir: pathlib.Path,
) -> list[pathlib.Path]:
    from weatherlib.cli import pictures

    field = pictures.select(forecast, options.var, options.level)
    times = field.sizes.get("time", 0)
    if options.animate:
        target = None
        if truth is not None:
            target = pictures.select(truth, options.var, options.level)
        name = f"{pictures.file_title(field)}.{options.animation_format}"
        return [pictures.draw_animation(field, target, out_dir / name)]
    wrong = [step for step in options.steps if not 1 <= step <= times]
    if wrong:
        raise ValueError(f"{options.path}: has times 1 to {times}, not {wrong}")
    steps = [step - 1 for step in options.steps]
    if truth is not None and not steps:
        steps = list(range(times))
    if not steps:
        return [pictures.draw_sheet(field, out_dir)]
    return pictures.draw_steps(
        truth,
        forecast,
        {step: f"_step{step + 1:02d}" for step in steps},
        pictures.save_comparison(options.var, options.level),
        out_dir,
    )


def _same_times(truth: xarray.Dataset, forecast: xarray.Dataset) -> xarray.Dataset:
    """Returns the truth at the dates of the forecast.

    Raises:
      ValueError: One of the files has no dates, or the truth lacks one of them.
    """
    import numpy as np

    dates = []
    for name, dataset in (("truth", truth), ("forecast", forecast)):
        known = [
            coord
            for coord in ("datetime", "valid_time", "time")
            if coord in dataset.coords and dataset[coord].dtype.kind == "M"
        ]
        if not known:
            raise ValueError(f"the {name} has no dates, so the two cannot be compared")
        found = dataset[known[0]]
        dates.append(found.isel(batch=0, missing_dims="ignore").values)
    held, wanted = dates
    missing = wanted[~np.isin(wanted, held)]
    if missing.size:
        raise ValueError(
            f"the truth lacks {missing.size} of the {wanted.size} dates of the "
            f"forecast, the first of them {missing[0]}"
        )
    order = [int(np.flatnonzero(held == date)[0]) for date in wanted]
    return truth.isel(time=order).assign_coords(time=forecast["time"])
