"""What a forecast needs of model and weather, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray

from weatherlib import data, data_utils, predictor_base
from weatherlib.cli import families, models

__all__ = [
    "Setup",
    "forcings_of",
    "one_step",
    "prepare",
    "prepare_start",
    "require_fit",
    "require_steps",
    "step_from",
]

_CHECKED_WHOLE = 2**31
_CHECKED_FRAMES = 8
_MOST_STEPS = 200_000
# Dates in nanoseconds end in 2262.
_LONGEST = pd.Timedelta(days=150 * 365)


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
    require_steps(steps)
    require_fit(dataset, model, statistics, truth=truth)
    time_step = data_utils.infer_time_step(dataset["time"])
    require_steps(steps, time_step)
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
    require_steps(steps, states.time_step)
    state = states.state(start)
    task, time_step = model.task_config, states.time_step
    try:
        require_fit(state, model, statistics, truth=False, time_step=time_step)
    except ValueError as error:
        stamp = np.datetime_as_string(np.datetime64(start, "m"))
        raise ValueError(f"start {stamp}: {error}") from error
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


def require_steps(steps: int, time_step: pd.Timedelta | None = None) -> None:
    """Checks that a forecast has a length that can be made.

    Args:
      steps: Frames to forecast.
      time_step: Time between them, where it is known.

    Raises:
      ValueError: There is no step, or the forecast would be absurdly long.
    """
    if steps < 1:
        raise ValueError(f"steps: a forecast has at least 1 step, found {steps}")
    if steps > _MOST_STEPS:
        raise ValueError(
            f"steps: {steps} are more than the {_MOST_STEPS} that a forecast may have"
        )
    if time_step is not None and steps > _LONGEST / time_step:
        years = _LONGEST.days // 365
        raise ValueError(
            f"steps: {steps} of {time_step} are more than the {years} years that a "
            "forecast may reach ahead"
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


def one_step(
    dataset: xarray.Dataset,
    model: models.Model,
    time_step: data_utils.TimedeltaLike | None = None,
) -> tuple[xarray.Dataset, xarray.Dataset, xarray.Dataset]:
    """Returns inputs, template and forcings of one step from the end of data.

    A single frame needs the time step of the model.

    Raises:
      ValueError: They lack something.
    """
    task, steps = model.task_config, model.frames_per_step
    crop = _crop_of(model, dataset, 1)
    return (
        data_utils.split_initial(dataset, task, time_step=time_step).compute(),
        crop(data_utils.targets_template(dataset, task, steps, time_step)),
        forcings_of(dataset, dataset, model, steps, 0, time_step).compute(),
    )


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


def require_fit(
    dataset: xarray.Dataset,
    model: models.Model,
    statistics: models.Statistics,
    *,
    truth: bool,
    time_step: pd.Timedelta | None = None,
) -> None:
    """Checks that data, model and statistics go together.

    Of data too large to be read twice only the frames at the end are looked at. The
    time step is that of the model where none is given; a single frame needs one.

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
        time_step=time_step or model.time_step,
    )
    check = families.FAMILIES[model.family]().check_data
    if check is not None:
        check(model.model_config, model.task_config, statistics, dataset)


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
