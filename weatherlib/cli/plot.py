"""Draw maps, animations, curves, spectra, ensembles, sections and scorecards.

The file may be a forecast of ours, a set of forecasts, any weather file that
`weatherlib info` reads, or scores of `weatherlib evaluate`. Without --kind, all times
are drawn on one sheet of maps, or with --truth side by side with what happened, on one
colour scale, and with the error.
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
    "weatherlib plot forecast.nc --projection orthographic --lead 3d",
    "weatherlib plot ensemble.zarr --kind spaghetti --var geopotential --values 552",
    "weatherlib plot ensemble.zarr --kind plume --at 52.5,13.4 --truth era5.nc",
    "weatherlib plot scores.nc --kind curves --metric rmse --region tropics",
    "weatherlib plot scores.nc --kind scorecard --baseline persistence",
)

Kind = Literal[
    "map", "panels", "curves", "spectrum", "spaghetti", "plume", "scorecard", "section"
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Forecast, weather or score file."""

    kind: Kind = "map"
    """Kind of picture."""

    var: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Variable to draw, of the file or derived, such as wind_speed; 2m_temperature, or
    the first of the file, by default."""

    level: int = 500
    """Pressure level to draw, hPa."""

    projection: Literal[
        "plate-carree",
        "robinson",
        "mollweide",
        "orthographic",
        "north-polar",
        "south-polar",
        "lambert",
    ] = "plate-carree"
    """Projection of maps."""

    region: Annotated[str | None, tyro.conf.arg(metavar="NAME|W,E,S,N")] = None
    """Part of the globe, such as europe or --region=-15,40,34,72; for a plume, the
    area whose mean is drawn; for scores, the name of one of their regions."""

    middle: Annotated[str | None, tyro.conf.arg(metavar="LON,LAT")] = None
    """Middle of the map; write --middle=-60,40 for negative numbers."""

    at: Annotated[str | None, tyro.conf.arg(metavar="LAT,LON")] = None
    """Place of a plume, or of a section along its meridian; write --at=-34,151 for
    negative numbers."""

    init: Annotated[str | None, tyro.conf.arg(metavar="DATE")] = None
    """Start to take from a set of forecasts; the first by default."""

    time: Annotated[str | None, tyro.conf.arg(metavar="DATE")] = None
    """Valid time to draw, such as 2026-01-15T06."""

    lead: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Lead time to draw, such as 36h or 3d; the last one for spectra, sections and
    spaghetti by default."""

    steps: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = ()
    """Times to draw one by one, counted from 1. Default: all of them on one sheet."""

    member: Annotated[str, tyro.conf.arg(metavar="MEMBER")] = "first"
    """Member of an ensemble: its number, first, or mean."""

    values: Annotated[tuple[float, ...], tyro.conf.arg(metavar="X ...")] = ()
    """Values of the lines of spaghetti, in the units of the picture."""

    truth: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """What happened, at the same dates; drawn beside the forecast."""

    reference: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Scores to compare with, of another run."""

    baseline: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Model that a scorecard compares with; the first of the file by default."""

    metric: Annotated[str, tyro.conf.arg(metavar="NAME")] = "rmse"
    """Score to draw."""

    animate: bool = False
    """Draw an animation of all times instead."""

    animation_format: Literal["gif", "mp4"] = "gif"
    """Format of the animation; mp4 needs the `mp4` extra."""

    out_dir: Annotated[str, tyro.conf.arg(metavar="PATH")] = "."
    """Folder for the pictures, made if it is missing."""


def run(options: Options) -> None:
    """Draws what the options ask for and prints the names of the pictures.

    Raises:
      ValueError: The file lacks the variable, the level, a time or a grid.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged or a picture cannot be written.
    """
    from weatherlib.cli import files, plot_fields, plot_scores

    out_dir = files.writable_folder(options.out_dir)
    if options.kind in ("curves", "scorecard"):
        paths = plot_scores.draw(options, out_dir)
    elif options.kind in ("map", "panels"):
        paths = _maps(options, out_dir)
    else:
        paths = [plot_fields.draw(options, out_dir)]
    for path in paths:
        print(path)


def _maps(options: Options, out_dir: pathlib.Path) -> list[pathlib.Path]:
    """Returns the maps, panels or animation."""
    from weatherlib.cli import pictures, plot_fields, plot_files

    if options.kind == "panels" and options.truth is None:
        raise ValueError("--kind panels draws a forecast beside --truth FILE")
    forecast = plot_files.open_one(options.path, options)
    name = plot_files.variable(forecast, options)
    truth = None
    if options.truth is not None:
        truth = plot_files.open_truth(options.truth, name, forecast)
    field = pictures.select(forecast, name, options.level)
    _require_values(field, options)
    view = plot_fields.view_of(field, options)
    variant, moment = plot_fields.variant(options), plot_fields.moment(options)
    draw = pictures.save_comparison(name, options.level, view, variant)
    times = field.sizes.get("time", 0)
    if options.animate:
        target = None
        if truth is not None:
            target = pictures.select(truth, name, options.level)
        title = f"{pictures.file_title(field)}{variant}.{options.animation_format}"
        return [pictures.draw_animation(field, target, out_dir / title, view)]
    if not times:
        forecast = forecast.expand_dims("time")
        return pictures.draw_steps(None, forecast, {0: ""}, draw, out_dir)
    wrong = [step for step in options.steps if not 1 <= step <= times]
    if wrong:
        raise ValueError(f"{options.path}: has times 1 to {times}, not {wrong}")
    steps = [step - 1 for step in options.steps]
    if not steps and (truth is not None or times == 1):
        steps = list(range(times))
    if not steps:
        return [pictures.draw_sheet(field, out_dir, view, variant)]
    return pictures.draw_steps(
        truth,
        forecast,
        {step: moment or f"_step{step + 1:02d}" for step in steps},
        draw,
        out_dir,
    )


def _require_values(field: xarray.DataArray, options: Options) -> None:
    """Raises ValueError where all values are missing."""
    if not field.notnull().any():
        from weatherlib.plotting import styles

        when = styles.valid_label(field)
        raise ValueError(
            f"{options.path}: all values of {styles.label(field)} are missing"
            f"{' at ' * bool(when)}{when}"
        )
