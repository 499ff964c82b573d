"""From files to a forecast: model and weather are loaded, checked and run.

`prepare` does all the checks before anything is computed, so that a mistake costs
seconds. `run` makes the forecast and leaves nothing under the final name unless it is
complete.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import numpy as np
import pandas as pd
import xarray

import weatherlib
from weatherlib import data, data_utils, predictor_base, rollout
from weatherlib.cli import families, files, models

__all__ = [
    "DEFAULT_STEPS",
    "Forecast",
    "Setup",
    "build_forecaster",
    "forcings_of",
    "initialise",
    "load_forecaster",
    "origin_attrs",
    "prepare",
    "prepare_start",
    "require_fit",
    "run",
    "step_from",
]

DEFAULT_STEPS = 40  # Ten days at six hours, of the bundled sample.

_CHECKED_WHOLE = 2**31
_CHECKED_FRAMES = 8
_MOST_MEMORY = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """All that one forecast needs, checked.

    Attributes:
      start: The last frames before the forecast, with their dates.
      inputs: What the model reads of them, `time` ending at zero.
      template: Shape of the forecast, its values NaN; the part of the grid that the
        model predicts, as `targets` and `initial`.
      forcings: What is known in advance at all its times.
      targets: Truth at its first times; None where there is none.
      time_step: Time between frames.
      initial: The last frame before the forecast.
    """

    start: xarray.Dataset
    inputs: xarray.Dataset
    template: xarray.Dataset
    forcings: xarray.Dataset
    targets: xarray.Dataset | None
    time_step: pd.Timedelta
    initial: xarray.Dataset

    @property
    def steps(self) -> int:
        """Number of frames to forecast."""
        return self.template.sizes["time"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """A finished forecast.

    Attributes:
      predictions: The forecast; `time` is the lead time. Read when asked for where it
        lies in a file.
      targets: Truth at its first times; None where there is none.
      initial: The last frame before it.
      time_step: Time between frames.
      compile_seconds: Time spent on tracing and compiling.
      path: The file it was written to, None where it is only in memory.
    """

    predictions: xarray.Dataset
    targets: xarray.Dataset | None
    initial: xarray.Dataset
    time_step: pd.Timedelta
    compile_seconds: float
    path: pathlib.Path | None


def prepare(
    model: models.Model,
    statistics: models.Statistics,
    dataset: xarray.Dataset,
    *,
    steps: int = 1,
    truth: bool = False,
) -> Setup:
    """Returns what a forecast needs, anchored to the end of the data.

    Of the frames that follow the first inputs, as many as there are steps become truth,
    so the forecast starts as late as its truth allows; steps beyond that have none.

    Args:
      model: What makes the forecast.
      statistics: What it normalises with.
      dataset: Weather as `data.open_dataset` returns it.
      steps: Frames to forecast.
      truth: Whether there has to be a frame to compare with.

    Raises:
      ValueError: The data do not fit the model; the message says all that is wrong.
    """
    task = model.task_config
    if steps < 1:
        raise ValueError(f"steps: a forecast has at least 1 step, found {steps}")
    require_fit(dataset, model, statistics, truth=truth)
    time_step = data_utils.infer_time_step(dataset["time"])
    reads = round(pd.Timedelta(task.input_duration) / time_step)
    frames = dataset.sizes["time"]
    known = min(steps, frames - reads)
    before = dataset.isel(time=slice(0, frames - known))
    crop = _crop_of(model, dataset, steps)
    return Setup(
        start=before.isel(time=slice(-reads, None)),
        inputs=data_utils.split_initial(before, task).compute(),
        template=crop(data_utils.targets_template(before, task, steps)),
        forcings=forcings_of(before, dataset, model, steps, known),
        targets=crop(_targets(dataset, model, known, time_step)) if known else None,
        time_step=time_step,
        initial=crop(before.isel(time=-1, drop=True)),
    )


def prepare_start(
    model: models.Model,
    statistics: models.Statistics,
    states: data.InitialStates,
    start: np.datetime64,
    *,
    steps: int = 1,
) -> Setup:
    """Returns what a forecast from a date needs.

    Truth are the frames after it, as far as the data have them without a gap.

    Args:
      model: What makes the forecast.
      statistics: What it normalises with.
      states: The data.
      start: Time of the last frame that the model reads, UTC.
      steps: Frames to forecast.

    Raises:
      ValueError: The data lack the date, or do not fit the model; the message says all
        that is wrong.
    """
    if steps < 1:
        raise ValueError(f"steps: a forecast has at least 1 step, found {steps}")
    state = states.state(start)
    task, time_step = model.task_config, states.time_step
    require_fit(state, model, statistics, truth=False, time_step=time_step)
    after = states.following(start, steps)
    known = 0 if after is None else after.sizes["time"]
    inputs = data_utils.split_initial(state, task, time_step=time_step)
    crop = _crop_of(model, state, steps)
    return Setup(
        start=state,
        inputs=inputs.compute(),
        template=crop(data_utils.targets_template(state, task, steps, time_step)),
        forcings=forcings_of(
            state, state if after is None else after, model, steps, known, time_step
        ),
        targets=None
        if after is None
        else crop(_targets(after, model, known, time_step)),
        time_step=time_step,
        initial=crop(state.isel(time=-1, drop=True)),
    )


def _crop_of(
    model: models.Model, dataset: xarray.Dataset, steps: int
) -> Callable[[xarray.Dataset], xarray.Dataset]:
    """Returns what cuts the part that a model predicts out of the whole grid.

    Raises:
      ValueError: The grid does not hold the part, or several steps are wanted of it.
    """
    crop = functools.partial(families.FAMILIES[model.family]().crop, model.model_config)
    if steps > 1 and predictor_base.predicts_part(crop, dataset):
        raise ValueError(
            f"--steps {steps}: {predictor_base.ONE_PART}; give --steps 1, or --lead"
        )
    return crop


def step_from(
    model: models.Model, states: data.InitialStates, start: np.datetime64
) -> tuple[xarray.Dataset, xarray.Dataset]:
    """Returns the inputs at a date, unchecked, and the forcings of one step from it.

    Raises:
      ValueError: The data lack the date or a variable.
    """
    state, time_step = states.state(start), states.time_step
    after = states.following(start, 1)
    inputs = data_utils.split_initial(state, model.task_config, time_step=time_step)
    held, known = (state, 0) if after is None else (after, 1)
    forcings = forcings_of(state, held, model, 1, known, time_step)
    return inputs.compute(), forcings.compute()


def build_forecaster(
    model: models.Model,
    statistics: models.Statistics,
    *,
    precision: str = "auto",
    steps_per_chunk: int = 1,
    members_per_batch: int = 1,
    cache: str | os.PathLike[str] | None = None,
) -> rollout.Forecaster:
    """Returns the compiled-once engine for a model.

    Args:
      model: With parameters; see `initialise` for a random one.
      statistics: What it normalises with.
      precision: One of `models.PRECISIONS`.
      steps_per_chunk: Steps between two transfers from the device.
      members_per_batch: Members computed at the same time.
      cache: Folder that keeps compiled programs and graphs for later processes.

    Raises:
      ValueError: `precision` is not known.
    """
    resolved = models.resolve_precision(precision)
    return rollout.Forecaster(
        _predictor_maker(model, statistics, resolved, graph_cache=cache),
        model.params,
        model.state,
        task=model.task_config,
        num_steps_per_chunk=steps_per_chunk,
        members_per_batch=members_per_batch,
        compilation_cache=cache,
    )


def load_forecaster(
    checkpoint: str | os.PathLike[str] | None = None,
    stats: str | os.PathLike[str] | None = None,
    *,
    precision: str = "auto",
    cache: str | os.PathLike[str] | None = None,
) -> rollout.Forecaster:
    """Returns a model ready to forecast, compiled when it is first used.

    Args:
      checkpoint: Checkpoint file, or a folder with exactly one. Default: the bundled
        model.
      stats: Folder of its statistics. Default: `stats` beside the checkpoint.
      precision: One of `models.PRECISIONS`.
      cache: Folder that keeps compiled programs and graphs for later processes.

    Raises:
      FileNotFoundError: The checkpoint or its statistics are missing.
      OSError: A file is damaged.
      ValueError: The file is no checkpoint of a known family, or the statistics belong
        to another model.
    """
    model = models.load_model(checkpoint)
    statistics = models.find_statistics(model, stats)
    return build_forecaster(model, statistics, precision=precision, cache=cache)


def initialise(
    model: models.Model, statistics: models.Statistics, setup: Setup
) -> models.Model:
    """Returns the model with parameters drawn from key 0 where it has none yet."""
    if model.params is not None:
        return model
    make_predictor = _predictor_maker(model, statistics, "float32")

    @hk.transform_with_state
    def forward(inputs: Any, template: Any, forcings: Any) -> xarray.Dataset:
        return make_predictor()(inputs, targets_template=template, forcings=forcings)

    one_step = [d.isel(time=[0]).compute() for d in (setup.template, setup.forcings)]
    params, state = jax.jit(forward.init)(
        jax.random.PRNGKey(0), setup.inputs, *one_step
    )
    return dataclasses.replace(model, params=params, state=state)


def run(
    forecaster: rollout.Forecaster,
    setup: Setup,
    model: models.Model,
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    guard: rollout.Guard | None = None,
    progress: rollout.Progress | None = None,
    derive: Sequence[str] = (),
) -> Forecast:
    """Returns the forecast, written to a file where one is named.

    An interrupted forecast stays readable as `NAME.partial`, and the same call goes on
    from there.

    Args:
      forecaster: From `build_forecaster`.
      setup: From `prepare`.
      model: Says what the file tells about its origin.
      output: Ends in `.nc` or `.zarr`.
      overwrite: Whether an older file of that name may be replaced.
      guard: What to do about fields that are no weather. Default: a warning.
      progress: Is told how many steps are done, of how many, and in how long.
      derive: Quantities to add, as `data.add_derived` names them.

    Raises:
      ValueError: The forecast does not fit into memory and no file is named.
      OSError: The file cannot be written.
    """
    if output is None:
        _check_memory(setup.template)
        writer = data.MemoryWriter()
    else:
        writer = data.open_writer(
            output, attrs=origin_attrs(model), overwrite=overwrite, derive=derive
        )
    with files.partial_noted(writer, output, setup.steps), writer:
        summary = forecaster.run(
            setup.start,
            writer,
            setup.forcings,
            steps=setup.steps,
            guard=guard or rollout.Guard(),
            progress=progress,
        )
    if isinstance(writer, data.MemoryWriter):
        predictions = writer.dataset.assign_attrs(origin_attrs(model))
        predictions = data.add_derived(predictions, derive)
    else:
        predictions = data.open_dataset(writer.path)

    def beside(known: xarray.Dataset) -> xarray.Dataset:
        return data.add_derived(_counted_alike(known, predictions), derive)

    return Forecast(
        predictions=predictions,
        targets=setup.targets and beside(setup.targets),
        initial=beside(setup.initial),
        time_step=setup.time_step,
        compile_seconds=summary.compile_seconds,
        path=None if output is None else pathlib.Path(output),
    )


def _counted_alike(
    dataset: xarray.Dataset, predictions: xarray.Dataset
) -> xarray.Dataset:
    """Returns data with the longitudes of predictions at the same points.

    A region across Greenwich comes back from a file counted from west to east.
    """
    own, wanted = dataset["lon"].values, predictions["lon"].values
    if own.shape == wanted.shape and not ((own - wanted) % 360).any():
        return dataset.assign_coords(lon=predictions["lon"].variable)
    return dataset


def _predictor_maker(
    model: models.Model,
    statistics: models.Statistics,
    precision: str,
    *,
    graph_cache: str | os.PathLike[str] | None = None,
) -> Callable[[], predictor_base.Predictor]:
    def make_predictor() -> predictor_base.Predictor:
        return models.build_predictor(
            model.model_config,
            model.task_config,
            statistics,
            precision=precision,
            graph_cache=graph_cache,
        )

    return make_predictor


def require_fit(
    dataset: xarray.Dataset,
    model: models.Model,
    statistics: models.Statistics,
    *,
    truth: bool,
    time_step: pd.Timedelta | None = None,
) -> None:
    """Checks that data, model and statistics go together.

    Of data too large to be read twice only the frames at the end are looked at. A
    single frame needs the time step.

    Raises:
      ValueError: They do not; the message lists all that is wrong.
    """
    if dataset.nbytes > _CHECKED_WHOLE and "time" in dataset.dims:
        dataset = dataset.isel(time=slice(-_CHECKED_FRAMES, None))
    data_utils.require(
        dataset,
        model.task_config,
        truth=truth,
        statistics=statistics.by_level,
        resolution=model.model_config.resolution,
        time_step=time_step,
    )


def _targets(
    dataset: xarray.Dataset, model: models.Model, known: int, time_step: pd.Timedelta
) -> xarray.Dataset:
    """Returns the truth at the last `known` frames, `time` as lead time."""
    task = model.task_config
    names = [name for name in task.target_variables if name in dataset]
    targets = dataset[names].isel(time=slice(-known, None))
    if "level" in targets.dims:
        targets = targets.sel(level=list(task.pressure_levels))
    return targets.assign_coords(
        time=pd.timedelta_range(time_step, periods=known, freq=time_step)
    )


def forcings_of(
    before: xarray.Dataset,
    dataset: xarray.Dataset,
    model: models.Model,
    steps: int,
    known: int,
    time_step: pd.Timedelta | None = None,
) -> xarray.Dataset:
    """Returns the forcings of the forecast, from the data where they reach its end."""
    held = [name for name in model.task_config.forcing_variables if name in dataset]
    if known < steps:
        held = [n for n in held if n not in data_utils.COMPUTABLE_FORCINGS]
    return data_utils.forcings(
        before,
        model.task_config,
        steps,
        time_step,
        known=dataset[held] if held else None,
    )


def _check_memory(template: xarray.Dataset) -> None:
    """Checks that a forecast may be kept in memory.

    Raises:
      ValueError: It would take more than half of it.
    """
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if template.nbytes > _MOST_MEMORY * have:
        raise ValueError(
            f"the forecast takes {template.nbytes / 2**30:.0f} GiB, this machine has "
            f"{have / 2**30:.0f} GiB of memory; write it to a file with --output"
        )


def origin_attrs(model: models.Model) -> dict[str, str]:
    """Returns what a forecast file says about its origin."""
    title = families.FAMILIES[model.family]().title
    found = {
        "title": "Weather forecast",
        "source": f"weatherlib {weatherlib.__version__}, {title}",
        "model_description": model.description,
        "license": model.license,
        "checkpoint_sha256": model.digest,
    }
    if model.path is not None:
        found["checkpoint"] = model.path.name
    return {name: value for name, value in found.items() if value}
