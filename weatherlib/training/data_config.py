"""Settings of what a run learns from. Nothing here imports JAX or xarray."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

from weatherlib import config, task

__all__ = ["DataConfig", "Period", "SourceConfig", "require_positive"]


_FILE_NAME = re.compile(r"[\w.-]*\w[\w.-]*")


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
class SourceConfig(config.Mapping):
    """Further data that batches come from.

    Attributes:
      path: File, store, address or folder of shards, as for `DataConfig`.
      name: In file names and messages; None takes the last part of the path.
      weight: How many batches come from here, beside `DataConfig.weight`.
      task: Name of a published task, or its fields; None takes that of `DataConfig`.
      train: Times that are trained on; None takes those of `DataConfig`.
      statistics: Folder of the statistics, or "shared" for those of `DataConfig`; None
        computes those of `train`.
      time_step: Length of a step; None takes that of the data.
      in_memory: Whether all values are read first; None decides by size.
      nan_allowed: Variables that may have missing values; None takes those of
        `DataConfig`.
    """

    path: str
    name: str | None = None
    weight: float = 1.0
    task: str | dict[str, Any] | None = None
    train: Period | None = None
    statistics: str | None = None
    time_step: str | None = None
    in_memory: bool | None = None
    nan_allowed: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_positive(self, "weight")
        if self.task is not None:
            _task_config(self.task)
        if not _FILE_NAME.fullmatch(self.label):
            raise ValueError(
                f"name: {self.label!r} cannot name a folder; give a name of letters, "
                "digits, dots, dashes and underscores"
            )

    @property
    def label(self) -> str:
        """The name, or else the last part of the path."""
        if self.name is not None:
            return self.name
        return pathlib.PurePath(self.path.rstrip("/")).stem


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
      weight: How many batches come from `path` where there are `sources`.
      sources: Further data. Every batch comes from one of them, in turn as the weights
        say. Validation, the task of the checkpoint and its statistics are those of
        `path`.
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
    weight: float = 1.0
    sources: tuple[SourceConfig, ...] = ()

    def __post_init__(self) -> None:
        require_positive(self, "threads", "prefetch", "weight")
        self.task_config()
        labels = [source.label for source in self.sources]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ValueError(
                f"sources: {', '.join(repeated)} stands for several; give each a name"
            )

    def task_config(self) -> task.TaskConfig:
        """Returns the task as an object.

        Raises:
          ValueError: There is no task of that name, or a field is wrong.
        """
        return _task_config(self.task)

    def of_source(self, source: SourceConfig) -> DataConfig:
        """Returns the settings of a source in the form of those of one data set."""
        own = {
            name: source[name]
            for name in ("task", "train", "nan_allowed")
            if source[name] is not None
        }
        folder = None
        if source.statistics not in (None, "shared"):
            folder = pathlib.Path(str(source.statistics))
        return self.replace(
            path=source.path,
            statistics=folder,
            time_step=source.time_step,
            in_memory=source.in_memory,
            weight=source.weight,
            validation=None,
            test=None,
            sources=(),
            **own,
        )


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


def _task_config(value: str | dict[str, Any]) -> task.TaskConfig:
    if not isinstance(value, str):
        return config.from_dict(task.TaskConfig, value)
    known = {
        name: entry
        for name, entry in vars(task).items()
        if isinstance(entry, task.TaskConfig)
    }
    if value not in known:
        hint = config.closest_hint(value, known)
        raise ValueError(f"task: there is no task {value!r}{hint}")
    return known[value]
