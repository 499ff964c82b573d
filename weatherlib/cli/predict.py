"""Make forecasts: a file, maps and scores, or a set of many starts and members.

Without any argument: ten days with the bundled model from the bundled weather, no
network needed. With a checkpoint and weather of your own, name both, and the folder of
the model's three statistics files where it is not `stats/` beside the checkpoint.

The last frames of the dataset serve as truth, as many as there are steps; more steps
than that go on beyond the data. Two frames are enough for a forecast without truth.
With --init the forecast starts at a date, and of the data only what it needs is read.

Several starts, --init START:END:STEP, or --members make a set: one file with the
layout of WeatherBench 2, which `weatherlib evaluate` reads, without pictures.

Several devices share a forecast or a set with --sharding. Several processes, as SLURM
starts them or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, do so
when all are given the same command; the first one writes.

An interrupted forecast stays readable as NAME.partial; the same command continues it.
"""

from __future__ import annotations

import contextlib
import pathlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from weatherlib.cli import predict_options

if TYPE_CHECKING:
    # These load JAX and xarray, which `--help` can do without.
    from weatherlib.cli import console, forecasting, models, pictures, setups
    from weatherlib.training import distributed

__all__ = ["EXAMPLES", "Options", "make_forecast", "run"]

Options = predict_options.Options

EXAMPLES = (
    "weatherlib predict",
    "weatherlib predict --model graphcast.npz --stats stats --data era5.nc "
    "--steps 40 --output forecast.zarr --var geopotential --level 500 --animate",
    "weatherlib predict --model graphcast.npz --data era5.zarr --init 2026-01-15T00 "
    "--steps 40 --output forecast.nc",
    "weatherlib predict --model graphcast.npz --data era5.zarr "
    "--init 2026-01-15T00:2026-01-20T00:12h --steps 40 --output hindcasts.zarr",
    "weatherlib predict --members 8 --perturb bred --steps 20 --output ensemble.zarr",
    "weatherlib predict --model graphcast.npz --data era5.zarr --init latest "
    "--steps 40 --output forecast.zarr --sharding space=8",
)


def run(options: Options) -> None:
    """Makes the forecast that the options describe and prints what it did.

    Raises:
      ValueError: The model, the data, the statistics or an option do not go together.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged or cannot be written.
    """
    from weatherlib.cli import console, hindcasting, pictures, reporting
    from weatherlib.training import distributed

    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(distributed.start(report=reporting.report))
        if not processes.is_main:
            stack.enter_context(warnings.catch_warnings(action="ignore"))
        if options.is_set:
            hindcasting.make_set(options, processes)
            return
        out = console.Console(quiet=not processes.is_main)
        forecast = _compute(options, out, processes)
        if forecast is not None:
            draw = pictures.save_comparison(options.var, options.level)
            _show(options, out, forecast, draw)


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
    from weatherlib.cli import console
    from weatherlib.training import distributed

    out = console.Console()
    forecast = _compute(options, out, distributed.Run())
    assert forecast is not None
    _show(options, out, forecast, draw)
    return forecast


def _compute(
    options: Options, out: console.Console, processes: distributed.Run
) -> forecasting.Forecast | None:
    """Returns the forecast, in the process that writes it; the others may go then."""
    from weatherlib import rollout
    from weatherlib.cli import describe, files, forecasting, spreading

    options.require_consistent()
    out_dir = files.writable_folder(options.out_dir)
    output = _output(options, out_dir)
    with out.stage("load"):
        model, statistics, setup = _load(options, out)
    layout = spreading.make(options, model, processes)
    _print_setup(out, options, model, setup, spreading.facts(layout, processes))
    facts = describe.setup_facts(setup)
    spreading.require_same(processes, model.digest, facts, options)
    with out.stage("forecast"):
        model = forecasting.initialise(model, statistics, setup, cache=options.cache)
        forecaster = forecasting.build_forecaster(
            model,
            statistics,
            precision=options.precision,
            cache=options.cache,
            layout=layout,
        )
        guard = rollout.Guard(on_violation=options.on_violation)
        if not processes.is_main:
            with processes.guard():
                forecasting.follow(forecaster, setup, guard=guard)
            processes.shutdown()
            return None
        with processes.guard(), out.progress("Forecast", setup.steps) as progress:
            forecast = forecasting.run(
                forecaster,
                setup,
                model,
                output=output,
                overwrite=options.overwrite or options.writes_unasked,
                guard=guard,
                progress=progress,
                derive=options.derive,
            )
        processes.shutdown()
    out.split_stage("forecast", "compile", forecast.compile_seconds)
    return forecast


def _show(
    options: Options,
    out: console.Console,
    forecast: forecasting.Forecast,
    draw: pictures.StepDrawer,
) -> None:
    """Scores, draws and prints a forecast."""
    from weatherlib.cli import files

    out_dir = files.writable_folder(options.out_dir)
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


def _output(options: Options, out_dir: pathlib.Path) -> pathlib.Path | None:
    """Returns the file to write, its folder checked."""
    from weatherlib.cli import files

    if options.output is None:
        return out_dir / "forecast.nc" if options.writes_unasked else None
    return files.forecast_path(options.output)


def _load(
    options: Options, out: console.Console
) -> tuple[models.Model, models.Statistics, setups.Setup]:
    """Loads and checks model, statistics and data."""
    from weatherlib import data
    from weatherlib.cli import files, pictures, setups, sources

    model, statistics = sources.load_model(options)
    steps = sources.steps(options, model, out.print)
    with sources.conform_noted():
        if options.init is None and options.lead is None:
            dataset = files.open_weather(options.dataset)
            if options.static is not None:
                raise ValueError(
                    "--static: belongs to a forecast from a date; add --init, such as "
                    "--init latest"
                )
            sources.require_units(options, dataset, model)
            changes = files.conversions(dataset)
            if options.conform:
                dataset, more = data.conform(dataset, model.task_config)
                changes += more
            for change in changes:
                out.print(f"Data: {change}")
            setup = setups.prepare(
                model, statistics, dataset, steps=steps, truth=options.truth
            )
        else:
            states = sources.open_states(options, model)
            (start,) = sources.resolve_starts(options, states, steps)
            setup = setups.prepare_start(model, statistics, states, start, steps=steps)
            for change in states.changes:
                out.print(f"Data: {change}")
    # A picture that cannot be drawn should not be found out after the forecast.
    template = data.add_derived(setup.template, options.derive)
    pictures.select(template, options.var, options.level)
    return model, statistics, setup


def _print_setup(
    out: console.Console,
    options: Options,
    model: models.Model,
    setup: setups.Setup,
    layout: list[tuple[str, str]],
) -> None:
    """Prints the model, the data and what will be forecast."""
    from weatherlib.cli import describe, file_names

    out.heading("Model")
    out.facts(describe.model_facts(model, variables=False))
    out.heading("Data")
    source = options.dataset or "the bundled sample"
    out.facts([("file", source), *describe.setup_facts(setup), *layout])
    for what, said, notes in (
        ("data", source, file_names.data_notes(source, setup.start, model)),
        ("checkpoint", model.path, file_names.model_notes(model)),
    ):
        if said is not None and file_names.describe(said):
            out.print(f"File parts, {what}: {file_names.describe(said)}")
        for note in notes:
            out.print(f"  note: the name says {note}")
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
