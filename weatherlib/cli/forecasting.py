"""From files to a forecast: model and weather are loaded, checked and run.

`setups.prepare` does all the checks before anything is computed, so that a mistake
costs seconds. `run` makes the forecast and leaves nothing under the final name unless
it is complete.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import pandas as pd
import xarray

import weatherlib
from weatherlib import data, predictor_base, rollout
from weatherlib.cli import families, files, models, parameters, setups
from weatherlib.training import sharding

__all__ = [
    "DEFAULT_STEPS",
    "Forecast",
    "build_forecaster",
    "follow",
    "initialise",
    "load_forecaster",
    "origin_attrs",
    "run",
]

DEFAULT_STEPS = 40  # Ten days at six hours, of the bundled sample.

_MOST_MEMORY = 0.5


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


def build_forecaster(
    model: models.Model,
    statistics: models.Statistics,
    *,
    precision: str = "auto",
    steps_per_chunk: int = 1,
    members_per_batch: int = 1,
    cache: str | os.PathLike[str] | None = None,
    layout: sharding.Layout | None = None,
) -> rollout.Forecaster:
    """Returns the compiled-once engine for a model.

    Args:
      model: With parameters; see `initialise` for a random one.
      statistics: What it normalises with.
      precision: One of `models.PRECISIONS`.
      steps_per_chunk: Steps between two transfers from the device.
      members_per_batch: Members computed at the same time.
      cache: Folder that keeps compiled programs and graphs for later processes.
      layout: How the work is spread over several devices.

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
        sharding=layout,
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
    model: models.Model,
    statistics: models.Statistics,
    setup: setups.Setup,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> models.Model:
    """Returns the model with parameters drawn from key 0 where it has none yet.

    Those that it has are compared with what its configuration needs.

    Args:
      model: As loaded.
      statistics: What it normalises with.
      setup: What the forecast starts from.
      cache: As for `build_forecaster`.

    Raises:
      ValueError: A parameter is missing, spare or of another shape.
    """
    frames = slice(model.frames_per_step)
    ahead = (part.isel(time=frames) for part in (setup.template, setup.forcings))
    one_step = (setup.inputs, *(part.compute() for part in ahead))
    if model.params is not None:
        parameters.require_parameters(model, *one_step, graph_cache=cache)
        return model
    make_predictor = _predictor_maker(model, statistics, "float32", graph_cache=cache)

    @hk.transform_with_state
    def forward(inputs: Any, template: Any, forcings: Any) -> xarray.Dataset:
        return make_predictor()(inputs, targets_template=template, forcings=forcings)

    params, state = jax.jit(forward.init)(jax.random.PRNGKey(0), *one_step)
    return dataclasses.replace(model, params=params, state=state)


def run(
    forecaster: rollout.Forecaster,
    setup: setups.Setup,
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
        summary = _run(forecaster, setup, writer, guard, progress)
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


def follow(
    forecaster: rollout.Forecaster, setup: setups.Setup, *, guard: rollout.Guard
) -> None:
    """Makes a forecast for another process, the first, which keeps it.

    Args:
      forecaster: On the devices of both.
      setup: The same as there.
      guard: The same as there.
    """
    _run(forecaster, setup, None, guard, None)


def _run(
    forecaster: rollout.Forecaster,
    setup: setups.Setup,
    writer: rollout.Writer | None,
    guard: rollout.Guard | None,
    progress: rollout.Progress | None,
) -> rollout.RunSummary:
    frames = forecaster.frames_per_step
    return forecaster.run(
        setup.start,
        writer,
        setup.forcings,
        steps=setup.steps // frames,
        guard=guard or rollout.Guard(),
        progress=_of_frames(progress, frames),
    )


def _of_frames(
    progress: rollout.Progress | None, frames: int
) -> rollout.Progress | None:
    """Returns what steps of several frames are told to, and frames are counted by."""
    if progress is None or frames == 1:
        return progress
    return lambda step, total, spent: progress(step * frames, total * frames, spent)


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
        "license": model.license or families.NO_LICENSE,
        "checkpoint_sha256": model.digest,
    }
    if model.path is not None:
        found["checkpoint"] = model.path.name
    return {name: value for name, value in found.items() if value}
