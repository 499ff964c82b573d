"""What models of several kinds are trained on and judged by, alike."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pandas as pd
import xarray

from weatherlib import config, data, training
from weatherlib.data_utils import times

__all__ = ["Plan", "Request", "make_plan"]

_VARIABLES = (
    "geopotential", "temperature", "2m_temperature", "10m_u_component_of_wind",
    "mean_sea_level_pressure",
)  # fmt: skip
_LEVELS = (500, 850)
_DAY = pd.Timedelta("1D")
_STAMP = "%Y-%m-%dT%H:%M"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request(config.Mapping):
    """What is compared on what.

    Attributes:
      data: Any source that `data.open_dataset` takes.
      budget: Updates of each model, as "1000", or time without compiling, as "5min".
      variables: To predict; empty for the usual ones that the data have.
      levels: Of these, hPa; empty for 500 and 850, or all there are.
      inputs: Further variables that models read.
      held_out: First time to score; None for the last fifth of the data.
      starts: Most starts to score.
      input_length: Frames that models read.
      output_length: Frames that models of several predict.
      frames: Frames of a scored forecast.
      batch_size: Samples of an update.
      as_published: Whether models of several frames see zeros beyond the grid and
        predict states, and all weights begin as published. Otherwise they see how the
        globe, or the edge of a region, goes on, and predict changes, and the Weather
        Transformer begins so that it learns soon.
      keep_climatology: Whether waves of year and day are left in the data.
      changes: Settings of models, as "convlstm.hidden_channels=32".
      seed: Of weights and batches.

    Raises:
      ValueError: A number is out of range, the budget is none, or a change is no
        setting.
    """

    data: str
    budget: str = "1000"
    variables: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    inputs: tuple[str, ...] = ()
    held_out: str | None = None
    starts: int = 30
    input_length: int = 12
    output_length: int = 4
    frames: int = 4
    batch_size: int = 8
    as_published: bool = False
    keep_climatology: bool = False
    changes: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("starts", "input_length", "output_length", "frames", "batch_size"):
            if self[name] < 1:
                raise ValueError(f"{name} must be at least 1, found {self[name]}")
        for change in self.changes:
            owner, equals, _ = change.partition("=")
            if not equals or owner.count(".") != 1 or owner.split(".").count(""):
                raise ValueError(f"{change}: a change is written MODEL.KEY=VALUE")
        if self.updates is None and not self.seconds > 0:
            raise ValueError(f"budget must be positive, found {self.budget}")
        if self.held_out is not None:
            training.Period(start=self.held_out)

    @property
    def updates(self) -> int | None:
        """Updates of each model; None where the budget is a time."""
        return max(int(self.budget), 1) if self.budget.isdigit() else None

    @property
    def seconds(self) -> float:
        """Seconds of training each model."""
        return times.as_timedelta(self.budget).total_seconds()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(config.Mapping):
    """What all models are trained on and judged by.

    Attributes:
      task: Fields of the task.
      waves: Of the climatology that is taken away; None for none.
      train_end: First time that is not trained on.
      starts: Scored starts, as `weatherlib predict --init` takes them.
      period: What references are fitted to.
    """

    task: dict[str, Any]
    waves: dict[str, int] | None
    train_end: str
    starts: str
    period: tuple[str, str]


def make_plan(request: Request) -> Plan:
    """Returns what follows from data and request.

    Raises:
      FileNotFoundError: There are no such data.
      OSError: They cannot be read.
      ValueError: They do not go together.
    """
    dataset = data.open_dataset(request.data)
    chosen, levels = _variables(dataset, request)
    held = dataset["datetime" if "datetime" in dataset.coords else "time"]
    dates = pd.DatetimeIndex(held.values.ravel())
    begin, end = (cast(pd.Timestamp, dates[place]) for place in (0, -1))
    step = cast(pd.Timedelta, pd.Timedelta(times.infer_time_step(dataset["time"])))
    reach = request.frames * step
    first = cast(pd.Timestamp, dates[len(dates) - len(dates) // 5])
    if request.held_out is not None:
        first = cast(pd.Timestamp, pd.Timestamp(request.held_out))
    last = end - reach
    if not begin + request.input_length * step < first <= last:
        raise ValueError(
            f"{request.data}: holds {begin} to {end}, too little to train "
            f"before {first} and to forecast {reach} after it; move --held-out"
        )
    stride = max(1, -(-(int((last - first) / step) + 1) // request.starts))
    # Starts at all times of the day, not always at the same.
    stride += step < _DAY and stride > 1 and stride % 2 == 0
    waves = {} if request.keep_climatology else _waves(first - begin, step)
    clock = [
        f"{name}_progress_{wave}"
        for name, count in zip(("year", "day"), waves.values())
        if count
        for wave in ("sin", "cos")
    ]
    return Plan(
        task={
            "input_variables": [*chosen, *request.inputs, *clock],
            "target_variables": list(chosen),
            "forcing_variables": clock,
            "pressure_levels": list(levels),
            "input_duration": f"{request.input_length * _minutes(step):g}min",
        },
        waves=waves if clock else None,
        train_end=first.strftime(_STAMP),
        starts=f"{first.strftime(_STAMP)}:{last.strftime(_STAMP)}:"
        f"{stride * _minutes(step):g}min",
        period=(begin.strftime(_STAMP), (first - step).strftime(_STAMP)),
    )


def _variables(
    dataset: xarray.Dataset, request: Request
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns what is predicted, and on which levels.

    Raises:
      ValueError: The data lack something.
    """
    moving = [str(n) for n, array in dataset.items() if "time" in array.dims]
    chosen = request.variables or tuple(n for n in _VARIABLES if n in moving)
    read = (*chosen, *request.inputs)
    missing = [name for name in read if name not in dataset]
    if missing or not chosen:
        lacking = ", ".join(missing or _VARIABLES)
        raise ValueError(
            f"{request.data}: has no {lacking}; there is "
            f"{', '.join(map(str, dataset))} for --variables and --inputs"
        )
    if not any("level" in dataset[name].dims for name in read):
        return chosen, ()
    there = tuple(int(level) for level in dataset["level"].values)
    usual = tuple(level for level in _LEVELS if level in there)
    return chosen, request.levels or usual or there


def _waves(length: pd.Timedelta, step: pd.Timedelta) -> dict[str, int]:
    """Returns how many waves of year and day the climatology of a series has."""
    # Waves of a year need years to tell them from the weather.
    return {"years": 3 if length > 730 * _DAY else 0, "days": 2 if step < _DAY else 0}


def _minutes(length: pd.Timedelta) -> float:
    return length.total_seconds() / 60
