"""Settings of what a run learns from. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from weatherlib import config, task

__all__ = ["DataConfig", "Period", "require_positive"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Period(config.Mapping):
    """A part of a time axis.

    Attributes:
      start: First time inside, such as "2015-01-01"; None begins with the data.
      end: First time outside; None ends with the data.
    """

    start: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        bounds = [_time(name, self[name]) for name in ("start", "end")]
        if None not in bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"start {self.start} is not before end {self.end}")

    def overlaps(self, other: Period) -> bool:
        """Returns whether the two have a time in common."""
        return _before(self.start, other.end) and _before(other.start, self.end)

    def __str__(self) -> str:
        return f"{self.start or 'the beginning'} to {self.end or 'the end'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(config.Mapping):
    """What is learnt from.

    Attributes:
      path: File, store or address, as `weatherlib.data.open_dataset` takes it.
      task: Name of a published task, such as TASK_13, or its fields.
      train: Times that are trained on.
      validation: Times that are validated on; None validates on nothing.
      test: Times kept for a judgement later. Only compared with the other two.
      statistics: Folder of the statistics; None computes those of `train`.
      time_step: Length of a step, such as "12h"; None takes that of the data.
      in_memory: Whether all values are read first; None decides by size.
      nan_allowed: Variables that may have missing values.
      skip_corrupt: Whether samples that cannot be read are replaced by others. They
        are named and counted.
      threads: Threads that read batches.
      prefetch: Batches that wait for the device.
    """

    path: str
    task: str | dict[str, Any]
    train: Period = dataclasses.field(default_factory=Period)
    validation: Period | None = None
    test: Period | None = None
    statistics: pathlib.Path | None = None
    time_step: str | None = None
    in_memory: bool | None = None
    nan_allowed: tuple[str, ...] = ("sea_surface_temperature",)
    skip_corrupt: bool = False
    threads: int = 2
    prefetch: int = 4

    def __post_init__(self) -> None:
        require_positive(self, "threads", "prefetch")
        self.task_config()

    def task_config(self) -> task.TaskConfig:
        """Returns the task as an object.

        Raises:
          ValueError: There is no task of that name, or a field is wrong.
        """
        if not isinstance(self.task, str):
            return config.from_dict(task.TaskConfig, self.task)
        known = {
            name: value
            for name, value in vars(task).items()
            if isinstance(value, task.TaskConfig)
        }
        if self.task not in known:
            hint = config.closest_hint(self.task, known)
            raise ValueError(f"task: there is no task {self.task!r}{hint}")
        return known[self.task]


def require_positive(settings: Any, *names: str) -> None:
    """Raises a ValueError where a field is not positive."""
    for name in names:
        if not settings[name] > 0:
            raise ValueError(f"{name} must be positive, found {settings[name]!r}")


def _time(name: str, value: str | None) -> Any:
    """Returns a time as a timestamp."""
    if value is None:
        return None
    import pandas as pd

    try:
        return pd.Timestamp(value)
    except ValueError as error:
        raise ValueError(
            f"{name}: expected a time such as 2015-01-01 or 2015-01-01T06, found "
            f"{value!r}"
        ) from error


def _before(first: str | None, second: str | None) -> bool:
    if first is None or second is None:
        return True
    return _time("start", first) < _time("end", second)
