"""Make a forecast: a file, maps and scores.

Without any argument: ten days with the bundled model from the bundled weather, no
network needed. With a checkpoint and weather of your own, name both, and the folder of
the model's three statistics files where it is not `stats/` beside the checkpoint.

The last frames of the dataset serve as truth, as many as there are steps; more steps
than that go on beyond the data. Two frames are enough for a forecast without truth.

An interrupted forecast stays readable as NAME.partial; the same command continues it.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    # These load JAX and xarray, which `--help` can do without.
    from weatherlib.cli import console, forecasting, models, pictures

_Path = Annotated[str, tyro.conf.arg(metavar="PATH")]
_OptionalPath = Annotated[str | None, tyro.conf.arg(metavar="PATH")]

__all__ = ["EXAMPLES", "Options", "make_forecast", "run"]

EXAMPLES = (
    "weatherlib predict",
    "weatherlib predict --pretrained graphcast.npz --stats stats --dataset era5.nc "
    "--steps 40 --output forecast.zarr --var geopotential --level 500 --animate",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to forecast, and what to write."""

    pretrained: _Path = "./"
    """Checkpoint file, or a folder that holds exactly one. Default: the bundled one."""

    dataset: _OptionalPath = None
    """Weather to start from: NetCDF, Zarr or GRIB. Default: the bundled sample."""

    stats: _OptionalPath = None
    """Folder of the model's statistics. Default: stats/ beside the checkpoint."""

    mode: Literal["Checkpoint", "Random"] = "Checkpoint"
    """Where parameters come from. Random draws those of a small model, to try the path.
    """

    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Steps to forecast. Default: 1; 40 with neither --dataset nor --pretrained."""

    var: str = "2m_temperature"
    """Variable to draw."""

    level: int = 500
    """Pressure level to draw, hPa."""

    output: _OptionalPath = None
    """Write the forecast here, .nc or .zarr. Default: forecast.nc in --out-dir with
    neither --dataset nor --pretrained, else nowhere."""

    overwrite: bool = False
    """Replace an older file of the name given by --output."""

    out_dir: _Path = "."
    """Folder for pictures and scores, made if it is missing."""

    animate: bool = False
    """Also draw an animation of all steps."""

    animation_format: Literal["gif", "mp4"] = "gif"
    """Format of the animation; mp4 needs the `plot` extra."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto is bfloat16 on an accelerator and float32 on a CPU."""

    cache: _OptionalPath = None
    """Folder that keeps compiled programs and graphs, so that later runs start sooner.
    """

    on_violation: Literal["warn", "raise", "ignore"] = "warn"
    """What to do when a field becomes NaN or leaves its physical bounds."""

    conform: bool = False
    """Rename, convert and reorder data where nothing is lost by it, and say so."""

    truth: Annotated[bool, tyro.conf.Suppress] = False
    """Whether a frame of truth is needed, as examples/inference.py does."""

    @property
    def is_bare(self) -> bool:
        """Whether the bundled model forecasts the bundled weather."""
        return self.dataset is None and self.pretrained == "./"


def run(options: Options) -> None:
    """Makes the forecast that the options describe and prints what it did.

    Raises:
      ValueError: The model, the data, the statistics or an option do not go together.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged or cannot be written.
    """
    from weatherlib.cli import pictures

    make_forecast(options, draw=pictures.save_comparison(options.var, options.level))


def make_forecast(
    options: Options, *, draw: pictures.StepDrawer
) -> forecasting.Forecast:
    """Makes a forecast, draws, scores and prints it.

    Args:
      options: What to do.
      draw: Draws one time of the forecast, beside its truth where there is one.

    Returns:
      The forecast.

    Raises:
      ValueError: As `run`.
      FileNotFoundError: As `run`.
      OSError: As `run`.
    """
    from weatherlib import rollout
    from weatherlib.cli import console, files, forecasting

    out = console.Console()
    out_dir = files.writable_folder(options.out_dir)
    output = _output(options, out_dir)
    with out.stage("load"):
        model, statistics, setup = _load(options, out)
    _print_setup(out, options, model, setup)
    with out.stage("forecast"):
        model = forecasting.initialise(model, statistics, setup)
        forecaster = forecasting.build_forecaster(
            model, statistics, precision=options.precision, cache=options.cache
        )
        with out.progress("Forecast", setup.steps) as progress:
            forecast = forecasting.run(
                forecaster,
                setup,
                model,
                output=output,
                overwrite=options.overwrite or options.is_bare,
                guard=rollout.Guard(on_violation=options.on_violation),
                progress=progress,
            )
    out.split_stage("forecast", "compile", forecast.compile_seconds)
    written = [forecast.path] if forecast.path else []
    with out.stage("scores"):
        written += _score(out, forecast, out_dir)
    with out.stage("pictures"):
        written += _draw(options, forecast, draw, out_dir)
    out.heading("Files")
    for path in written:
        out.print(f"  {path}")
    out.print()
    out.print_times()
    return forecast


def _output(options: Options, out_dir: pathlib.Path) -> pathlib.Path | None:
    """Returns the file to write, its folder checked."""
    from weatherlib.cli import files

    if options.output is None:
        return out_dir / "forecast.nc" if options.is_bare else None
    path = pathlib.Path(options.output)
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(
            f"--output {path}: forecasts are written as .nc or .zarr, found "
            f"{path.suffix or 'no suffix'}"
        )
    files.writable_folder(path.parent)
    return path


def _load(
    options: Options, out: console.Console
) -> tuple[models.Model, models.Statistics, forecasting.Setup]:
    """Loads and checks model, statistics and data."""
    from weatherlib import data
    from weatherlib.cli import files, forecasting, models, pictures

    if options.mode == "Random":
        model = models.random_model()
    else:
        model = models.load_model(options.pretrained)
    statistics = models.find_statistics(
        model, options.stats, bundled_data=options.dataset is None
    )
    dataset = files.open_weather(options.dataset)
    if options.conform:
        dataset, changes = data.conform(dataset, model.task_config)
        for change in changes:
            out.print(f"Data: {change}")
    try:
        setup = forecasting.prepare(
            model, statistics, dataset, steps=_steps(options), truth=options.truth
        )
    except ValueError as error:
        if "data.conform" in str(error):
            error.add_note("on the command line: weatherlib predict --conform")
        raise
    # A picture that cannot be drawn should not be found out after the forecast.
    pictures.select(setup.template, options.var, options.level)
    return model, statistics, setup


def _steps(options: Options) -> int:
    from weatherlib.cli import forecasting

    if options.steps is not None:
        return options.steps
    return forecasting.DEFAULT_STEPS if options.is_bare else 1


def _print_setup(
    out: console.Console,
    options: Options,
    model: models.Model,
    setup: forecasting.Setup,
) -> None:
    """Prints the model, the data and what will be forecast."""
    from weatherlib.cli import describe

    out.heading("Model")
    out.facts(describe.model_facts(model, variables=False))
    out.heading("Data")
    source = options.dataset or "the bundled sample"
    out.facts([("file", source), *describe.setup_facts(setup)])
    out.print()


def _score(
    out: console.Console, forecast: forecasting.Forecast, out_dir: pathlib.Path
) -> list[pathlib.Path]:
    """Prints and writes the scores, where there is truth."""
    from weatherlib import plotting
    from weatherlib.cli import verification

    if forecast.targets is None:
        out.print("No truth at the forecast's times, so no scores.")
        return []
    scores = verification.scores(
        forecast.predictions, forecast.targets, forecast.initial
    )
    out.heading("Root-mean-square error, in brackets that of persistence")
    out.table(*verification.score_rows(scores))
    written = [verification.write_csv(scores, out_dir / "rmse.csv")]
    if scores.sizes["time"] > 1:
        figure = plotting.draw_score_curves(verification.headline(scores))
        written.append(plotting.save_figure(figure, out_dir / "rmse.png"))
    return written


def _draw(
    options: Options,
    forecast: forecasting.Forecast,
    draw: Callable[..., pathlib.Path],
    out_dir: pathlib.Path,
) -> list[pathlib.Path]:
    """Draws the steps, a sheet of all leads and, where asked for, an animation."""
    from weatherlib.cli import pictures

    steps = forecast.predictions.sizes["time"]
    suffixes = pictures.step_suffixes(
        steps, forecast.time_step.to_timedelta64(), daily=options.is_bare
    )
    written = pictures.draw_steps(
        forecast.targets, forecast.predictions, suffixes, draw, out_dir
    )
    field = pictures.select(forecast.predictions, options.var, options.level)
    if steps > 1:
        written.append(pictures.draw_sheet(field, out_dir))
    if options.animate:
        truth = None
        if forecast.targets is not None:
            truth = pictures.select(forecast.targets, options.var, options.level)
        name = f"{pictures.file_title(field)}.{options.animation_format}"
        written.append(pictures.draw_animation(field, truth, out_dir / name))
    return written
